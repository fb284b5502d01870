"""The end of the process: whatever interpreters do at that moment, it comes soon and without a crash."""

from __future__ import annotations

import signal
import time

import pytest

PREAMBLE = """
import atexit, ctypes, os, sys, threading, time
import multipy_actors as multipy

reader, writer = os.pipe()

def spin(writer):
    os.write(writer, b".")
    while True:
        pass

def block(writer):
    # A thousand seconds that no exception can end.
    os.write(writer, b".")
    ctypes.CDLL(None).sleep(1000)

def sleep(writer):
    os.write(writer, b".")
    time.sleep(1000)

def swallow(writer):
    os.write(writer, b".")
    while True:
        try:
            while True:
                pass
        except Exception:
            pass

def keep_a_thread(writer):
    threading.Thread(target=time.sleep, args=(1000,), name="forgotten").start()
    os.write(writer, b".")

def keep_a_daemon(writer):
    threading.Thread(target=spin, args=(writer,), daemon=True).start()
    os.write(writer, b".")
    return "done"
"""
SOON = 20.0  # seconds; the library's grace periods are a few


def finishes_soon(run_script, source, **options):
    start = time.monotonic()
    finished = run_script(PREAMBLE + source, timeout=60, **options)
    assert time.monotonic() - start < SOON
    assert "Fatal" not in finished.stderr, finished.stderr
    return finished


@pytest.mark.parametrize("call", ["spin", "block", "sleep", "swallow", "keep_a_daemon"])
def test_a_forgotten_busy_pool_warns_and_does_not_hold_up_the_end(run_script, call):
    finished = finishes_soon(
        run_script,
        f"""
pool = multipy.Pool(2)
futures = [pool.submit({call}, writer) for _ in range(4)]
os.read(reader, 1)
""",
    )
    assert "ResourceWarning" in finished.stderr and "never shut down" in finished.stderr


def test_a_forgotten_idle_pool_warns_and_runs_its_atexit_handlers(run_script):
    finished = finishes_soon(
        run_script,
        """
def register():
    atexit.register(print, "handler ran", flush=True)
pool = multipy.Pool(2)
multipy.get(pool.broadcast(register))
""",
    )
    assert sorted(finished.stdout.splitlines()) == ["(pool-1-0) handler ran", "(pool-1-1) handler ran"]
    assert finished.stderr.count("never shut down") == 1


def test_the_default_pool_needs_no_closing(run_script):
    finished = finishes_soon(
        run_script,
        """
@multipy.remote
def double(x):
    return 2 * x
print(double.submit(21).result())
""",
    )
    assert (finished.stdout, finished.stderr) == ("42\n", "")


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise SystemExit(3)", "os._exit(3)"])
def test_the_exit_status_is_the_programs_own(run_script, end):
    finishes_soon(
        run_script,
        f"pool = multipy.Pool(1)\nfuture = pool.submit(spin, writer)\nos.read(reader, 1)\n{end}\n",
        status=3,
    )


@pytest.mark.parametrize("options", [[], ["-W", "default"]])
@pytest.mark.parametrize("call", ["exec, 'while True: pass'", "time.sleep, 1000"])
def test_a_process_that_ctrl_c_ends_dies_of_it_whatever_its_interpreters_do(run_script, call, options):
    # Imports at exit change the status: as little as can be is imported before.
    script = f"""
import signal, time
import multipy_actors as multipy
pool = multipy.Pool(1)
future = pool.submit({call})
while not future.running():
    time.sleep(0.01)
signal.raise_signal(signal.SIGINT)
"""
    finished = run_script("", arguments=[*options, "-c", script], status=-signal.SIGINT, timeout=60)
    assert finished.stderr.count("KeyboardInterrupt") == 1, finished.stderr


def test_an_error_of_the_program_is_reported_as_ever(run_script):
    finished = finishes_soon(
        run_script,
        """
with multipy.Pool(1) as pool:
    future = pool.submit(spin, writer)
    os.read(reader, 1)
    raise LookupError("mine")
""",
        status=1,
    )
    assert finished.stderr.endswith("LookupError: mine\n")


def test_a_thread_left_in_an_interpreter_does_not_hold_up_closing(run_script):
    finished = finishes_soon(
        run_script,
        """
with multipy.Pool(1) as pool:
    pool.submit(keep_a_thread, writer).result()
print("closed")
""",
    )
    assert finished.stdout == "closed\n" and "'forgotten' still runs" in finished.stderr


def test_a_daemon_thread_left_in_an_interpreter_does_not_hold_up_closing(run_script):
    finished = finishes_soon(
        run_script,
        """
with multipy.Pool(2) as pool:
    print(pool.submit(keep_a_daemon, writer).result())
    print(pool.submit(keep_a_daemon, writer).result())
print("closed")
""",
    )
    assert finished.stdout == "done\ndone\nclosed\n"


def test_results_callbacks_and_tensors_may_outlive_everything(run_script):
    finished = finishes_soon(
        run_script,
        """
import numpy
def make():
    return numpy.ones(1000)
pool = multipy.Pool(2)
futures = [pool.submit(make) for _ in range(10)]
kept = [future.result() for future in futures[:5]]
futures[9].add_done_callback(lambda f: kept.append(f))
sys.modules["kept"] = [kept, futures, pool]
pool.shutdown()
""",
    )
    assert finished.stderr == ""


def test_a_pool_of_the_host_can_be_closed_from_an_atexit_handler(run_script):
    finished = finishes_soon(
        run_script,
        """
pool = multipy.Pool(1)
def close():
    print(pool.submit(abs, -2).result())
    pool.shutdown()
atexit.register(close)
""",
    )
    assert (finished.stdout, finished.stderr) == ("2\n", "")


def test_a_thread_of_the_host_that_waits_does_not_hold_up_the_end(run_script):
    finishes_soon(
        run_script,
        """
pool = multipy.Pool(1)
future = pool.submit(block, writer)
threading.Thread(target=future.result, daemon=True).start()
os.read(reader, 1)
""",
    )


def test_a_crash_of_an_atexit_handler_is_reported_and_harms_nobody(run_script):
    finished = finishes_soon(
        run_script,
        """
def register():
    atexit.register(lambda: 1 // 0)
with multipy.Pool(1) as pool:
    pool.submit(register).result()
print("closed")
""",
    )
    assert finished.stdout == "closed\n" and "ZeroDivisionError" in finished.stderr
