"""Signals stay with the host, and Ctrl-C there interrupts at once whatever it waits for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

import multipy_actors as multipy

# A host that waits, and a call that sends Ctrl-C when the host does: it looks at the state of its thread.
PREAMBLE = """
import ctypes, os, signal, sys, threading, time
import numpy
import multipy_actors as multipy

ready = numpy.zeros(1, dtype=numpy.int64)

def interrupt_when_it_waits(ready, host):
    while not ready[0]:
        os.sched_yield()
    while True:
        with open(f"/proc/self/task/{host}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "S":
                break
    os.kill(os.getpid(), signal.SIGINT)

def interrupt_and_spin(ready, host):
    interrupt_when_it_waits(ready, host)
    while True:
        pass

def interrupt_and_block(ready, host):
    interrupt_when_it_waits(ready, host)
    ctypes.CDLL(None).sleep(1000)

host = threading.get_native_id()
"""


def disposition():
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    # Signals 32 and 33 are the C library's own; it handles them once there are threads.
    return [int(fields[name], 16) & ~(3 << 31) for name in ("SigIgn", "SigCgt")]


def test_a_handler_that_an_interpreter_sets_is_its_own(pool):
    def set_and_ask(number):
        def handler(*_):
            pass

        answers = []
        first = signal.getsignal(number)
        for action in (signal.SIG_IGN, handler, signal.SIG_DFL, first):
            before = signal.getsignal(number)
            answers += [signal.signal(number, action) is before, signal.getsignal(number) is action]
        signal.siginterrupt(number, False)
        return all(answers)

    before = disposition(), [signal.getsignal(number) for number in signal.valid_signals()]
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
        assert pool.submit(set_and_ask, number).result()
    assert before == (disposition(), [signal.getsignal(number) for number in signal.valid_signals()])


def test_an_interpreter_begins_with_the_actions_of_a_new_process(pool):
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGUSR1, signal.SIGCHLD]
    code = f"import signal; print([str(signal.getsignal(n)) for n in {[int(n) for n in numbers]}])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()

    def actions():
        return str([str(signal.getsignal(number)) for number in numbers])

    def plain(text):
        return re.sub("0x[0-9a-f]+", "", text)

    with multipy.Pool(1) as fresh:
        assert plain(fresh.submit(actions).result()) == plain(process)


@pytest.mark.parametrize("send", ["raise_signal", "pthread_kill"])
def test_what_an_interpreter_sends_to_itself_arrives_at_its_handler(pool, send):
    def send_and_handle():
        import threading

        received = []
        before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append((number, bool(frame))))
        try:
            if send == "raise_signal":
                signal.raise_signal(signal.SIGUSR1)
            else:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            signal.raise_signal(signal.SIGCHLD)  # ignored by default
        finally:
            signal.signal(signal.SIGUSR1, before)
        return received

    assert pool.submit(send_and_handle).result() == [(signal.SIGUSR1, True)]


def test_a_handler_runs_in_its_own_interpreter_alone(pool):
    def note():
        import builtins

        builtins.noted = []
        signal.signal(signal.SIGUSR2, lambda number, _: builtins.noted.append(number))

    def send():
        signal.raise_signal(signal.SIGUSR2)

    def noted():
        import builtins

        return builtins.noted

    multipy.get(pool.broadcast(note))
    pool.interpreters[1].submit(send).result()
    assert multipy.get(pool.broadcast(noted)) == [[], [signal.SIGUSR2]]


def test_ctrl_c_that_an_interpreter_sends_to_itself_is_a_keyboard_interrupt_there(pool):
    def interrupt(send):
        try:
            send()
            for _ in range(1000):
                pass
        except KeyboardInterrupt:
            return True
        return False

    def simulate():
        import _thread

        _thread.interrupt_main()

    assert pool.submit(interrupt, lambda: signal.raise_signal(signal.SIGINT)).result()
    assert pool.submit(interrupt, simulate).result()


def test_a_signal_whose_default_would_end_the_host_is_refused(pool):
    with pytest.raises(OSError, match="would end the process, which is the host's"):
        pool.submit(signal.raise_signal, signal.SIGTERM).result()


def test_an_alarm_is_the_interpreters_own(pool):
    def bounded(seconds):
        def stop(*_):
            raise TimeoutError("took too long")

        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            while True:
                pass
        except TimeoutError as error:
            return str(error), signal.getitimer(signal.ITIMER_REAL)

    def ticks(count):
        seen = []
        signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        while len(seen) < count:
            pass
        left, period = signal.setitimer(signal.ITIMER_REAL, 0)
        return 0 < left <= period == 0.01

    def replaced():
        signal.alarm(1000)
        return signal.alarm(0)

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    results = [pool.interpreters[index].submit(bounded, 0.05) for index in range(2)]
    assert multipy.get(results) == [("took too long", (0.0, 0.0))] * 2
    assert pool.submit(ticks, 5).result()
    assert pool.submit(replaced).result() in (999, 1000)
    with pytest.raises(OSError, match="only ITIMER_REAL"):
        pool.submit(signal.setitimer, signal.ITIMER_PROF, 1).result()


def test_an_alarm_without_a_handler_says_so_and_ends_nothing(run_script):
    finished = run_script(
        """
        import signal, time
        import multipy_actors as multipy

        def wait():
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            while signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0):
                pass
            return "alive"

        with multipy.Pool(1, name="clock") as pool:
            print(pool.submit(wait).result())
        """
    )
    assert finished.stdout == "alive\n"
    assert (
        finished.stderr
        == "multipy: the alarm of interpreter clock-0 went off, and it has no handler for SIGALRM\n"
    )


def test_a_forked_child_of_an_interpreter_has_its_handlers_and_not_the_hosts(run_script):
    run_script(
        """
        import os, signal
        import multipy_actors as multipy

        def fork(set_handler):
            if set_handler:
                signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(writer, b".")
                while True:
                    signal.pause()
            os.read(reader, 1)
            os.kill(pid, signal.SIGTERM)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        signal.signal(signal.SIGTERM, lambda *_: print("the host's"))
        with multipy.Pool(1) as pool:
            assert pool.submit(fork, True).result() == 7
        with multipy.Pool(1) as pool:
            assert pool.submit(fork, False).result() == -signal.SIGTERM
        """
    )


def test_exec_in_an_interpreter_does_not_replace_the_host(pool):
    with pytest.raises(OSError, match="exec would replace the process, which is the host's"):
        pool.submit(os.execv, "/bin/true", ["true"]).result()


def test_booting_interpreters_leaves_the_hosts_handlers_alone(run_script):
    run_script(
        """
        import signal
        import multipy_actors as multipy

        def disposition():
            with open("/proc/self/status") as file:
                fields = dict(line.split(":", 1) for line in file)
            # Signals 32 and 33 are the C library's own; it handles them once there are threads.
            return [int(fields[name], 16) & ~(3 << 31) for name in ("SigIgn", "SigCgt")]

        handlers = [signal.getsignal(n) for n in signal.valid_signals()]
        before = disposition()
        with multipy.Pool(2) as pool:
            multipy.get(pool.broadcast(abs, 1))
            assert disposition() == before
            pool.submit(lambda: __import__("subprocess").run(["true"])).result()
            assert disposition() == before
        assert disposition() == before
        assert handlers == [signal.getsignal(n) for n in signal.valid_signals()]
        """
    )


@pytest.mark.parametrize("handler", ["SIG_DFL", "SIG_IGN", "default_int_handler"])
def test_asyncio_runs_in_interpreters_however_the_host_takes_ctrl_c(run_script, handler):
    run_script(
        f"""
        import asyncio, signal
        import multipy_actors as multipy

        def use_asyncio():
            return asyncio.run(asyncio.sleep(0, 42))

        signal.signal(signal.SIGINT, signal.{handler})
        with multipy.Pool(1) as pool:
            assert pool.submit(use_asyncio).result() == 42
        assert signal.getsignal(signal.SIGINT) is signal.{handler}
        """
    )


def test_signals_of_the_process_are_handled_by_the_host(pool):
    received = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    try:
        multipy_pid = pool.submit(lambda: os.kill(os.getpid(), signal.SIGUSR1) or os.getpid()).result()
        pool.submit(abs, 1).result()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert multipy_pid == os.getpid() and received == [signal.SIGUSR1]


def test_a_child_process_started_inside_can_handle_signals(pool):
    def child():
        code = "import signal, os; signal.signal(15, lambda *_: os._exit(7)); os.kill(os.getpid(), 15)"
        return subprocess.run([sys.executable, "-c", code]).returncode

    assert pool.submit(child).result() == 7


def test_a_child_process_started_inside_has_no_signals_blocked(pool):
    def blocked():
        code = "import signal; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()

    assert pool.submit(blocked).result() == "0"


def test_ctrl_c_interrupts_result_at_once(run_script):
    finished = run_script(
        PREAMBLE
        + """
