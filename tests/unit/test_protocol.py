"""Requests are written by multipy_actors/protocol.py alone, and whatever serves or writes them agrees."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from multipy_actors import protocol
from multipy_actors.inline.interpreter import Seat
from multipy_actors.worker import session_objects

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "multipy_actors"
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
FUNCTIONS = {
    name: function
    for name, function in vars(protocol).items()
    if inspect.isfunction(function) and function is not protocol.in_session
}


def operation_of(name):
    count = len(inspect.signature(FUNCTIONS[name]).parameters)
    return FUNCTIONS[name](*(f"operand {place}" for place in range(count)))


IN_SESSIONS = {operation_of(name)[0] for name in FUNCTIONS if name.startswith("session_")}
REQUESTS = {operation_of(name)[0] for name in FUNCTIONS if not name.startswith("session_")} | {"session"}


def test_an_interpreter_serves_each_request_and_no_other(pool):
    def operations():
        return set(importlib.import_module("multipy_actors.worker.operations").OPERATIONS)

    assert pool.submit(operations).result() == REQUESTS


def test_a_session_serves_each_request_and_no_other():
    assert {*session_objects._OPERATIONS, "from_movable"} == IN_SESSIONS


def test_a_pool_without_interpreters_serves_what_the_host_does_not_do_itself():
    served = {name.removeprefix("_do_") for name in dir(Seat) if name.startswith("_do_")}
    assert served == REQUESTS - {"drop", "search_paths"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operands_are_all_that_was_given_in_that_order(name):
    operands = [part for part in operation_of(name)[1:] if str(part).startswith("operand")]
    assert operands == [f"operand {place}" for place in range(len(operands))]


def test_a_request_of_a_session_comes_behind_its_number():
    assert protocol.in_session(7, protocol.session_value(3)) == ["session", 7, "value", 3]


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"protocol.py"}))
def test_nobody_else_writes_operations(module):
    tree = ast.parse(MODULES[module].read_text())
    tree.body = [node for node in tree.body if not ast.unparse(node).startswith("__all__")]
    for node in ast.walk(tree):
        if isinstance(node, ast.List) and node.elts and isinstance(node.elts[0], ast.Constant):
            assert node.elts[0].value not in REQUESTS | IN_SESSIONS, f"{module}:{node.lineno}"


def test_programs_in_cpp_write_operations_of_the_protocol():
    source = "".join(path.read_text() for path in (ROOT / "native" / "embed").glob("*.cpp"))
    requests = set(re.findall(r'encode_request\(\{"(\w+)"', source))
    in_sessions = set(re.findall(r'\b(?:object|post)\("(\w+)"', source))
    assert {"call", "configure", "drop", "method"} <= requests <= REQUESTS
    assert {"call", "describe"} <= in_sessions <= IN_SESSIONS
