"""Globals of a script in an interpreter: whose assignments hold, and what stays one object."""

from __future__ import annotations

import pytest


def test_what_the_host_binds_anew_arrives_and_what_it_does_not_stays_as_the_interpreter_left_it(run_script):
    run_script(
        """
        import multipy_actors as multipy

        limit, seen = 1, []

        def note():
            seen.append(limit)
            return list(seen)

        with multipy.Pool(1) as pool:
            assert pool.submit(note).result() == [1]
            limit = 2
            assert pool.submit(note).result() == [1, 2]
            seen = []
            assert pool.submit(note).result() == [2]
            assert seen == []

            def note():
                return "new", limit
            class Shape:
                sides = 3
            assert pool.submit(note).result() == ("new", 2)
            assert pool.submit(lambda: (note(), Shape.sides)).result() == (("new", 2), 3)
            old = Shape()
            class Shape:
                sides = 4
            assert pool.submit(lambda: Shape.sides).result() == 4
            assert pool.submit(lambda shape: (type(shape) is Shape, shape.sides), old).result() == (False, 3)
        """
    )


def test_what_decorators_have_made_of_a_function_is_one_thing_in_an_interpreter_too(run_script, tmp_path):
    (tmp_path / "remembering.py").write_text(
        "import functools\n"
        "def remembering(function):\n"
        "    memory = []\n"
        "    @functools.wraps(function)\n"
        "    def wrapper(value):\n"
        "        memory.append(function(value))\n"
        "        return list(memory)\n"
        "    return wrapper\n"
    )
    run_script(
        """
        import functools
        import multipy_actors as multipy
        from remembering import remembering

        calls = 0

        @functools.lru_cache
        def cached(value):
            global calls
            calls += 1
            return calls

        @functools.singledispatch
        def kind(value):
            kind.calls = getattr(kind, "calls", 0) + 1
            return kind.calls

        @kind.register
        def _(value: str):
            return "text"

        @remembering
        def kept(value):
            return value

        def use(function, value):
            return function(value), function is cached or function is kind or function is kept

        with multipy.Pool(1) as pool:
            submit = lambda *args: pool.submit(*args).result()
            assert [submit(cached, 3), submit(cached, 3), submit(use, cached, 3)] == [1, 1, (1, True)]
            assert [submit(kind, 3), submit(kind, 3), submit(use, kind, 3)] == [1, 2, (3, True)]
            assert submit(kind, "a") == "text"
            assert [submit(kept, 3), submit(kept, 4)] == [[3], [3, 4]]
            assert submit(use, kept, 5) == ([3, 4, 5], True)
            assert submit(lambda: (cached, kind, kept)) == (cached, kind, kept)
            assert cached.cache_info().currsize == 0
        """
    )


def test_an_instance_that_is_pickled_by_its_name_is_the_one_of_that_name(run_script):
    run_script(
        """
        import pickle
        import multipy_actors as multipy

        class Missing:
            def __init__(self):
                self.text = "missing"
            def __reduce__(self):
                return "MISSING"

        class Nowhere:
            def __reduce__(self):
                return "NOWHERE"

        class Made:
            def __init__(self, *parts):
                self.parts = parts
            def __reduce__(self):
                return Made, self.parts

        MISSING = Missing()
        ALSO = MISSING

        def told(value, default=MISSING):
            return value is MISSING is default is ALSO, value.text, MISSING

        with multipy.Pool(1) as pool:
            told_here = pool.submit(told, MISSING).result()
            assert told_here == (True, "missing", MISSING)
            assert pool.submit(lambda *values: values[0] is values[1], MISSING, ALSO).result()
            assert pool.submit(lambda made: made.parts, Made(1, MISSING)).result() == (1, MISSING)
            try:
                pool.submit(told, Nowhere())
            except multipy.SerializationError as error:
                assert "NOWHERE" in str(error), error
            else:
                raise AssertionError
        """
    )


def test_a_call_sees_globals_as_they_were_when_it_was_submitted(run_script):
    run_script(
        """
        import threading
        import multipy_actors as multipy

        @multipy.remote
        class Other:
            def run(self, function):
                return function()

        with multipy.Pool(1) as pool:
            other = Other.options(pool=pool).remote()
            futures = []
            for number in range(20):
                futures.append(pool.submit(lambda: number))
                futures.append(other.run.submit(lambda: number))
            assert [future.result() for future in futures] == [n for n in range(20) for _ in (1, 2)]
            with pool.acquire() as session:
                def earlier():
                    return number
                waiting = []
                number = "before"
                thread = threading.Thread(target=lambda: waiting.append(pool.submit(earlier)))
                thread.start()
                thread.join()
                number = "later"
                assert pool.submit(earlier).result() == "later"
            assert waiting[0].result() == "before"
        """
    )