with multipy.Pool(1) as pool:
    future = pool.submit(interrupt_when_it_waits, ready, host)
    other = pool.submit(abs, -1)
    reader, writer = os.pipe()
    never = pool.submit(os.read, reader, 1)
    ready[0] = 1
    try:
        never.result()
    except KeyboardInterrupt:
        print("interrupted")
    os.write(writer, b"x")
    print(never.result(), other.result())
"""
    )
    assert finished.stdout == "interrupted\nb'x' 1\n" and finished.stderr == ""


@pytest.mark.parametrize(
    "wait",
    [
        "handle.wait()",
        "multipy.get([future])",
        "concurrent.futures.wait([future])",
        "next(concurrent.futures.as_completed([future]))",
        "pool.shutdown()",
        "future.exception()",
        "next(pool.map(abs, [1]))",
        "asyncio.run(awaited(future))",
        "multipy.wait([future])",
        "multipy.wait([future, pool.submit(abs, -1)], num_returns=2)",
        "next(handle.map_wait.map([1]))",
        "handle.broadcast.wait()",
        "handle.total",
        "handle.__enter__()",
        "next(handle.items.stream())",
        "asyncio.run(read(handle.items.stream()))",
        "[full.map_wait.submit(number) for number in range(3)]",
        "[full.on(0).map_wait.submit(number) for number in range(3)]",
        "full.broadcast.map_wait(1)",
        "multipy.replicate(Slow(), pool=pool)",
        "multipy.Pool(1, initializer=spin)",
        "pool.__exit__(None, None, None)",
    ],
)
def test_ctrl_c_interrupts_every_way_to_wait(run_script, wait):
    finished = run_script(
        PREAMBLE
        + f"""
