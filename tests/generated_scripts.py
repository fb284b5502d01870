"""Hypothesis draws scripts: functions that do what jobs do, and the calls of them, for `both_ways`.

A function is drawn as text, statement by statement: it prints, changes its arguments, globals of the
script, files, its environment and the state that modules keep; in the end it returns something or raises.
`observe` is a function of each script that tells what has become of all that.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import pickle
import re
from typing import Any

from hypothesis import strategies as st
from strategies import values

__all__ = ["PREAMBLE", "calls", "scripts"]

PREAMBLE = '''
import dataclasses, decimal, functools, inspect, locale, logging, math, os, pickle, random, signal
import sys, threading, time, typing, warnings
import beside
import both_ways

COUNT = 0
NAMES = []
SETTINGS = {"begun": True}

class Oops(Exception):
    """An error of the script's."""

class Detailed(Oops):
    def __init__(self, text, code=5):
        super().__init__(text, code)
        self.code = code
    def __str__(self):
        return f"{self.args[0]} ({self.code})"

@dataclasses.dataclass
class Own:
    value: object
    total: typing.ClassVar[int] = 0
    def method(self, *args, **kwargs):
        Own.total += 1
        return self.value, args, kwargs, Own.total
    @classmethod
    def made(cls, value):
        return cls([value])
    @staticmethod
    def paired(left, right=None):
        return left, right
    def __call__(self, *args):
        if args:
            raise Detailed(f"called with {len(args)}")
        return self

class Slotted:
    __slots__ = ("left", "right")
    def __init__(self, left, right):
        self.left, self.right = left, right
    def __eq__(self, other):
        return (self.left, self.right) == (other.left, other.right)

@functools.lru_cache
def cached(value):
    global COUNT
    COUNT += 100
    return value * 2

@functools.singledispatch
def kinds(value):
    kinds.calls = getattr(kinds, "calls", 0) + 1
    return "other", kinds.calls

@kinds.register
def _(value: str):
    return "text", value

@beside.remembering
def kept(value):
    return repr(value)

class Missing:
    def __reduce__(self):
        return "MISSING"

MISSING = Missing()

def told(value, default=MISSING):
    return value is MISSING, default is MISSING, MISSING