def test_globals_that_have_a_part_in_common_have_it_in_common_elsewhere(run_script):
    run_script(
        """
        import multipy_actors as multipy

        class Node:
            def __init__(self, *links):
                self.links = links

        table = {}
        inner = Node()
        left, right = Node(inner), Node(inner)

        class Registry:
            entries = table

        def remember(function):
            def wrapper(x):
                return table.setdefault(x, function(x))
            wrapper.table = table
            return wrapper

        @remember
        def double(x):
            return 2 * x

        again, other = table, double

        def aliases(): return again is table and other is double

        def at_once():
            return left.links[0] is right.links[0] is inner and Registry.entries is table is double.table

        def one(): return len(left.links)
        def two(): return left.links[0] is right.links[0]
        def three(): return Registry.entries is table

        with multipy.Pool(1) as pool:
            assert pool.submit(one).result() == 1
            assert pool.submit(two).result()
            assert pool.submit(double, 4).result() == 8
            assert pool.submit(three).result()
            assert pool.submit(at_once).result()
            assert pool.submit(aliases).result()
        with multipy.Pool(1) as pool:
            assert pool.submit(aliases).result()
            assert pool.submit(at_once).result()
            assert pool.submit(double, 4).result() == 8
            assert pool.submit(lambda: table).result() == {4: 8}
        """
    )


def test_a_model_and_its_optimizer_are_about_the_same_parameters(run_script):
    pytest.importorskip("torch")
    run_script(
        """
        import torch
        import multipy_actors as multipy

        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def loss():
            return model(torch.ones(1, 1)).sum()

        def step():
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            return loss().item()

        with multipy.Pool(1) as pool:
            before = pool.submit(lambda: loss().item()).result()
            assert pool.submit(step).result() < before - 0.1
            later = pool.submit(step).result()
            assert later < before - 0.3
            assert abs(loss().item() - later) < 1e-6  # the memory is the host's
        """
    )


def test_interpreters_send_on_the_scripts_globals_and_not_what_they_made_of_them(run_script):
    run_script(
        """
        import multipy_actors as multipy

        state = "of the host"

        def set_state(value):
            global state, only_here
            state = only_here = value

        def get_state():
            return state

        @multipy.remote
        class Forwarder:
            def forward(self, other, value):
                set_state(value)
                return other.run(get_state), state, other.run(lambda: only_here)

            def give(self):
                return get_state, lambda: state

        @multipy.remote
        class Runner:
            def run(self, function):
                return function()

        with multipy.Pool(2) as pool:
            forwarder = Forwarder.options(pool=pool, interpreter=0).remote()
            runner = Runner.options(pool=pool, interpreter=1).remote()
            assert forwarder.forward(runner, "mine") == ("of the host", "mine", "mine")
            named, unnamed = forwarder.give()
            assert named is get_state and unnamed() == "of the host" and state == "of the host"
            state = "new"
            assert runner.run(get_state) == "new"
            assert unnamed() == "new"
        """
    )


def test_a_function_that_refers_to_what_cannot_be_sent_is_an_error_that_names_it(run_script):
    run_script(
        """
        import threading
        import multipy_actors as multipy

        lock = threading.Lock()

        def use():
            with lock:
                return 1

        with multipy.Pool(1) as pool:
            try:
                pool.submit(use)
            except multipy.SerializationError as error:
                assert "function global 'lock': cannot serialize _thread.lock" in str(error), error
            else:
                raise SystemExit("no error")
            lock = __import__("contextlib").nullcontext()
            assert pool.submit(use).result() == 1
        """
    )


def test_what_cannot_be_rebuilt_fails_its_call_and_is_tried_again(run_script, tmp_path):
    run_script(
        """
        import os
        import multipy_actors as multipy

        class Fragile:
            def __reduce__(self):
                return rebuild, ()

        def rebuild():
            if not os.path.exists("there"):
                raise FileNotFoundError("not there yet")
            return Fragile()

        class Holder:
            fragile = Fragile()

            def told(self):
                return type(self.fragile) is Fragile

        fragile = Fragile()

        def use():
            return type(fragile) is Fragile and Holder().told()

        with multipy.Pool(1) as pool:
            for _ in range(2):
                try:
                    pool.submit(use).result()
                except multipy.SerializationError as error:
                    assert "not there yet" in str(error)
                else:
                    raise SystemExit("no error")
            open("there", "w").close()
            assert pool.submit(use).result()
        """
    )


