"""Programs as people write them: no `__main__` guard, classes in the script, modules beside it, -c and -m."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import venv

import pytest

GUARDLESS = """
import dataclasses
import enum
import sys
import typing

import multipy_actors as multipy

print("script runs")
FACTOR = 3


class Failure(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


@dataclasses.dataclass
class Point:
    x: int
    y: "Point | None" = None


class Colour(enum.Enum):
    RED = 1


class Pair(typing.NamedTuple):
    first: int
    second: object


class Base:
    def name(self):
        return type(self).__name__


@multipy.remote
class Worker(Base):
    '''Lives in the script.'''

    def __init__(self, start: int):
        self.total = start

    def add(self, amount: int) -> int:
        self.total += amount * FACTOR
        return self.total

    def move(self, point):
        return Point(point.x + 1, point)

    def fail(self):
        raise Failure(9)

    def colour(self, colour):
        return colour is Colour.RED, Colour.RED, Pair(1, colour)


class Special(Worker):
    def add(self, amount):
        return super().add(amount) + 1


@multipy.remote
def double(x):
    return helper(x) * 2


def helper(x):
    return x + FACTOR - 3


worker = Worker.remote(1)
assert worker.add(2) == 7 and worker.add(1) == 10
assert worker.name() == "Worker"
moved = worker.move(Point(1))
assert moved == Point(2, Point(1)) and type(moved) is Point, moved
is_red, red, pair = worker.colour(Colour.RED)
assert is_red and red is Colour.RED and pair == Pair(1, Colour.RED) and type(pair) is Pair
try:
    worker.fail()
except Failure as error:
    assert error.code == 9 and isinstance(error.__cause__, multipy.RemoteTraceback)
    assert "in fail" in str(error.__cause__)
else:
    raise SystemExit("no failure")
assert Special.remote(0).add(1) == 4
assert double.submit(21).result() == 42 and double(1) == 2
many = Worker.options(replicas="all").remote(5)
assert set(many.broadcast.add(1)) == {8}
multipy.shutdown()
print("script ends")
"""


def test_what_a_script_defines_works_without_a_guard_and_the_script_runs_once(run_script):
    finished = run_script(GUARDLESS)
    assert finished.stdout == "script runs\nscript ends\n" and finished.stderr == ""


def test_a_script_may_leave_everything_open_at_its_end(run_script):
    finished = run_script(GUARDLESS.replace("multipy.shutdown()\n", ""))
    assert finished.stdout == "script runs\nscript ends\n" and finished.stderr == ""


def test_a_script_can_be_given_on_the_command_line(run_script):
    finished = run_script(None, arguments=["-c", GUARDLESS])
    assert finished.stdout == "script runs\nscript ends\n"


def test_a_script_can_be_read_from_standard_input(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-"], input=GUARDLESS, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "script runs\nscript ends\n"


def test_a_script_imports_the_modules_beside_it(run_script, tmp_path):
    folder = tmp_path / "somewhere"
    folder.mkdir()
    (folder / "sibling.py").write_text("print('sibling imported')\n\ndef triple(x):\n    return 3 * x\n")
    (folder / "main.py").write_text(
        textwrap.dedent(
            """
            import multipy_actors as multipy
            import sibling

            with multipy.Pool(1) as pool:
                print(pool.submit(sibling.triple, 2).result())
                print(pool.submit(lambda: sibling.triple(3)).result())
            """
        )
    )
    finished = run_script(None, arguments=[str(folder / "main.py")], cwd=tmp_path)
    lines = ["(pool-1-0) sibling imported", "6", "9", "sibling imported"]
    assert sorted(finished.stdout.splitlines()) == lines


def test_a_module_of_a_package_can_be_the_program(run_script, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 5\n")
    (package / "beside.py").write_text("from package import VALUE\n\ndef value():\n    return VALUE\n")
    program = """
        import multipy_actors as multipy
        from . import VALUE
        from .beside import value

        class Holder:
            def __init__(self):
                self.value = value()

        def make():
            from .beside import value
            return Holder(), value() + VALUE

        with multipy.Pool(1) as pool:
            holder, number = pool.submit(make).result()
            assert type(holder) is Holder and holder.value == 5 and number == 10
        print("program ends")
        """
    for name in ("__main__", "tool"):
        (package / f"{name}.py").write_text(textwrap.dedent(program))
    for module in ("package", "package.tool"):
        finished = run_script(None, arguments=["-m", module])
        assert finished.stdout == "program ends\n" and finished.stderr == ""


def test_a_script_runs_in_the_folder_it_was_started_in(run_script, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "here.txt").write_text("found")
    finished = run_script(
        """
        import os, pathlib
        import multipy_actors as multipy
        with multipy.Pool(1) as pool:
            print(pool.submit(os.getcwd).result())
            print(pool.submit(pathlib.Path("here.txt").read_text).result())
        """,
        cwd=folder,
    )
    assert finished.stdout == f"{folder}\nfound\n"


def test_a_program_in_a_virtual_environment_sees_that_environment(run_script, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, symlinks=True, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / "lib" / version / "site-packages"
    # What is installed here is seen from there, as an editable install would be.
    (packages / "here.pth").write_text("\n".join(path for path in sys.path if path))
    (packages / "only_in_venv.py").write_text("NAME = 'venv'\n")
    finished = run_script(
        """
        import sys
        import multipy_actors as multipy

        def look():
            import only_in_venv
            return only_in_venv.NAME, sys.prefix, sys.base_prefix, sys.executable

        with multipy.Pool(1) as pool:
            assert pool.submit(look).result() == look()
        print(look()[:2])
        """,
        python=str(home / "bin" / "python"),
    )
    assert finished.stdout == f"('venv', '{home}')\n"


def test_a_program_may_change_its_path_before_it_makes_a_pool(run_script, tmp_path):
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "late_module.py").write_text("NUMBER = 11\n")
    finished = run_script(
        """
        import sys
        sys.path.append("late")
        import late_module
        import multipy_actors as multipy
        with multipy.Pool(1) as pool:
            print(pool.submit(lambda: late_module.NUMBER).result())
        """
    )
    assert finished.stdout == "11\n"


def test_a_program_sees_its_arguments_inside(run_script, tmp_path):
    (tmp_path / "program.py").write_text(
        "import sys\nimport multipy_actors as multipy\n"
        "with multipy.Pool(1) as pool:\n    assert pool.submit(lambda: sys.argv).result() == sys.argv\n"
        "print(sys.argv[1:])\n"
    )
    finished = run_script(None, arguments=[str(tmp_path / "program.py"), "--flag", "ü", ""])
    assert finished.stdout == "['--flag', 'ü', '']\n"


@pytest.mark.parametrize("option", ["-O", "-I", "-Xdev", "-Xutf8", "-W error"])
def test_programs_run_under_options_of_python(run_script, tmp_path, option):
    script = tmp_path / "program.py"
    source = f"import sys\nsys.path[:] = {sys.path!r}\nsys.argv = ['x']\n"
    script.write_text(source + GUARDLESS)
    finished = run_script(None, arguments=[*option.split(), str(script)])
    assert finished.stdout == "script runs\nscript ends\n" and finished.stderr == ""


def test_a_class_redefined_by_hand_is_used_as_it_is_now(run_script):
    run_script(
        """
        import multipy_actors as multipy

        def version():
            return 1

        with multipy.Pool(1) as pool:
            assert pool.submit(version).result() == 1
            def version():
                return 2
            assert pool.submit(version).result() == 2
        """
    )


def test_objects_of_a_scripts_class_keep_their_class_from_call_to_call(run_script):
    run_script(
        """
        import multipy_actors as multipy

        class Token:
            pass

        @multipy.remote
        class Shelf:
            def put(self, token):
                self.token = token
            def same(self, other):
                return type(self.token) is type(other) and isinstance(other, Token)

        with multipy.Pool(1) as pool:
            shelf = Shelf.options(pool=pool).remote()
            shelf.put(Token())
            assert shelf.same(Token())
        """
    )


def test_a_class_of_the_script_stays_the_scripts_own_when_its_objects_come_back(run_script):
    finished = run_script(
        """
        import multipy_actors as multipy

        touched = 0

        class Point:
            def touch(self):
                global touched
                touched += 1

        with multipy.Pool(1) as pool:
            touch = Point.touch
            for _ in range(2):
                point = pool.submit(lambda point: point, Point()).result()
                assert type(point) is Point and Point.touch is touch
                point.touch()
        print(touched)
        """
    )
    assert finished.stdout == "2\n"


SPAWNED = """
import multiprocessing

import multipy_actors as multipy


class Point:
    def __init__(self, x):
        self.x = x

    def moved(self):
        return Point(self.x + 1)


def x_of(point):
    return point.x


def use_interpreters():
    with multipy.Pool(2) as pool:
        assert pool.submit(x_of, Point(3)).result() == 3
        assert pool.submit(lambda: x_of(Point(4))).result() == 4
        point = multipy.remote(Point).options(pool=pool).remote(5).moved()
        assert type(point) is Point and point.x == 6
        assert pool.submit(abs, -7).result() == 7
    print("done")


if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=use_interpreters)
    child.start()
    child.join()
    raise SystemExit(child.exitcode)
