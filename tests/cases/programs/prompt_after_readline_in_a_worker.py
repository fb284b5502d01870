"""readline in a worker: a shared libreadline's hooks would point into an interpreter that has ended.

A prompt of the host, on a terminal, completes names before, beside and after a pool that used readline.
"""

import os
import pty
import subprocess
import sys
import threading

import multipy_actors as multipy


def complete(text, state):
    return "completed" if state == 0 and text == "compl" else None


def in_worker():
    import readline

    readline.set_completer(lambda text, state: "of the worker" if state == 0 else None)
    readline.parse_and_bind("tab: complete")
    readline.set_startup_hook(lambda: print("startup hook of the worker"))
    return readline.get_completer() is not None


def prompts():
    import readline

    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
    answers = [input("first> ")]
    with multipy.Pool(2) as pool:
        assert [future.result() for future in pool.broadcast(in_worker)] == [True, True]
        answers.append(input("second> "))
    answers.append(input("third> "))
    print("answers", answers)


def main():
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", __file__, "inside"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(follower)
    ended = threading.Timer(100, child.kill)
    ended.start()
    seen, prompt = b"", 0
    names = (b"first> ", b"second> ", b"third> ")
    while True:
        try:
            data = os.read(leader, 4096)
        except OSError:  # nobody has the terminal open any more
            break
        seen += data
        if prompt < 3 and names[prompt] in seen:
            os.write(leader, b"compl\t\n")
            prompt += 1
    status = child.wait()
    ended.cancel()
    print(seen.decode(errors="replace"))
    assert status == 0, status
    assert seen.count(b"'completed") == 3, seen
    assert b"startup hook of the worker" not in seen


if __name__ == "__main__":
    prompts() if sys.argv[1:] else main()
