"""A short run of `make soak`; and what it does when something is wrong, and when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "soak.py"


def test_everything_at_once_goes_well_for_some_seconds(run_script):
    finished = run_script(None, arguments=[str(PROGRAM)], SECONDS="15", SEED="1", timeout=400)
    assert "all is well" in finished.stdout
    assert finished.stdout.count("at rest") == 10


def test_what_is_wrong_is_told_with_its_seed_and_operation_and_all_stacks(run_script, tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r})\n"
        "import workers; workers.answer = lambda number: (number, 'wrong')\n"
        "import soak; sys.exit(soak.main())\n"
    )
    finished = run_script(
        None, arguments=[str(wrong)], SECONDS="60", SEED="3", KINDS="several_calls", status=1, timeout=400
    )
    assert "FAILED, SEED=3 THREADS=4: operation 1 of thread 4, several_calls" in finished.stdout
    assert "AssertionError: expected" in finished.stdout
    assert "Current thread" in finished.stdout
    assert "of <multipy.Pool 'main' of" in finished.stdout


def test_ctrl_c_ends_it_when_the_operations_under_way_have_ended():
    environment = {**os.environ, "SECONDS": "600", "SEED": "2", "KINDS": "plain_call count_up"}
    command = [sys.executable, str(PROGRAM)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            for line in running.stdout:
                if line.startswith("warm"):
                    break
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=300)
        finally:
            running.kill()
    assert running.returncode == 130, rest
    assert "all was well" in rest
