"""What is printed inside interpreters: whole lines on the host's streams, with a prefix that says whose."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import textwrap

import pytest

import multipy_actors as multipy

PREAMBLE = """
import os, sys, threading, warnings
import multipy_actors as multipy

@multipy.remote
class Embedder:
    def say(self, text, end="\\n", flush=False):
        print(text, end=end, flush=flush)

    def run(self, fn):
        return fn()
"""


def run(run_script, source, **options):
    return run_script(PREAMBLE + textwrap.dedent(source), **options)


def test_a_line_begins_with_actor_name_and_interpreter(run_script):
    finished = run(
        run_script,
        """
        with multipy.Pool(1, name="models") as pool:
            Embedder.options(pool=pool, name="minilm").remote().say("with a name")
            Embedder.options(pool=pool).remote().say("without")
            pool.submit(print, "of a function").result()
            multipy.replicate(Embedder(), pool).say("of an object")
        """,
    )
    assert finished.stdout.splitlines() == [
        "(Embedder 'minilm' models-0) with a name",
        "(Embedder models-0) without",
        "(models-0) of a function",
        "(Embedder models-0) of an object",
    ]


def test_the_prefix_can_be_left_out(run_script):
    finished = run(
        run_script,
        """
        multipy.init(interpreters=1, prefix_output=False)
        Embedder.remote().say("bare")
        multipy.shutdown()
        """,
    )
    assert finished.stdout == "bare\n"


def test_what_init_a_property_and_the_end_of_an_object_print_is_the_actors(run_script):
    finished = run(
        run_script,
        """
        class Talker:
            def __init__(self):
                print("begins")
            @property
            def name(self):
                print("is asked")
                return "x"
            def __del__(self):
                print("ends")
        with multipy.Pool(1) as pool:
            talker = multipy.remote(Talker).options(pool=pool).remote()
            assert talker.name == "x"
            del talker
        """,
    )
    lines = [f"(Talker pool-1-0) {word}" for word in ("begins", "is asked", "ends")]
    assert finished.stdout.splitlines() == lines


def test_coroutines_print_as_their_actor_and_threads_as_the_interpreter(run_script):
    finished = run(
        run_script,
        """
        import asyncio

        @multipy.remote
        class Async:
            async def say(self, text):
                await asyncio.sleep(0)
                print(text)
                await asyncio.to_thread(print, "in a thread of asyncio")
                thread = threading.Thread(target=print, args=("in a thread",))
                thread.start()
                thread.join()

        with multipy.Pool(1) as pool:
            Async.options(pool=pool).remote().say("coroutine")
        """,
    )
    assert finished.stdout.splitlines() == [
        "(Async pool-1-0) coroutine",
        "(Async pool-1-0) in a thread of asyncio",
        "(pool-1-0) in a thread",
    ]


def test_lines_of_many_interpreters_and_threads_stay_whole(run_script):
    # Long lines, in pieces, on one pipe for both streams: none is cut by another.
    finished = run(
        run_script,
        """
        def talk(who):
            def lines(stream, thread):
                for number in range(40):
                    print(who, thread, end=" ", file=stream)
                    print("x" * 9000, number, file=stream)
            threads = [threading.Thread(target=lines, args=(stream, index))
                       for index, stream in enumerate((sys.stdout, sys.stderr))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        os.dup2(1, 2)
        with multipy.Pool(3) as pool:
            for future in [pool.interpreters[i].submit(talk, i) for i in range(3)]:
                future.result()
        """,
    )
    seen = {}
    for line in finished.stdout.splitlines():
        found = re.fullmatch(r"\(pool-1-(\d)\) (\d) (\d) x{9000} (\d+)", line)
        assert found, line[:80]
        where, who, thread, number = map(int, found.groups())
        assert where == who
        seen.setdefault((who, thread), []).append(number)
    assert seen == {(who, thread): list(range(40)) for who in range(3) for thread in range(2)}


def test_a_line_without_end_is_shown_when_flushed_and_ended_before_others_write(run_script):
    finished = run(
        run_script,
        """
        with multipy.Pool(2) as pool:
            first, second = (Embedder.options(pool=pool, interpreter=i).remote() for i in range(2))
            first.say("waits for its end, ", end="")
            second.say("a line")
            first.say("which comes")
            first.say("shown at once", end="", flush=True)
            second.say("another line")
            first.say(" and continued")
            first.say("left open", end="")
        """,
    )
    assert finished.stdout.splitlines() == [
        "(Embedder pool-1-1) a line",
        "(Embedder pool-1-0) waits for its end, which comes",
        "(Embedder pool-1-0) shown at once",
        "(Embedder pool-1-1) another line",
        "(Embedder pool-1-0)  and continued",
        "(Embedder pool-1-0) left open",
    ]


def test_text_of_several_lines_has_a_prefix_on_each_but_empty_ones(run_script):
    finished = run(
        run_script,
        """
        with multipy.Pool(1) as pool:
            Embedder.options(pool=pool).remote().say("one\\n\\nthree")
        """,
    )
    assert finished.stdout == "(Embedder pool-1-0) one\n\n(Embedder pool-1-0) three\n"


def test_a_progress_bar_is_redrawn_without_a_prefix_and_makes_way_for_lines(run_script, tmp_path):
    run(
        run_script,
        f"""
        def draw(text):
            sys.stderr.write(text)
            sys.stderr.flush()

        file = os.open({str(tmp_path / "err")!r}, os.O_CREAT | os.O_WRONLY)
        os.dup2(file, 2)
        with multipy.Pool(2) as pool:
            first, second = pool.interpreters
            first.submit(draw, "\\r 10%").result()
            first.submit(draw, "\\r 20%").result()
            second.submit(print, "elsewhere").result()  # another file, where no bar is in the way
            second.submit(draw, "a message\\n").result()
            first.submit(draw, "\\r 30%").result()
            second.submit(draw, "\\r 5%").result()
            first.submit(draw, "\\r100%\\n").result()
        """,
    )
    assert (tmp_path / "err").read_bytes() == b"\r 10%\r 20%\n(pool-1-1) a message\n\r 30%\r 5%\r100%\n"


def test_tqdm_draws_its_bar(run_script, tmp_path):
    pytest.importorskip("tqdm")
    run(
        run_script,
        f"""
        def work():
            import tqdm
            for _ in tqdm.tqdm(range(3), mininterval=0):
                pass
        os.dup2(os.open({str(tmp_path / "err")!r}, os.O_CREAT | os.O_WRONLY), 2)
        with multipy.Pool(1) as pool:
            pool.submit(work).result()
        """,
    )
    drawn = (tmp_path / "err").read_bytes()
    bars = drawn.split(b"\r")
    assert (
        bars[0] == b"" and bars[1].startswith(b"  0%|") and b"100%|" in bars[-1] and bars[-1].endswith(b"\n")
    )
    assert b"pool-1" not in drawn


def test_warnings_and_uncaught_errors_of_threads_reach_stderr(run_script):
    finished = run(
        run_script,
        """
        def trouble():
            warnings.warn("careful")
            thread = threading.Thread(target=lambda: 1 / 0, name="worker")
            thread.start()
            thread.join()

        with multipy.Pool(1) as pool:
            pool.submit(trouble).result()
        """,
    )
    lines = finished.stderr.splitlines()
    assert finished.stdout == "" and all(line.startswith("(pool-1-0) ") for line in lines), finished.stderr
    assert "UserWarning: careful" in lines[0]
    assert "(pool-1-0) Exception in thread worker:" in lines[2]
    assert lines[-1] == "(pool-1-0) ZeroDivisionError: division by zero"


def test_output_goes_to_where_the_descriptor_leads_at_the_time(run_script, tmp_path):
    finished = run(
        run_script,
        f"""
        with multipy.Pool(1, prefix_output=False) as pool:
            kept = os.dup(1)
            file = os.open({str(tmp_path / "log")!r}, os.O_CREAT | os.O_WRONLY)
            os.dup2(file, 1)
            pool.submit(print, "to the file").result()
            os.dup2(kept, 1)
            pool.submit(print, "to the pipe").result()
        """,
    )
    assert finished.stdout == "to the pipe\n" and (tmp_path / "log").read_text() == "to the file\n"


def test_the_streams_have_what_packages_look_for():
    def look():
        import io
        import sys

        for stream, original, name in (
            (sys.stdout, sys.__stdout__, "<stdout>"),
            (sys.stderr, sys.__stderr__, "<stderr>"),
        ):
            assert stream is original and isinstance(stream, io.TextIOWrapper)
            assert stream.name == stream.buffer.name == name and stream.mode == "w"
            assert stream.writable() and not stream.readable() and not stream.closed
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
            stream.flush()
            assert stream.buffer.write(b"") == 0 and stream.buffer.raw.fileno() == stream.fileno()
        return sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.encoding, sys.stderr.errors

    with multipy.Pool(1) as pool:
        encoding = sys.__stdout__.encoding
        assert pool.submit(look).result() == (1, 2, encoding, "backslashreplace")


def test_bytes_written_to_the_buffer_are_lines_too(run_script):
    finished = run(
        run_script,
        """
        def write():
            sys.stdout.buffer.write(memoryview("Gr\\u00fc\\u00dfe\\n".encode()))
            print("caf\\u00e9")
            sys.stdout.close()
        with multipy.Pool(1) as pool:
            pool.submit(write).result()
        """,
    )
    assert finished.stdout == "(pool-1-0) Grüße\n(pool-1-0) café\n"


def test_an_error_of_the_stream_reaches_who_prints(run_script):
    finished = run(
        run_script,
        """
        def talk():
            try:
                print("into the void")
            except OSError as error:
                return type(error).__name__
        with multipy.Pool(1) as pool:
            reader, writer = os.pipe()
            os.dup2(writer, 1)
            os.close(writer)
            os.close(reader)
            print(pool.submit(talk).result(), file=sys.stderr)
            os.dup2(2, 1)
        """,
    )
    assert finished.stderr == "BrokenPipeError\n"


def test_a_forked_child_of_an_interpreter_can_print(run_script):
    finished = run(
        run_script,
        """
        def fork():
            child = os.fork()
            if child == 0:
                print("from the child", flush=True)
                os._exit(0)
            return os.waitpid(child, 0)[1]
        with multipy.Pool(1) as pool:
            assert pool.submit(fork).result() == 0
        """,
    )
    assert finished.stdout == "(pool-1-0) from the child\n"


def test_breakpoint_in_an_interpreter_says_what_to_do(pool):
    with pytest.raises(RuntimeError, match=r"breakpoint\(\).*inline=True"):
        pool.submit(breakpoint).result()


def test_breakpoint_does_what_its_variable_says(pool):
    def stop(hook):
        import os

        os.environ["PYTHONBREAKPOINT"] = hook
        try:
            return breakpoint(), breakpoint()
        finally:
            del os.environ["PYTHONBREAKPOINT"]

    assert pool.submit(stop, "0").result() == (None, None)
    assert pool.submit(stop, "builtins.dict").result() == ({}, {})
    assert pool.submit(stop, "os.getpid").result() == (os.getpid(),) * 2


@pytest.mark.parametrize("how", ["input", "read", "pdb", "buffer"])
def test_nothing_waits_for_input_even_at_a_terminal(how, tmp_path):
    # A terminal that nobody types at: whoever read from it would hang.
    source = """
    import multipy_actors as multipy

    def ask(how):
        import pdb, sys
        if how == "pdb":
            pdb.set_trace()
        return {"input": input, "read": sys.stdin.readline, "buffer": sys.stdin.buffer.read}[how]()

    with multipy.Pool(1) as pool:
        error = pool.submit(ask, HOW).exception(60)
        print("raised", type(error).__name__, "inline=True" in str(error))
    """
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source.replace("HOW", repr(how)))],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            timeout=60,
            cwd=tmp_path,
        )
        output = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0 and "raised UnsupportedOperation True" in output, output


def test_faulthandler_dumps_the_stack_of_an_interpreter(run_script):
    finished = run(
        run_script,
        """
        def dump_from_here():
            import faulthandler
            faulthandler.dump_traceback(file=sys.__stderr__)
            faulthandler.dump_traceback(all_threads=False)
        with multipy.Pool(1) as pool:
            pool.submit(dump_from_here).result()
        """,
    )
    assert finished.stderr.count("in dump_from_here") == 2, finished.stderr
    assert "Current thread" in finished.stderr or "Thread 0x" in finished.stderr
