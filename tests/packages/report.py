"""Writes the table of docs/packages.md: `report.py JUNIT_XML MARKDOWN`.

The results are those of test_packages.py in pytest's JUnit file; the table stands between two comments.
"""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

from catalogue import PACKAGES, Package

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
COLUMNS = {
    "test_it_works_in_two_interpreters_at_once": "in two interpreters",
    "test_it_works_in_two_interpreters_while_the_host_uses_it_too": "and in the host too",
}


def outcome(case: ElementTree.Element, package: Package) -> str:
    """Return what became of one test, in a word or two."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "**fails**"
    if (skipped := case.find("skipped")) is not None:
        return f"no: {package.limit}" if skipped.get("type") == "pytest.xfail" else "not tried"
    return "works"


def outcomes(junit: Path) -> dict[tuple[str, str], str]:
    """Return (package, test) → outcome for all tests of packages that the file tells of."""
    packages = {package.name: package for package in PACKAGES}
    found = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        match = re.fullmatch(r"(\w+)\[(.+)\]", case.get("name", ""))
        if match and match[1] in COLUMNS and match[2] in packages:
            found[match[2], match[1]] = outcome(case, packages[match[2]])
    return found


def table(results: dict[tuple[str, str], str]) -> str:
    """Return the Markdown table, headed by the machine that it is of."""
    lines = [
        f"CPython {platform.python_version()}, {' '.join(platform.libc_ver())}, {platform.machine()}:",
        "",
        f"| package | version | {' | '.join(COLUMNS.values())} |",
        f"|---|---|{'---|' * len(COLUMNS)}",
    ]
    for package in PACKAGES:
        version = package.versions() if not package.missing() else ""
        name = package.name + (" (in one)" if package.interpreters == 1 else "")
        cells = [results.get((package.name, test), "not tried") for test in COLUMNS]
        lines.append(f"| {name} | {version or '-'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(junit: Path, markdown: Path) -> None:
    """Put the table in the place of the one that stands in the document."""
    text = markdown.read_text()
    head, _, rest = text.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"{markdown} has no {BEGIN} … {END}")
    markdown.write_text(f"{head}{BEGIN}\n{table(outcomes(junit))}\n{END}{tail}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
