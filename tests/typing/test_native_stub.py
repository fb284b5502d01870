"""The committed stub of the extension is what nanobind generates from it.

After a change of native/bindings, write it anew from the installed package:
`python -m nanobind.stubgen -m multipy_actors._native -o multipy_actors/_native.pyi`.
"""

import subprocess
import sys
from pathlib import Path

STUB = Path(__file__).resolve().parents[2] / "multipy_actors" / "_native.pyi"


def test_the_committed_stub_is_what_the_extension_offers(tmp_path: Path) -> None:
    fresh = tmp_path / "_native.pyi"
    command = [
        sys.executable,
        "-m",
        "nanobind.stubgen",
        "-q",
        "-m",
        "multipy_actors._native",
        "-o",
        str(fresh),
    ]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert fresh.read_text() == STUB.read_text()
