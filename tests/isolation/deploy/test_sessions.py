"""Sessions: one interpreter for oneself, its objects by name, and what becomes of them afterwards."""

from __future__ import annotations

import threading
from concurrent.futures import TimeoutError

import pytest

import multipy_actors as multipy


def in_a_thread(function):
    """Start a thread that runs `function`."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_objects_are_looked_up_called_and_fetched(pool):
    with pool.acquire() as session:
        counter = session.global_("collections", "Counter")("abracadabra")
        assert counter.value() == {"a": 5, "b": 2, "r": 2, "c": 1, "d": 1}
        assert counter.attr("most_common")(n=1).value() == [("a", 5)]
        assert counter.hasattr("elements") and not counter.hasattr("element")
        assert session.global_("os", "path.sep").value() == "/"
        assert repr(counter).startswith("<multipy.Obj ") and "pool-" in repr(counter)


def test_objects_of_the_session_are_arguments_at_any_depth(pool):
    with pool.acquire() as session:
        handle = session.global_("builtins", "object")()
        made = session.global_("builtins", "dict")(first=handle, deeper=[(handle, 1)])
        first = made.attr("__getitem__")("first")
        assert session.global_("operator", "is_")(handle, first).value()
        deeper = session.global_("operator", "itemgetter")(0)(made.attr("get")("deeper"))
        assert session.global_("operator", "contains")(deeper, handle).value()


def test_a_value_becomes_an_object_and_tensors_are_shared(pool):
    torch = pytest.importorskip("torch")
    tensor = torch.ones(3)
    with pool.acquire() as session:
        there = session.from_value({"tensor": tensor})
        session.global_("operator", "getitem")(there, "tensor").attr("add_")(1)
        assert tensor.tolist() == [2, 2, 2]
        model = session.global_("torch.nn", "Conv2d")(6, 2, 2, 1)
        result = model(torch.ones(1, 6, 6, 6)).value()
    assert result.shape == (1, 2, 5, 5) and result.requires_grad


def test_futures_and_handles_are_arguments_as_of_any_call(pool):
    with pool.acquire() as session:
        assert session.global_("operator", "add")(pool.submit(pow, 2, 3), 1).value() == 9
        handle = multipy.replicate({"a": 1}, pool)
        assert session.from_value(handle).attr("get")("a").value() == 1


def test_interpreters_are_different_ones_and_a_session_may_ask_for_one(pool):
    seen = []
    for interpreter in pool.interpreters:
        with interpreter.acquire() as session:
            assert session.interpreter is interpreter
            seen.append(session.global_("builtins", "id")(None).value())
    assert len(set(seen)) == len(seen)


def test_a_movable_is_a_copy_in_every_interpreter_that_shares_tensors(pool):
    torch = pytest.importorskip("torch")
    with pool.acquire() as session:
        made = session.global_("torch", "ones")(2, 2)
        moved = session.create_movable(made)
        address = made.attr("data_ptr")().value()
        assert session.from_movable(moved).attr("data_ptr")().value() == address
    assert moved.broadcast.data_ptr() == [address] * 3
    with pool.acquire() as session:
        assert torch.equal(session.from_movable(moved).value(), torch.ones(2, 2))
        module = session.create_movable(session.global_("torch.nn", "Linear")(2, 1))
    assert module(torch.ones(1, 2)).shape == (1, 1)
    assert module.hasattr("weight") and not module.hasattr("wait")


def test_what_cannot_be_pickled_is_not_movable(pool):
    with pool.acquire() as session:
        lock = session.global_("threading", "Lock")()
        with pytest.raises(multipy.SerializationError, match=r"cannot serialize _thread\.lock"):
            session.create_movable(lock)
        with pytest.raises(multipy.SerializationError):
            lock.value()
        assert lock.attr("acquire")().value()
        with pytest.raises(TypeError, match="an Obj, not int"):
            session.create_movable(3)
        with pytest.raises(TypeError, match="takes a handle, not Obj"):
            session.from_movable(lock)


def test_an_object_belongs_to_its_session_alone(pool):
    with pool.acquire() as session, pool.acquire() as other:
        mine = session.from_value([1])
        assert session.is_owner(mine) and not other.is_owner(mine)
        function = other.global_("builtins", "len")
        for misuse in (lambda: function(mine), lambda: other.create_movable(mine)):
            with pytest.raises(multipy.SessionError, match="is of another session than"):
                misuse()
        for misuse in (lambda: function([mine]), lambda: pool.submit(len, mine)):
            with pytest.raises(
                multipy.SerializationError, match="only be an argument of objects of its session"
            ):
                misuse()
        assert session.global_("builtins", "len")(mine).value() == 1


def test_nothing_is_done_with_a_session_that_has_ended(pool):
    with pool.acquire() as session:
        obj = session.from_value([1])
    session.close()
    for misuse in (
        obj.value,
        obj,
        lambda: obj.attr("append"),
        lambda: obj.hasattr("append"),
        lambda: session.global_("os", "sep"),
        lambda: session.from_value(1),
        lambda: session.create_movable(obj),
    ):
        with pytest.raises(multipy.SessionError, match="has ended"):
            misuse()
    assert repr(session).endswith(", ended>")


def test_a_movable_that_is_not_in_the_interpreter_is_refused(pool):
    with pool.interpreters[0].acquire() as session:
        moved = session.create_movable(session.from_value([1]))
        moved.unload(0)
        with pytest.raises(multipy.SessionError, match="no replica in <Interpreter 0"):
            session.from_movable(moved)


def test_objects_of_a_closed_pool_raise_and_do_no_harm():
    with multipy.Pool(1) as pool:
        session = pool.acquire()
        obj = session.from_value([1])
        handle = session.create_movable(obj)
    for misuse in (obj.value, lambda: session.global_("os", "sep"), pool.acquire):
        with pytest.raises(multipy.PoolClosedError):
            misuse()
    with pytest.raises(multipy.ActorClosedError):
        handle.append(2)
    session.close()


def test_an_object_that_is_dropped_is_forgotten_in_its_interpreter(pool):
    with pool.acquire() as session:
        made = session.global_("collections", "Counter")("aa")
        reference = session.global_("weakref", "ref")(made)
        assert reference().value() == {"a": 2}
        del made
        assert reference().value() is None


def test_errors_are_the_interpreters_with_its_traceback(pool):
    with pool.acquire() as session:
        with pytest.raises(ValueError, match="invalid literal") as raised:
            session.global_("builtins", "int")("x")
        assert isinstance(raised.value.__cause__, multipy.RemoteTraceback)
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            session.global_("no_such_module", "x")
        with pytest.raises(AttributeError, match="no_such_name"):
            session.global_("sys", "no_such_name")
        with pytest.raises(AssertionError, match="three is not four"):
            session.global_("builtins", "exec")("assert 3 == 4, 'three is not four'")


def test_others_wait_until_the_session_is_over_and_the_thread_that_has_it_does_not():
    with multipy.Pool(1) as pool:
        with pool.acquire() as session:
            others = []
            in_a_thread(lambda: others.append(pool.submit(int, "1"))).join()
            assert pool.submit(int, "2").result() == 2
            assert session.from_value(3).value() == 3
            assert multipy.replicate([4], pool).pop() == 4
            assert not others[0].done()
        assert others[0].result() == 1


def test_sessions_are_given_in_the_order_they_were_asked_for():
    with multipy.Pool(1) as pool:
        with pool.acquire():
            wishes = []
            for _ in range(3):
                in_a_thread(lambda: wishes.append(pool._native.request_session(None))).join()
        for index, wish in enumerate(wishes):
            assert wish.granted.wait(60)
            assert [later.granted.state for later in wishes[index + 1 :]] == ["pending"] * (2 - index)
            wish.end()


def test_waiting_for_an_interpreter_has_a_limit():
    with multipy.Pool(1) as pool, pool.acquire():
        raised = []

        def want():
            with pytest.raises(TimeoutError, match=r"was free within 0\.01 seconds") as error:
                pool.acquire(timeout=0.01)
            raised.append(error)

        in_a_thread(want).join()
        assert raised


def test_a_thread_may_have_several_sessions_even_of_one_interpreter():
    with multipy.Pool(1) as pool, pool.acquire() as first, pool.acquire() as second:
        assert first.interpreter is second.interpreter
        obj = first.from_value(1)
        with pool.interpreters[0].acquire() as third:
            assert third.from_value(3).value() == 3
        assert (obj.value(), second.from_value(2).value()) == (1, 2)
        with pytest.raises(multipy.SessionError):
            second.global_("builtins", "abs")(obj)


def test_a_session_that_is_dropped_warns_and_frees_the_interpreter(pool):
    sessions = [pool.interpreters[0].acquire()]
    with pytest.warns(ResourceWarning, match="was never closed"):
        sessions.clear()
    in_a_thread(lambda: pool.interpreters[0].submit(int).result()).join()


def test_actors_acquire_sessions_of_other_interpreters(pool):
    def where():
        with multipy.default_pool().acquire() as session:
            mine = multipy.current_interpreter().id
            return mine != session.interpreter.id, session.global_("os", "sep").value()

    assert pool.submit(where).result() == (True, "/")


def test_a_function_may_hold_the_interpreter_that_runs_it():
    def nested():
        with multipy.default_pool().acquire() as session:
            return session.from_value(20).value() + multipy.default_pool().submit(abs, -1).result()

    with multipy.Pool(1) as pool:
        assert pool.submit(nested).result() == 21
        assert pool.submit(abs, -2).result() == 2


def test_only_sessions_of_packages_have_a_self(pool):
    with pool.acquire() as session, pytest.raises(multipy.SessionError, match="a package has acquired"):
        _ = session.self


def test_a_forked_child_has_no_sessions_and_ctrl_c_ends_the_wait_for_one(run_script):
    script = """
        import os, signal, threading
        import multipy_actors as multipy

        class Signalled(threading.Thread):
            def run(self):
                with pool.acquire():
                    held.set()
                    waiting.wait()
                    os.kill(os.getpid(), signal.SIGINT)
                    over.wait()

        if __name__ == "__main__":
            held, waiting, over = threading.Event(), threading.Event(), threading.Event()
            with multipy.Pool(1) as pool:
                thread = Signalled()
                thread.start()
                held.wait()
                try:
                    waiting.set()
                    pool.acquire()
                except KeyboardInterrupt:
                    print("interrupted")
                over.set()
                thread.join()
                session = pool.acquire()
                obj = session.from_value(1)
                child = os.fork()
                if child == 0:
                    for use in obj.value, pool.acquire, session.close:
                        try:
                            use()
                        except multipy.MultipyError as error:
                            print(type(error).__name__, flush=True)
                    del obj, session
                    os._exit(0)
                os.waitpid(child, 0)
                print(obj.value())
                session.close()
            forgotten = multipy.Pool(1).acquire()
    """
    finished = run_script(script)
    assert finished.stdout.split() == ["interrupted", "SessionError", "PoolClosedError", "1"]
    assert "Traceback" not in finished.stderr


def test_sessions_cannot_be_sent(pool):
    with pool.acquire() as session, pytest.raises(multipy.SerializationError, match="cannot be sent"):
        pool.submit(print, session)


def test_inline_pools_have_sessions_too():
    with multipy.Pool(2, inline=True) as pool:
        with pool.acquire() as session, pool.acquire() as other:
            obj = session.global_("builtins", "list")([3, 1])
            obj.attr("sort")()
            assert obj.value() == [1, 3]
            with pytest.raises(multipy.SessionError):
                other.global_("builtins", "len")(obj)
            moved = session.create_movable(obj)
            assert session.from_movable(moved).value() == [1, 3]
        assert moved.pop() == 3
        with pytest.raises(multipy.SessionError, match="has ended"):
            obj.value()
    with pytest.raises(multipy.PoolClosedError):
        pool.acquire()
