"""The doctor: what it finds installed, what it says of good and bad packages, and how it exits."""

from __future__ import annotations

import os
import platform
import select
import subprocess
import sys
import sysconfig

import pytest

from multipy_actors import __main__ as command_line
from multipy_actors.cli import doctor
from multipy_actors.pool.interpreter import find_libpython

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

MODULE = """
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "%(name)s"};
PyMODINIT_FUNC PyInit_%(name)s(void) { %(body)s return PyModule_Create(&definition); }
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path, of which alone the doctor sees distributions."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    everything = doctor.importlib.metadata.distributions
    monkeypatch.setattr(doctor.importlib.metadata, "distributions", lambda: everything(path=[str(folder)]))
    return folder


@pytest.fixture
def install(site):
    """Return a function that installs a distribution of these files, given as path → text or bytes."""

    def install(name, files, version="1.0"):
        for path, content in files.items():
            target = site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        record = site / f"{name.replace('-', '_')}-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (record / "RECORD").write_text("".join(f"{path},,\n" for path in files))

    return install


@pytest.fixture
def compiled(tmp_path):
    """Return a function that compiles an extension module whose init function first runs `body`."""

    def compile(name, body=""):
        source, target = tmp_path / f"{name}.c", tmp_path / f"{name}.so"
        source.write_text(MODULE % {"name": name, "body": body})
        include = sysconfig.get_path("include")
        command = ["gcc", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
        return target.read_bytes()

    return compile


# What is tried ---------------------------------------------------------------------------------------------


def test_packages_are_named_by_what_holds_their_native_code(install):
    install("Top-Level", {f"top{SUFFIX}": b""})
    install("packaged", {"packaged/__init__.py": "", f"packaged/deep/inner{SUFFIX}": b""})
    install("spaced", {f"space/part{SUFFIX}": b"", "space/other/__init__.py": ""})
    install("by-ctypes", {"by_ctypes/__init__.py": "", "by_ctypes/lib/libx.so": b"no module"})
    found = {candidate.name: (candidate.modules, candidate.extension) for candidate in doctor.candidates()}
    assert found == {
        "by-ctypes": (("by_ctypes",), ""),
        "packaged": (("packaged",), "packaged.deep.inner"),
        "spaced": (("space.part",), "space.part"),
        "Top-Level": (("top",), "top"),
    }


def test_a_plain_library_is_no_extension_module_unless_it_has_an_init_function(install, compiled):
    install("bare", {"libsomething.so": b"no module", "stale-name.so": b"", "empty.so": b""})
    install("true", {"true_module.so": compiled("true_module")})
    assert [(candidate.name, candidate.modules) for candidate in doctor.candidates()] == [
        ("true", ("true_module",))
    ]


def test_pure_packages_are_left_out_unless_asked_for(install):
    install("pure-one", {"pure/__init__.py": "", "pure/sub.py": ""})
    install("one-file", {"one_file.py": ""})
    install("native", {f"native_part{SUFFIX}": b""})
    assert [candidate.name for candidate in doctor.candidates()] == ["native"]
    assert [candidate.modules for candidate in doctor.candidates(["Pure_One"])] == [("pure",)]
    assert [candidate.modules for candidate in doctor.candidates(["one.file"])] == [("one_file",)]


def test_a_package_can_be_asked_for_by_the_name_it_is_imported_by(install):
    install("dist-name", {f"import_name{SUFFIX}": b""})
    assert [candidate.name for candidate in doctor.candidates(["import_name"])] == ["dist-name"]


def test_a_name_that_nothing_has_is_an_error(install):
    install("native", {f"native_part{SUFFIX}": b""})
    with pytest.raises(LookupError, match="not installed: absent"):
        doctor.candidates(["native", "absent"])


# What comes of it ------------------------------------------------------------------------------------------


def diagnose(name, **options):
    (candidate,) = doctor.candidates([name])
    return doctor.diagnose(candidate, **options)


def test_a_good_package_works_and_its_images_are_counted(install, compiled):
    install("pure", {"pure_module.py": ""})
    install("good", {f"good{SUFFIX}": compiled("good")})
    bare, good = diagnose("pure"), diagnose("good")
    assert good == doctor.Outcome(True, "works", bare.images + 1)


def test_native_code_that_the_package_does_not_load_by_itself_is_loaded_too(install, compiled):
    install("lazy", {"lazy/__init__.py": "", f"lazy/inner{SUFFIX}": compiled("inner")})
    install("pure", {"pure_module.py": ""})
    assert diagnose("lazy").images == diagnose("pure").images + 1


def test_an_exception_is_told_in_one_line(install):
    install("bad", {"bad.py": "raise ValueError('one\\ntwo   three')"})
    outcome = diagnose("bad")
    assert not outcome.works
    assert outcome.text == "ValueError: one two three (in an ordinary Python too)"


def test_a_package_that_only_a_private_interpreter_refuses_is_told_as_such(install):
    source = "from multipy_actors import _native\nassert _native.current_worker() is None, 'inside'"
    install("host-only", {"host_only.py": source})
    assert diagnose("host-only").text == "AssertionError: inside"


def test_an_error_that_cannot_travel_is_told_all_the_same(install):
    source = "class Odd(BaseException):\n    def __init__(self, a, b): self.lock = a\nraise Odd(open, 2)"
    install("odd", {"odd_module.py": source})
    assert diagnose("odd").text.startswith("Odd: ")


def test_a_library_that_does_not_load_is_named(install):
    install("broken", {f"broken_module{SUFFIX}": b"\x7fELF, but no more than that"})
    outcome = diagnose("broken")
    assert not outcome.works and f"broken_module{SUFFIX}" in outcome.text


@pytest.mark.parametrize(
    ("body", "name"), [("__builtin_trap();", "SIGILL"), ("int raise(int); raise(9);", "SIGKILL")]
)
def test_a_crash_is_a_row(install, compiled, body, name):
    install("crasher", {f"crasher{SUFFIX}": compiled("crasher", body)})
    outcome = diagnose("crasher")
    assert outcome == doctor.Outcome(False, f"crashed with {name} (in an ordinary Python too)", None)


def test_a_crash_when_the_interpreter_ends_is_a_row(install):
    source = "import atexit, os, signal\natexit.register(lambda: os.kill(os.getpid(), signal.SIGKILL))"
    install("late", {"late_module.py": source})
    outcome = diagnose("late")
    assert not outcome.works and "crashed at the interpreter's end with SIGKILL" in outcome.text


REGISTRY = """
static int taken;
int take(void) { return taken++; }
"""


@pytest.mark.parametrize(
    ("limit", "where"),
    [(1, "in a second interpreter"), (2, "in a second pool"), (4, "in the host afterwards")],
)
def test_what_a_shared_library_keeps_of_one_interpreter_is_found_in_the_next(install, tmp_path, limit, where):
    source, library = tmp_path / "registry.c", tmp_path / "libregistry.so"
    source.write_text(REGISTRY)
    subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    module = (
        f"import ctypes\nif ctypes.CDLL({str(library)!r}).take() >= {limit}: raise KeyError('taken already')"
    )
    install("registered", {"registered.py": module})
    outcome = diagnose("registered")
    assert outcome == doctor.Outcome(False, f"{where}: KeyError: 'taken already'", outcome.images)
    assert outcome.images > 0


def test_a_crash_in_the_host_afterwards_is_told_as_such(install):
    source = (
        "import signal, os\nfrom multipy_actors import _native\n"
        "if _native.current_worker() is None: os.kill(os.getpid(), signal.SIGKILL)"
    )
    install("after", {"after_module.py": source})
    assert diagnose("after").text.startswith("crashed in the host afterwards with SIGKILL")


def test_a_package_that_hangs_is_ended_with_all_its_processes(install, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    source = (
        "import os, subprocess\n"
        f"subprocess.Popen(['sleep', '1000'], stdout=open({str(fifo)!r}, 'w'))\n"
        f"os.write(os.open({str(fifo)!r}, os.O_WRONLY), b'started')\n"
        "os.read(os.pipe()[0], 1)"
    )
    install("hanger", {"hanger.py": source})
    outcome = doctor._diagnose_inside(doctor.candidates(["hanger"])[0], timeout=10)
    assert outcome == doctor.Outcome(False, "did not finish within 10 s", None)
    assert os.read(reader, 100) == b"started"
    assert select.select([reader], [], [], 60)[0] and os.read(reader, 1) == b""  # nobody can write any more
    os.close(reader)


# The command -----------------------------------------------------------------------------------------------


def test_the_command_prints_the_machine_and_a_table(install, compiled, capsys):
    install("good", {f"good{SUFFIX}": compiled("good")}, version="2.5")
    assert command_line.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for expected in (find_libpython(), platform.python_version(), platform.release(), "glibc"):
        assert expected in text
    (row,) = (line for line in text.splitlines() if line.startswith("good"))
    name, version, images, result = row.split()
    assert (name, version, result) == ("good", "2.5", "works") and int(images) > 1
    assert "1 packages, 0 failed" in text


def test_the_command_fails_if_one_package_does(install, compiled, capsys):
    install("good", {f"good{SUFFIX}": compiled("good")})
    install("bad", {f"bad{SUFFIX}": b"not ELF"})
    assert command_line.main(["doctor", "--jobs", "1"]) == 1
    assert "2 packages, 1 failed" in capsys.readouterr().out
    assert command_line.main(["doctor", "--only", "good"]) == 0
    assert "bad" not in capsys.readouterr().out


def test_a_wrong_name_is_told_on_stderr(install, capsys):
    assert command_line.main(["doctor", "--only", "absent"]) == 2
    assert "not installed: absent" in capsys.readouterr().err


def test_without_libpython_it_says_what_to_install(install, monkeypatch, capsys):
    def nowhere():
        raise doctor.InterpreterStartError("install the package libpython9.9")

    monkeypatch.setattr(doctor, "find_libpython", nowhere)
    assert command_line.main(["doctor"]) == 1
    assert "install the package libpython9.9" in capsys.readouterr().out


def test_it_can_be_run_as_a_module(run_script):
    finished = run_script(None, arguments=["-m", "multipy_actors", "doctor", "--only", "msgpack"])
    assert "msgpack" in finished.stdout and "works" in finished.stdout
    assert "doctor" in run_script(None, arguments=["-m", "multipy_actors", "--help"]).stdout
    assert run_script(None, arguments=["-m", "multipy_actors"], status=2).stderr.startswith("usage")
    assert sys.executable in finished.stdout