def test_text_that_was_typed_in_is_the_source_of_its_functions_elsewhere(run_script):
    run_script(
        """
        import linecache
        import multipy_actors as multipy

        def run_cell(number, text):
            name = f"<cell {number}>"
            linecache.cache[name] = len(text), None, text.splitlines(True), name
            exec(compile(text, name, "exec"), globals())

        run_cell(1, "def wrong():\\n    raise ValueError('typed')  # in a cell\\n")
        run_cell(2, "class Cell:\\n    def text(self):\\n        import inspect\\n"
                    "        return inspect.getsource(wrong), inspect.getsource(Cell.text)\\n")
        with multipy.Pool(1) as pool:
            try:
                pool.submit(wrong).result()
            except ValueError as error:
                assert 'File "<cell 1>", line 2, in wrong' in error.__cause__.traceback
                assert "# in a cell" in error.__cause__.traceback
            assert pool.submit(Cell().text).result() == Cell().text()
        """
    )


def test_names_in_annotations_are_sent_along(run_script):
    run_script(
        """
        from __future__ import annotations
        import dataclasses, decimal, typing
        import multipy_actors as multipy

        @dataclasses.dataclass
        class Leaf:
            price: decimal.Decimal

        @dataclasses.dataclass
        class Tree:
            leaves: list[Leaf]
            first: typing.Optional["Leaf"]
            lock: Literal["lock"] = None

        lock = __import__("threading").Lock()
        Literal = typing.Literal

        def hints_of(kind: type[Tree]) -> str:
            return typing.get_type_hints(kind)

        with multipy.Pool(1) as pool:
            assert pool.submit(hints_of, Tree).result() == hints_of(Tree)
            hints = pool.submit(typing.get_type_hints, hints_of).result()
            assert hints == {"kind": type[Tree], "return": str}
        """
    )


def test_globals_are_sent_once_and_their_memory_is_given_back(run_script):
    run_script(
        """
        import gc, pickle, weakref
        import multipy_actors as multipy

        pickled = 0

        class Big:
            def __reduce__(self):
                global pickled
                pickled += 1
                return Big, ()

        big, text = Big(), b"x" * 1_000_000

        def use():
            return type(big).__name__, len(text)

        with multipy.Pool(2) as pool:
            for _ in range(10):
                assert pool.submit(use).result() == ("Big", 1_000_000)
            assert pickled == 1, pickled
            watch = weakref.ref(big)
            big = None
            gc.collect()
            assert watch() is None
            assert pool.submit(lambda: big).result() is None
        """
    )


def test_closures_share_what_they_shared(run_script):
    run_script(
        """
        import multipy_actors as multipy

        def counter():
            count = 0
            def up():
                nonlocal count
                count += 1
            def get():
                return count
            return up, get

        def use(up, get):
            up()
            up()
            return get()

        def factorial(n):
            def inner(n):
                return 1 if n == 0 else n * inner(n - 1)
            return inner

        with multipy.Pool(1) as pool:
            assert pool.submit(use, *counter()).result() == 2
            assert pool.submit(factorial(0), 5).result() == 120
        """
    )


def test_functions_run_with_the_globals_of_a_namespace_that_is_no_module(run_script):
    run_script(
        """
        import runpy
        import multipy_actors as multipy

        other = {"__name__": "__main__", "multipy": multipy}
        exec("level = 5\\ndef get(): return level\\ndef up():\\n    global level\\n    level += 1\\n", other)
        level = 7
        def get():
            return level
        with multipy.Pool(1) as pool:
            pool.submit(other["up"]).result()
            assert pool.submit(other["get"]).result() == 6
            assert pool.submit(get).result() == 7
            assert pool.submit(other["get"]).result() == 6
        """
    )


def test_functions_and_globals_are_the_hosts_own_inline(run_script):
    run_script(
        """
        import multipy_actors as multipy

        model = None

        def load():
            global model
            model = 1

        def same(function, get):
            return function is load, get()

        with multipy.Pool(1, inline=True, initializer=load) as pool:
            assert model == 1
            assert pool.submit(same, load, lambda: model).result() == (True, 1)
        """
    )


