"""What a function does in an interpreter is what it would have done in a worker process.

Hypothesis draws scripts (tests/generated_scripts.py), and tests/both_ways.py runs their calls in a
ProcessPoolExecutor's worker and in an interpreter: values, errors with their remote tracebacks, what is
printed, and what is left in globals, files and the environment must be equal. EXAMPLES=100 in the
environment draws so many scripts, and others each time.

`KNOWN_DIFFERENCES` is the list of what is not; what is drawn keeps clear of it. Each stands under a heading
of docs/guides/differences.md, and is tried here, so that the list says what is so.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
from pathlib import Path

import pytest
from generated_scripts import BESIDE, PREAMBLE, scripts
from hypothesis import HealthCheck, Phase, given, settings

TESTS = Path(__file__).parents[1]
EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
GUIDE = TESTS.parent / "docs" / "guides" / "differences.md"


@dataclasses.dataclass(frozen=True)
class Difference:
    """A piece of a script, and what comes of it with either kind of worker."""

    what: str
    heading: str  # of the guide
    source: str  # `after(send)` returns what is told; `send` calls a function there
    in_process: str  # a regular expression for the repr of the value, or of the error
    in_interpreter: str


KNOWN_DIFFERENCES = [
    Difference(
        "an array that a job changes is the caller's",
        "Memory",
        "import numpy\ndef change(array):\n    array += 1\n"
        "def after(send):\n    mine = numpy.zeros(2)\n    send(change, mine)\n    return mine.tolist()\n",
        r"\[0.0, 0.0\]",
        r"\[1.0, 1.0\]",
    ),
    Difference(
        "a memoryview can be sent",
        "Memory",
        "def after(send):\n    return send(bytes, memoryview(b'abc'))\n",
        "TypeError.*pickle",
        "b'abc'",
    ),
    Difference(
        "lambdas and closures can be sent",
        "The script",
        "def after(send):\n    return send(lambda: 5)\n",
        "(PicklingError|AttributeError).*lambda",
        "5",
    ),
    Difference(
        "the script is not run",
        "The script",
        "import sys\ndef f():\n    return '__mp_main__' in sys.modules\n"
        "def after(send):\n    return send(f)\n",
        "True",
        "False",
    ),
    Difference(
        "an assignment after the pool was made arrives",
        "The script",
        "value = 1\ndef f():\n    return value\n"
        "def after(send):\n    global value\n    value = 2\n    return send(f)\n",
        "1",
        "2",
    ),
    Difference(
        "globals that nothing has needed yet are not there",
        "The script",
        "hidden = 5\ndef f():\n    return globals()['hid' + 'den']\ndef after(send):\n    return send(f)\n",
        "5",
        "KeyError",
    ),
    Difference(
        "a global that cannot be pickled is told",
        "The script",
        "import threading\nlock = threading.Lock()\ndef f():\n    return lock.locked()\n"
        "def after(send):\n    return send(f)\n",
        "False",
        "SerializationError.*lock",
    ),
    Difference(
        "exceptions are not constructed anew",
        "Errors",
        "class Odd(Exception):\n    def __init__(self, left, *, right):\n        super().__init__(left)\n"
        "        self.right = right\ndef f():\n    raise Odd(1, right=2)\n"
        "def after(send):\n    return send(f)\n",
        "BrokenProcessPool",
        r"Odd\(1\)",
    ),
    Difference(
        "an error that cannot be pickled",
        "Errors",
        "import threading\ndef f():\n    raise ValueError(threading.Lock())\n"
        "def after(send):\n    return send(f)\n",
        "TypeError.*pickle",
        "RemoteError.*lock",
    ),
    Difference(
        "a result that cannot be pickled, such as a generator",
        "Errors",
        "def f():\n    yield 1\ndef after(send):\n    return send(f)\n",
        "TypeError.*cannot pickle 'generator' object",
        "SerializationError.*generator",
    ),
    Difference(
        "limits are the process's",
        "State of the process",
        "import resource\ndef f():\n    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 1000))\n    return 'set'\n"
        "def after(send):\n    return send(f)\n",
        "'set'",
        "OSError.*limits of resources",
    ),
    Difference(
        "the process's number is the host's",
        "State of the process",
        "import os\nhere = os.getpid()\ndef f(host):\n    return os.getpid() == host\n"
        "def after(send):\n    return send(f, here)\n",
        "False",
        "True",
    ),
    Difference(
        "a signal that would end the process is refused",
        "Signals",
        "import signal\ndef f():\n    signal.raise_signal(signal.SIGUSR2)\n"
        "def after(send):\n    return send(f)\n",
        "BrokenProcessPool",
        "OSError|RuntimeError",
    ),
    Difference(
        "the host cannot be replaced",
        "Forked children",
        "import os\ndef f():\n    os.execv('/bin/true', ['true'])\ndef after(send):\n    return send(f)\n",
        "BrokenProcessPool",
        "OSError",
    ),
]

TRY = """
if __name__ == "__main__":
    import sys
    import both_ways

    def tell(way, executor):
        try:
            value = after(lambda *args: executor.submit(*args).result(both_ways.PATIENCE))
        except BaseException as error:
            value = error
        print(way, repr(value).replace("\\n", " "), file=sys.stderr)

    for way in both_ways.WAYS:
        with both_ways.executor(way) as executor:
            tell(way, executor)
"""


@pytest.mark.parametrize("known", KNOWN_DIFFERENCES, ids=lambda known: known.what)
def test_a_known_difference_is_as_the_list_has_it(run_script, known):
    finished = run_script(known.source + TRY, PYTHONPATH=str(TESTS))
    for way, expected in (("process", known.in_process), ("interpreter", known.in_interpreter)):
        told = re.search(rf"^{way} (.*)$", finished.stderr, re.MULTILINE)
        assert told and re.match(expected, told[1]), finished.stderr


def test_each_known_difference_stands_in_the_guide():
    headings = set(re.findall(r"^## (.+)$", GUIDE.read_text(), re.MULTILINE))
    assert {known.heading for known in KNOWN_DIFFERENCES} <= headings


@settings(
    max_examples=EXAMPLES or 15,
    deadline=None,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(script=scripts())
def test_what_functions_do_in_an_interpreter_is_what_they_do_in_a_process(
    run_script, tmp_path_factory, script
):
    source, arguments = script
    folder = tmp_path_factory.mktemp("script")
    (folder / "script.py").write_text(source)
    (folder / "beside.py").write_text(BESIDE)
    (folder / "arguments.pickle").write_bytes(pickle.dumps(arguments))
    # Sets are to have the same order everywhere.
    environment = {"PYTHONPATH": str(TESTS), "PYTHONHASHSEED": "0"}
    finished = run_script(None, arguments=["script.py"], cwd=folder, status=None, **environment)
    assert finished.returncode == 0, f"{source.removeprefix(PREAMBLE)}\n{finished.stdout}\n{finished.stderr}"