import asyncio, concurrent.futures

@multipy.remote
class Waiter:
    def wait(self):
        return os.read(reader, 1)

    def map_wait(self, item):
        return os.read(reader, 1)

    def items(self):
        yield os.read(reader, 1)

    @property
    def total(self):
        return os.read(reader, 1)

    def __enter__(self):
        return os.read(reader, 1)

    def __exit__(self, *error):
        pass

class Slow:
    def __getstate__(self):
        return True

    def __setstate__(self, state):
        os.read(reader, 1)

async def awaited(future):
    return await future

async def read(stream):
    return [item async for item in stream]

def spin():
    while True:
        pass

reader, writer = os.pipe()
pool = multipy.Pool(1)
pool.submit(interrupt_when_it_waits, ready, host)
handle = Waiter.options(pool=pool).remote()
full = Waiter.options(pool=pool, max_pending=1).remote()
future = pool.submit(os.read, reader, 1)
try:
    ready[0] = 1
    {wait}
except KeyboardInterrupt:
    print("interrupted")
os.close(writer)
pool.shutdown()
"""
    )
    assert finished.stdout == "interrupted\n", finished.stderr


def test_ctrl_c_is_not_lost_however_early_in_the_wait_it_comes(run_script):
    run_script(
        """
        import os, signal, threading
        import multipy_actors as multipy

        def keep_the_gil_busy():
            while not over:
                pass

        def send():
            for number in range(200):
                go.acquire()
                for _ in range(number % 20 * 50):  # from before the wait to well into its sleep
                    pass
                os.kill(os.getpid(), signal.SIGINT)

        over, go = False, threading.Semaphore(0)
        with multipy.Pool(1) as pool:
            threads = [threading.Thread(target=target) for target in (keep_the_gil_busy, send)]
            for thread in threads:
                thread.start()
            reader, writer = os.pipe()
            never = pool.submit(os.read, reader, 1)
            for _ in range(200):
                try:
                    go.release()
                    never.result(timeout=30)
                except KeyboardInterrupt:
                    pass
            over = True
            for thread in threads:
                thread.join()
            os.write(writer, b"x")
        """
    )


@pytest.mark.parametrize("call", ["interrupt_and_spin", "interrupt_and_block"])
def test_ctrl_c_in_a_with_block_ends_the_program_soon(run_script, call):
    finished = run_script(
        PREAMBLE
        + f"""
with multipy.Pool(2) as pool:
    future = pool.submit({call}, ready, host)
    queued = [pool.submit(time.sleep, 1000) for _ in range(4)]
    ready[0] = 1
    future.result()
""",
        status=-signal.SIGINT,
        timeout=30,
    )
    assert "KeyboardInterrupt" in finished.stderr
    assert "Exception ignored" not in finished.stderr and "Fatal" not in finished.stderr


def test_ctrl_c_interrupts_an_endless_loop_in_the_interpreter(run_script):
    finished = run_script(
        PREAMBLE
        + """
try:
    with multipy.Pool(1) as pool:
        future = pool.submit(interrupt_and_spin, ready, host)
        ready[0] = 1
        future.result()
except KeyboardInterrupt:
    print(type(future.exception(timeout=0)).__name__)
"""
    )
    assert finished.stdout == "Interrupted\n" and finished.stderr == ""