"""


def test_a_process_that_multiprocessing_spawns_may_use_what_the_script_defines(run_script):
    assert run_script(SPAWNED).stdout == "done\n"


WRAPPED = """
import decorators
import multipy_actors as multipy


@decorators.counted
def add(left, right):
    return left + right


def use():
    return add(1, 2), add(3, 4), decorators.calls


with multipy.Pool(1) as pool:
    assert pool.submit(use).result(timeout=60) == (3, 7, 2)
    assert pool.submit(add, 5, 6).result(timeout=60) == 11
    assert pool.submit(use).result(timeout=60)[2] == 5  # the module's global, in the interpreter's module
    assert pool.submit(decorators.counted(lambda: 7)).result(timeout=60) == 7
    assert pool.submit(lambda: decorators.settings.name).result(timeout=60) == "decorators.settings"
    assert decorators.calls == 0
"""

DECORATORS = """
import functools
import sys
import threading
import types

lock = threading.Lock()  # cannot be sent
calls = 0


class Settings(types.ModuleType):
    name = property(lambda self: self.__name__)


settings = sys.modules["decorators.settings"] = Settings("decorators.settings")


def counted(function):
    @functools.wraps(function)
    def wrapper(*args):
        global calls
        with lock:
            calls += 1
        settings.name
        return function(*args)

    return wrapper
"""


def test_what_a_decorator_of_a_module_makes_has_the_globals_of_that_module(tmp_path, run_script):
    tmp_path.joinpath("decorators.py").write_text(DECORATORS)
    tmp_path.joinpath("wrapped.py").write_text(WRAPPED)
    run_script(None, arguments=["wrapped.py"], cwd=tmp_path)
