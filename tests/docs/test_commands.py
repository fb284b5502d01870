"""README has a command that runs the main job and one that passes the tests, and CI runs that."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^apt-get update && apt-get install .*$", README, re.MULTILINE)


def test_each_command_installs_what_it_needs_and_runs_one_target():
    assert [command.rpartition(" && ")[2] for command in COMMANDS] == ["make demo", "make test"]


def test_ci_runs_the_second():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == COMMANDS[1]
