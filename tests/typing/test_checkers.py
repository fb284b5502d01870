"""mypy and pyright understand the public interface, as the files in examples/ say."""

import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

import multipy_actors

EXAMPLES = Path(__file__).parent / "examples"
INSTALLED = Path(multipy_actors.__file__).parent
# A package on PYTHONPATH is found by Python, but checkers look into the environment's own folders alone.
ELSEWHERE = [] if str(INSTALLED.parent) in site.getsitepackages() else [str(INSTALLED.parent)]


def test_the_package_tells_checkers_that_it_is_typed():
    assert (INSTALLED / "py.typed").is_file()
    assert (INSTALLED / "_native.pyi").is_file()


def test_mypy_finds_the_errors_in_the_examples_and_no_others(tmp_path):
    pytest.importorskip("mypy")
    settings = tmp_path / "mypy.ini"
    # The library names types of torch and NumPy, which would take a minute to read.
    settings.write_text("[mypy]\nstrict = true\n[mypy-torch.*,numpy.*]\nfollow_imports = skip\n")
    command = [sys.executable, "-m", "mypy", "--config-file", settings, "--cache-dir", tmp_path / "cache"]
    finished = subprocess.run(
        [*command, *sorted(EXAMPLES.glob("*.py"))],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": os.pathsep.join(ELSEWHERE)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_pyright_finds_the_errors_in_the_examples_and_no_others(tmp_path):
    pyright = shutil.which("pyright", path=os.path.dirname(sys.executable)) or shutil.which("pyright")
    pyright = pyright or shutil.which("basedpyright", path=os.path.dirname(sys.executable))
    if pyright is None:
        pytest.skip("neither pyright nor basedpyright is installed")
    # A configuration can only name files below its own folder.
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    settings = tmp_path / "pyrightconfig.json"
    configuration = {
        "include": ["examples"],
        "extraPaths": ELSEWHERE,
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": True,
    }
    settings.write_text(json.dumps(configuration))
    command = [pyright, "--outputjson", "--project", settings, "--pythonpath", sys.executable]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    said = json.loads(finished.stdout)
    assert said["summary"]["filesAnalyzed"] == len(list(EXAMPLES.glob("*.py")))
    complaints = [
        f"{Path(found['file']).name}:{found['range']['start']['line'] + 1}: {found['message']}"
        for found in said["generalDiagnostics"]
    ]
    assert not complaints and finished.returncode == 0, "\n".join(complaints)