def noted(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        NAMES.append(function.__name__)
        return function(*args, **kwargs)
    return wrapper

def handler(number, frame):
    NAMES.append(signal.Signals(number).name)

def fails(value):
    try:
        return value["no such key"]
    finally:
        NAMES.append("finally")

def observe():
    """Tell what there is that calls can have changed."""
    return {
        "globals": [COUNT, list(NAMES), dict(SETTINGS), Own.total, getattr(beside.LOCAL, "value", None)],
        "functions": [getattr(function, "count", None) for function in (noted, fails)],
        "cached": tuple(cached.cache_info()),
        "beside": [beside.LEVEL, list(beside.SEEN)],
        "environment": {name: value for name, value in os.environ.items() if name.startswith("GENERATED")},
        "folder": [name for name in os.getcwd().split("/") if name.startswith("folder")],
        "modules": [sys.getrecursionlimit(), decimal.getcontext().prec],
        "time and place": [time.tzname, locale.setlocale(locale.LC_ALL)],
        "path": sys.path[:3],
        "filters": len(warnings.filters),
        "logging": [logging.getLogger("generated").level, len(logging.getLogger("generated").handlers)],
        "signals": signal.getsignal(signal.SIGUSR1) is handler,
        "threads": [threading.current_thread() is threading.main_thread(), threading.active_count() < 9],
        "arguments": [os.path.basename(name) for name in sys.argv],
    }
'''

BESIDE = '''
"""A module beside the script."""
import contextvars
import functools
import threading

LEVEL = 0
SEEN = []
CONTEXT = contextvars.ContextVar("CONTEXT", default=0)
LOCAL = threading.local()

def remembering(function):
    memory = []
    @functools.wraps(function)
    def wrapper(value):
        memory.append(function(value))
        return memory
    return wrapper

class Elsewhere(ValueError):
    """An error of the module's."""

def raise_level(by):
    global LEVEL
    LEVEL += by
    return LEVEL

def see(value):
    SEEN.append(type(value).__name__)
    return value

def refuse(value, *, because="no reason"):
    raise Elsewhere(type(value).__name__, because)
'''

# Each may stand anywhere in a function with the parameters a, b, *rest, k and **more. NUMBER is drawn.
STATEMENTS = [
    'print("f", NUMBER, type(a).__name__, k)',
    'print("no end of line", end="")',
    'sys.stdout.write("written\\n")',
    "global COUNT; COUNT += NUMBER",
    "NAMES.append(len(NAMES))",
    "NAMES[:] = NAMES[-3:]",
    'SETTINGS["f"] = type(a).__name__',
    'SETTINGS.pop("begun", None)',
    "Own.total += NUMBER",
    "cached(NUMBER)",
    "noted.count = getattr(noted, 'count', 0) + NUMBER",
    "k = beside.raise_level(NUMBER)",
    "beside.see(b)",
    "beside.LEVEL = NUMBER",
    "if isinstance(a, list): a.append(NUMBER)",
    "if isinstance(a, dict): a.clear()",
    "if isinstance(a, bytearray): a.extend(b'more')",
    "if isinstance(a, set): a.add(NUMBER)",
    'os.environ["GENERATED"] = str(NUMBER)',
    'os.environ["GENERATED_NUMBER"] = os.environ.get("GENERATED", "none") + "!"',
    'os.environ.pop("GENERATED", None)',
    'with open("fileNUMBER.txt", "a") as file: file.write(f"{COUNT}\\n")',
    'with open("fileNUMBER.txt", "w") as file: print("new", file=file)',
    'os.makedirs("folderNUMBER", exist_ok=True)',
    'os.makedirs("folderNUMBER", exist_ok=True); os.chdir("folderNUMBER")',
    'os.chdir("..") if os.path.basename(os.getcwd()).startswith("folder") else None',
    "os.umask(0o02NUMBER)",
    "random.seed(NUMBER); k = random.random()",
    "decimal.getcontext().prec = 5 + NUMBER",
    'os.environ["TZ"] = "ABC-NUMBER"; time.tzset()',
    "sys.setrecursionlimit(1000 + NUMBER)",
    "sys.path.append('added')",
    'warnings.simplefilter("ignore", ImportWarning, append=True)',
    'logging.getLogger("generated").setLevel(NUMBER)',
    "signal.signal(signal.SIGUSR1, handler)",
    "if signal.getsignal(signal.SIGUSR1) is handler: signal.raise_signal(signal.SIGUSR1)",
    "beside.LOCAL.value = NUMBER",
    "k = beside.CONTEXT.get(); beside.CONTEXT.set(NUMBER)",
    "k = inspect.getsource(noted).count('wrapper')",
    "k = sorted(typing.get_type_hints(Own))",
    "k = pickle.loads(pickle.dumps(Own(NUMBER))) == Own(NUMBER)",
    "k = pickle.loads(pickle.dumps(handler)) is handler",
    "k = [sys.exc_info()[0], __debug__, __file__ == os.path.abspath(sys.argv[0])]",
    "k = (lambda x=NUMBER: x + len(rest))()",
    "for _ in range(NUMBER): k = [k]",
    "def inner():\n    nonlocal k\n    k = (k, NUMBER)\ninner()",
    "try:\n    fails(SETTINGS)\nexcept KeyError as error:\n    NAMES.append(str(error))",
    "thread = threading.Thread(target=NAMES.append, args=('thread',)); thread.start(); thread.join()",
    "import beside as _again; k = _again is beside",
    "del NAMES[1:]",
    "k = kinds(a)",
    "k = kept(k)[-2:]",
    "cached(NUMBER)",
    "k = MISSING if k is None else k",
]

ENDS = [
    "return a",
    "return a, b, rest, k, more",
    "return [a] * 2",
    "return {'a': a, 'k': k}",
    "return Own(a)",
    "return Slotted(a, k)",
    "return type(a)",
    "return Own, Oops, beside.Elsewhere",
    "return fails",
    "return cached, kinds, kept",
    "return MISSING",
    "return told(k)",
    "return Own(b).method",
    "return functools.partial(beside.see, b)",
    "return bytearray(b'x' * NUMBER) + b'y'",
    "return decimal.Decimal(NUMBER) / 3",
    "return observe()",
    "return Detailed('returned', NUMBER)",
    "return locals().keys() >= {'a', 'b', 'k'}",
    "pass",
    "raise ValueError(k, NUMBER)",
    "raise Oops",
    "raise Oops('text', a)",
    "raise Detailed('text', NUMBER)",
    "raise beside.Elsewhere('from the script')",
    "raise OSError(2, 'No such file', 'somewhere')",
    "raise SystemExit(NUMBER)",
    "raise KeyboardInterrupt",
    "raise StopIteration(NUMBER)",
    "raise GeneratorExit",
    "raise UnicodeDecodeError('utf-8', b'\\xff', 0, 1, 'bad')",
    "raise ExceptionGroup('several', [Oops(1), ValueError('two', NUMBER)])",
    "error = Oops('noted')\nerror.add_note('a note')\nerror.more = NUMBER\nraise error",
    "try:\n    fails({})\nexcept KeyError as cause:\n    raise Oops('caused') from cause",
    "try:\n    fails({})\nexcept KeyError:\n    raise Oops('meanwhile')",
    "try:\n    fails({})\nexcept KeyError:\n    raise Oops('alone') from None",
    "return fails({'NUMBER': 1})",
    "return 1 / 0",
    "return a.missing_attribute",
    "return [][NUMBER]",
    "return int('no number')",
    "return undefined_name",
    "assert NUMBER < 0, 'NUMBER is not negative'",
    "return beside.refuse(b, because=k if isinstance(k, str) else 'none')",
    "return (lambda: fails(\n    {'over': 'two lines'}\n))()",
    "return open('no such file')",
    "return __import__('no_such_module')",
    "return eval('1 +')",
    "return decimal.Decimal('no number')",
    "return pickle.loads(b'garbage')",
    "return Own(1)(2, 3)",
    "return len()",
]

HEADS = [
    "def {name}(a=None, b=0, *rest, k='default', **more):",
    "def {name}(a=(), b={{}}, *rest, k=COUNT, **more):",
    "@noted\ndef {name}(a=None, b=0, *rest, k=None, **more):",
    "def {name}(a: 'Own' = None, b: int = 0, *rest: int, k: str = '', **more) -> 'Own':\n    'Documented.'",
]

# What is called, other than a function that was drawn; with its arguments, for the sources of some.
CALLABLES = [
    ("observe", 0),
    ("Own.made", 1),
    ("Own.paired", 2),
    ("Own(3).method", 2),
    ("Own", 1),
    ("Own(4)", 0),
    ("Own(4)", 1),
    ("Slotted", 2),
    ("cached", 0),
    ("cached", 1),
    ("kinds", 1),
    ("kept", 1),
    ("told", 1),
    ("beside.see", 1),
    ("beside.refuse", 1),
    ("functools.partial(beside.refuse, because='partly')", 1),
    ("functools.partial(Own.paired, right=7)", 1),
    ("len", 1),
    ("sorted", 1),
    ("math.sqrt", 1),
    ("os.listdir", 0),
    ("fails", 1),
]


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


@st.composite
def _functions(draw: st.DrawFn, name: str) -> str:
    """Draw the source of a function."""
    lines = draw(st.lists(st.sampled_from(STATEMENTS), max_size=4))
    lines.append(draw(st.sampled_from(ENDS)))
    number = str(draw(st.integers(0, 7)))
    # A name is declared global once, before it is used.
    declares = any("global COUNT" in line for line in lines)
    lines = [line.replace("global COUNT; ", "") for line in lines]
    body = ("    global COUNT\n" if declares else "") + "".join(map(_indented, lines))
    return draw(st.sampled_from(HEADS)).format(name=name) + "\n" + body.replace("NUMBER", number)


@functools.cache  # to build it takes longer than to draw from it
def _sendable() -> st.SearchStrategy[Any]:
    """Draw what pickle takes, and what looks the same everywhere: the hash of None is an address."""
    return values().filter(lambda value: _can_be_pickled(value) and not _has_set_of_several(value))


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


def _has_set_of_several(value: Any) -> bool:
    if isinstance(value, (set, frozenset)) and len(value) > 1:
        return True
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    contains = isinstance(value, (list, tuple, set, frozenset, collections.deque))
    return contains and any(map(_has_set_of_several, value))


@st.composite
def calls(draw: st.DrawFn, functions: int) -> tuple[str, bytes]:
    """Draw what is called, as text, and its arguments, pickled; functions are called f0, f1 and so on."""
    kind = draw(st.sampled_from(["function"] * 6 + ["callable"] * 2 + ["closure", "lambda"]))
    if kind == "callable":
        called, count = draw(st.sampled_from(CALLABLES))
        return called, pickle.dumps(([draw(_sendable()) for _ in range(count)], {}))
    args = draw(st.lists(_sendable(), max_size=3))
    kwargs = draw(st.dictionaries(st.sampled_from(["k", "more", "b2"]), _sendable(), max_size=2))
    name = f"f{draw(st.integers(0, functions - 1))}"
    if kind == "closure":
        called = f"both_ways.Closure(closed_over, {name}, {draw(st.integers(0, 9))})"
    elif kind == "lambda":
        called = f"both_ways.Closure(lambda_of, {name})"
    else:
        called = name
    return called, pickle.dumps((args, kwargs))


@st.composite
def scripts(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """Draw a script that makes some calls both ways, and their arguments."""
    count = draw(st.integers(4, 8))
    functions = [draw(_functions(f"f{i}")) for i in range(count)]
    drawn = draw(st.lists(calls(count), min_size=8, max_size=16))
    drawn.append(("observe", pickle.dumps(([], {}))))
    used = {name for called, _ in drawn for name in re.findall(r"\bf\d\b", called)}
    functions = [function for i, function in enumerate(functions) if f"f{i}" in used]
    source = PREAMBLE + "\n" + "\n".join(functions) + CLOSURES + "\nif __name__ == '__main__':\n"
    source += "    arguments = pickle.load(open('arguments.pickle', 'rb'))\n"
    source += f"    called = [{', '.join(called for called, _ in drawn)}]\n"
    source += "    both_ways.main(list(zip(called, arguments, strict=True)))\n"
    return source, [arguments for _, arguments in drawn]


CLOSURES = """
def closed_over(function, number):
    def closure(*args, **kwargs):
        nonlocal number
        number += 1
        return number, function(*args, **kwargs)
    return closure

def lambda_of(function):
    return lambda *args, **kwargs: [function(*args, **kwargs), COUNT]
"""