def test_what_a_function_refers_to_may_be_defined_after_it_was_sent(run_script):
    run_script(
        """
        import multipy_actors as multipy

        def use():
            return helper()

        def indirectly():
            return use()

        with multipy.Pool(1) as pool:
            for function in (use, indirectly, lambda: use()):
                try:
                    pool.submit(function).result()
                except NameError as error:
                    assert "helper" in str(error)
                else:
                    raise SystemExit("no error")
            def helper():
                return 1
            for function in (use, indirectly, lambda: use()):
                assert pool.submit(function).result() == 1
            del helper
            assert pool.submit(use).result() == 1  # as in a process, which has it still
        """
    )


def test_a_function_that_assigns_a_global_first_does_not_need_what_the_host_has_under_that_name(run_script):
    run_script(
        """
        import sqlite3
        import threading
        import multipy_actors as multipy

        connection = lock = None
        count = 1

        def open_all():
            global connection, lock, late, count

            def nested():
                global late
                late = threading.Lock()

            connection = sqlite3.connect(":memory:")
            nested()
            for count in (7, 8):
                pass
            with threading.Lock() as lock:
                lock = threading.Lock()
            return connection.execute("select 2").fetchone()

        def use():
            with lock, late:
                return connection.execute("select 1").fetchone(), count

        def use_by_name():
            return use()

        open_all()  # the host uses them, too
        with multipy.Pool(1, initializer=open_all) as pool:
            assert pool.submit(use).result() == ((1,), 8)
            assert pool.submit(lambda: use_by_name()).result() == ((1,), 8)
            connection = sqlite3.connect(":memory:")  # the host's next one is not the interpreter's either
            assert pool.submit(use).result() == ((1,), 8)
            assert pool.submit(open_all).result() == (2,)
        with multipy.Pool(1) as pool:
            try:
                pool.submit(use).result()
            except NameError as error:
                assert "lock" in str(error)
            else:
                raise AssertionError("nobody has made them here")
            assert pool.submit(open_all).result() == (2,)
            assert pool.submit(use).result() == ((1,), 8)
        """
    )


def test_a_function_that_reads_what_it_assigns_needs_it_and_the_error_names_what_cannot_be_sent(run_script):
    run_script(
        """
        import threading
        import multipy_actors as multipy

        lock = threading.Lock()
        other = threading.Lock()
        total = 5

        def add():
            global total
            total += 1
            return total

        def take(_):
            global lock
            if lock is None:
                lock = threading.Lock()
            return lock.acquire(False)

        def forget(_):
            global other
            del other

        def take_unless(condition):
            global lock
            if condition:
                lock = threading.Lock()
            return lock.acquire(False)

        def take_if_it_fails(how):
            global lock
            try:
                lock = how()
            except ValueError:
                return lock.acquire(False)

        def assign_and_call():
            global lock
            lock = 1
            return (lambda: lock)()

        NEEDED = (take, "lock"), (forget, "other"), (take_unless, "lock"), (take_if_it_fails, "lock")
        with multipy.Pool(1) as pool:
            assert pool.submit(add).result() == 6 and pool.submit(add).result() == 7 and total == 5
            for function, name in NEEDED:
                try:
                    pool.submit(function, 0).result()
                except multipy.SerializationError as error:
                    assert f"global '{name}'" in str(error), error
                else:
                    raise AssertionError(function)
            assert pool.submit(assign_and_call).result() == 1
        """
    )


def test_bodies_of_classes_inside_functions_have_the_globals_that_they_name(run_script):
    run_script(
        """
        import threading
        import multipy_actors as multipy

        limit = 5
        own = threading.Lock()  # a name that the body has for itself

        class Part:
            pass

        def noted(function):
            function.noted = True
            return function

        def make():
            class Whole:
                size: int = limit
                part: Part = Part()
                own = 1
                twice = own * 2
                limit = limit + 1

                @noted
                def method(self):
                    return limit

                class Inner:
                    size = limit

            sizes = Whole.size, Whole.limit, Whole.Inner.size, Whole().method()
            return *sizes, type(Whole.part) is Part, Whole.twice

        with multipy.Pool(1) as pool:
            assert pool.submit(make).result() == make() == (5, 6, 5, 5, True, 2)
            assert pool.submit(lambda: make()).result() == make()
        """
    )
