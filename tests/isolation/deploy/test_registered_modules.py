"""Modules that a pool has been given as text."""

from __future__ import annotations

import pytest

import multipy_actors as multipy


def result_of(statement, pool, interpreter=0):
    """What the last line of some statements gives in an interpreter."""
    *before, last = statement.split("; ")

    def run():
        names = {}
        exec("\n".join(before), names)
        return eval(last, names)

    return pool.interpreters[interpreter].submit(run).result()


def test_a_registered_module_is_imported_in_every_interpreter(pool):
    pool.register_module_source("registered_here", "def add1(x): return x + 1\nmade = object()\n")
    seen = set()
    for interpreter in pool.interpreters:
        with interpreter.acquire() as session:
            assert session.global_("registered_here", "add1")(2).value() == 3
            seen.add(session.global_("builtins", "id")(session.global_("registered_here", "made")).value())
    assert len(seen) == len(pool)


def test_calls_see_what_was_registered_before_them(pool):
    for number in range(5):
        pool.register_module_source(f"registered_{number}", f"number = {number}")
        numbers = pool.broadcast(lambda name: __import__(name).number, f"registered_{number}")
        assert [each.result() for each in numbers] == [number] * len(pool)


def test_modules_of_packages_import_registered_ones(pool, package):
    pool.register_module_source("registered_for_packages", "def twice(x): return 2 * x\n")
    assert package.import_module("deployed.registered").broadcast.use(21) == [42, 42, 42]


def test_a_name_with_dots_is_in_a_package(pool):
    pool.register_module_source("registered_package.inside", "name = __name__\n")
    assert result_of("from registered_package.inside import name; name", pool) == "registered_package.inside"
    pool.register_module_source("registered_parent", "from registered_parent.child import value\n")
    pool.register_module_source("registered_parent.child", "value = 3\n")
    assert result_of("import registered_parent; registered_parent.value", pool) == 3
    pool.register_module_source("email.registered_inside", "value = 4\n")
    assert result_of("import email.message, email.registered_inside as m; m.value", pool) == 4


def test_a_traceback_shows_the_registered_text(pool):
    pool.register_module_source("registered_failing", "def fail():\n    raise LookupError('gone')  # here\n")
    with pytest.raises(LookupError) as raised:
        result_of("import registered_failing; registered_failing.fail()", pool)
    assert 'File "<registered>/registered_failing.py", line 2, in fail' in str(raised.value.__cause__)
    assert "# here" in str(raised.value.__cause__)


def test_what_is_no_python_is_refused_at_once(pool):
    with pytest.raises(SyntaxError, match="expected ':'"):
        pool.register_module_source("registered_badly", "def f() return 1")
    with pytest.raises(ModuleNotFoundError):
        result_of("import registered_badly; 1", pool)


def test_functions_of_registered_modules_travel_by_name(pool):
    pool.register_module_source("registered_function", "def f(x): return x * 3\n")

    def fetch():
        import registered_function

        return registered_function.f

    with pytest.raises(multipy.SerializationError, match="registered_function"):
        pool.submit(fetch).result()  # the host does not know the module
    call = pool.submit(lambda function: function(2), pool.submit(fetch))
    assert call.result() == 6


def test_an_environment_says_where_interpreters_import_from(tmp_path):
    (tmp_path / "only_inside.py").write_text("where = 'inside'")

    class Inside(multipy.Environment):
        def search_paths(self, host):
            return [*super().search_paths(host), str(tmp_path)]

    for env in (Inside(), multipy.PathEnvironment(tmp_path)):
        with multipy.Pool(1, env=env) as pool, pool.acquire() as session:
            assert session.global_("only_inside", "where").value() == "inside"
    with pytest.raises(ModuleNotFoundError):
        import only_inside  # noqa: F401


def test_inline_pools_and_closed_ones():
    with multipy.Pool(1, inline=True) as pool:
        pool.register_module_source("registered_inline", "x = 1\n")
        assert result_of("import registered_inline; registered_inline.x", pool) == 1
    with pytest.raises(multipy.PoolClosedError):
        pool.register_module_source("registered_late", "x = 1\n")
