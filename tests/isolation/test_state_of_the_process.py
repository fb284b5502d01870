"""What a process has one of is an interpreter's own, shared, or refused: the rows of the guide's table."""

from __future__ import annotations

import errno
import os
import sys

import pytest

import multipy_actors as multipy


@pytest.fixture
def pools():
    """Two pools of one interpreter each, which nobody has changed."""
    with multipy.Pool(1) as one, multipy.Pool(1) as other:
        yield one, other


def test_the_working_directory_and_the_umask_are_an_interpreters_own(pools, tmp_path):
    def change(folder):
        os.chdir(folder)
        return os.getcwd(), os.umask(0o27)

    def look(mask):
        return os.getcwd(), os.umask(mask)

    one, other = pools
    mask = os.umask(0o22)
    try:
        assert one.submit(change, str(tmp_path)).result() == (str(tmp_path), mask)
        assert other.submit(look, mask).result() == (os.getcwd(), mask)
        assert os.umask(0o22) == 0o22
    finally:
        os.umask(mask)
    assert one.submit(look, 0o27).result() == (str(tmp_path), 0o27)


def test_threads_and_programs_of_an_interpreter_share_its_working_directory(pools, tmp_path):
    def look(folder):
        import asyncio
        import subprocess
        import threading

        seen = []
        os.chdir(folder)
        thread = threading.Thread(target=lambda: seen.append(os.getcwd()))
        thread.start()
        thread.join()
        seen.append(asyncio.run(asyncio.to_thread(os.getcwd)))
        seen.append(subprocess.run(["pwd"], capture_output=True, text=True, check=True).stdout.strip())
        child = os.fork()
        if child == 0:
            os._exit(0 if os.getcwd() == folder else 1)
        return seen, os.waitpid(child, 0)[1]

    assert pools[0].submit(look, str(tmp_path)).result() == ([str(tmp_path)] * 3, 0)


def test_the_event_loop_of_an_interpreter_shares_its_working_directory(pools, tmp_path):
    @multipy.remote
    class Here:
        async def later(self):
            return os.getcwd()

        def change(self, folder):
            os.chdir(folder)

    here = Here.options(pool=pools[0]).remote()
    assert here.later() == os.getcwd()
    here.change(str(tmp_path))
    assert here.later() == str(tmp_path)


def test_a_pool_starts_in_the_directory_of_the_moment(pools, tmp_path, monkeypatch):
    before = os.getcwd()
    monkeypatch.chdir(tmp_path)
    with multipy.Pool(1) as pool:
        assert pool.submit(os.getcwd).result() == str(tmp_path)
    assert pools[0].submit(os.getcwd).result() == before


# Forbids unshare, as Docker does unless told otherwise.
WITHOUT_UNSHARE = """
import ctypes, os, platform, struct
number = {"x86_64": 272, "aarch64": 97}[platform.machine()]
program = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(len(program), ctypes.addressof(code)))) == 0, ctypes.get_errno()
"""


def test_where_the_system_gives_no_directories_of_their_own_a_change_is_refused(run_script):
    run_script(
        WITHOUT_UNSHARE
        + """
import subprocess
import multipy_actors as multipy

def change():
    os.chdir("/")

def start_elsewhere():
    return subprocess.run(["pwd"], cwd="/", capture_output=True, text=True, check=True).stdout

with multipy.Pool(1) as pool:
    here = os.getcwd()
    try:
        pool.submit(change).result()
    except OSError as error:
        assert "working directory is the process's" in str(error) and "Docker" in str(error), error
    else:
        raise AssertionError("it was changed")
    assert os.getcwd() == here
    assert pool.submit(start_elsewhere).result() == "/\\n"
"""
    )


def test_shared_libraries_read_and_write_the_environment_of_the_interpreter(pools):
    # libcrypto is shared; these are the functions that it reads variables by.
    def look(value):
        import ssl
        import threading

        os.environ["SSL_CERT_FILE"] = value
        stores = []

        def load():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.set_default_verify_paths()
            stores.append(context.cert_store_stats()["x509"])

        load()
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        return stores

    import ssl

    everything = ssl.get_default_verify_paths().openssl_cafile
    if not os.path.isfile(everything):
        pytest.skip("no certificates are installed")
    one, other = pools
    assert one.submit(look, "/nonexistent").result() == [0, 0]
    assert min(other.submit(look, everything).result()) > 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_default_verify_paths()
    assert context.cert_store_stats()["x509"] > 0


def start_all(variables):
    """Start a program in every way that there is, with `variables` set; return what each says of them."""
    import ctypes
    import subprocess
    import tempfile

    os.environ.update(variables)
    [name] = variables
    libc = ctypes.CDLL(None)
    command = f"echo ${name}; grep SigBlk /proc/self/status"
    words = [b"/bin/sh", b"-c", command.encode(), None]
    array = (ctypes.c_char_p * 4)(*words)
    file = os.open("/bin/sh", os.O_RDONLY)
    variables_of_ours = (ctypes.c_char_p * 2)(f"{name}={variables[name]}".encode(), None)
    ways = {
        "execl": lambda: libc.execl(words[0], *words),
        "execlp": lambda: libc.execlp(b"sh", *words),
        "execle": lambda: libc.execle(words[0], *words, variables_of_ours),
        "execv": lambda: libc.execv(words[0], array),
        "execvp": lambda: libc.execvp(b"sh", array),
        "execve": lambda: libc.execve(words[0], array, variables_of_ours),
        "execvpe": lambda: libc.execvpe(b"sh", array, variables_of_ours),
        "fexecve": lambda: libc.fexecve(file, array, variables_of_ours),
        "os.execv": lambda: os.execv("/bin/sh", ["sh", "-c", command]),
        "os.execvpe": lambda: os.execvpe("sh", ["sh", "-c", command], os.environ),
    }
    said = {}
    for way, start in ways.items():
        with tempfile.TemporaryFile() as out:
            child = os.fork()
            if child == 0:
                os.dup2(out.fileno(), 1)
                start()
                os._exit(99)
            assert os.waitpid(child, 0)[1] == 0, way
            out.seek(0)
            said[way] = out.read().decode().split()
    libc.popen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.popen(command.encode(), b"re"))
    line = ctypes.create_string_buffer(200)
    read = [libc.fgets(line, 200, stream) and line.value.decode().split() for _ in range(2)]
    said["popen"] = [*read[0], *read[1]]
    assert libc.pclose(stream) == 0
    said["subprocess"] = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=True
    ).stdout.split()
    with tempfile.NamedTemporaryFile("r") as out:
        assert os.system(f"({command}) > {out.name}") == 0
        said["system"] = out.read().split()
        actions = [(os.POSIX_SPAWN_OPEN, 1, out.name, os.O_WRONLY | os.O_TRUNC, 0o600)]
        child = os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ, file_actions=actions)
        assert os.waitpid(child, 0)[1] == 0
        out.seek(0)
        said["posix_spawn"] = out.read().split()
    os.close(file)
    return said


def test_programs_have_the_environment_of_the_interpreter_and_the_hosts_signals(pools):
    with open("/proc/thread-self/status") as status:
        [line] = [line for line in status if line.startswith("SigBlk")]
    said = pools[0].submit(start_all, {"MULTIPY_TEST_VARIABLE": "mine"}).result()
    assert said == {way: ["mine", *line.split()] for way in said}
    assert len(said) == 14 and "MULTIPY_TEST_VARIABLE" not in os.environ


def test_popen_can_be_written_to_and_tells_the_status(pools):
    def write():
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.popen.restype = ctypes.c_void_p
        first = ctypes.c_void_p(libc.popen(b"cat > /dev/null; exit 3", b"w"))
        # The second one must not keep the first one's pipe open.
        second = ctypes.c_void_p(libc.popen(b"cat > /dev/null; exit 4", b"w"))
        libc.fputs(b"text", first)
        statuses = [os.waitstatus_to_exitcode(libc.pclose(stream)) for stream in (first, second)]
        return statuses, libc.popen(b"true", b"rw"), ctypes.get_errno()

    assert pools[0].submit(write).result() == ([3, 4], None, errno.EINVAL)


def test_a_child_at_a_terminal_of_its_own_has_the_hosts_signals(pools):
    def start():
        import pty

        child, terminal = pty.fork()
        if child == 0:
            with open("/proc/self/status") as status:
                blocked = [line for line in status if line.startswith("SigBlk")]
            os.write(1, blocked[0].encode() if os.isatty(1) and os.getsid(0) == os.getpid() else b"no")
            os._exit(0)
        text = os.read(terminal, 100)
        status = os.waitpid(child, 0)[1]
        os.close(terminal)  # not before, as that hangs up on the child
        return text.decode().split(), status

    with open("/proc/thread-self/status") as status:
        [line] = [line for line in status if line.startswith("SigBlk")]
    assert pools[0].submit(start).result() == (line.split(), 0)


def limits():
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))  # as it is
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))


def limits_by_prlimit():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.prlimit(os.getpid(), resource.RLIMIT_CORE, (soft, hard))
    resource.prlimit(0, resource.RLIMIT_NOFILE, (100, 100))


def user():
    os.setuid(os.getuid())
    os.setresuid(-1, os.getuid(), -1)
    os.setuid(os.getuid() + 1)


def group():
    os.setgid(os.getgid())
    os.setregid(-1, os.getgid())
    os.setegid(os.getgid() + 1)


def groups():
    os.setgroups([os.getgid()])


def session():
    os.setsid()


def process_group():
    os.setpgid(0, os.getpgrp())
    os.setpgid(0, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (limits, "limits of resources"),
        (limits_by_prlimit, "limits of resources"),
        (user, "the user and the groups"),
        (group, "the user and the groups"),
        (groups, "the user and the groups"),
        (session, "the session and the process group"),
        (process_group, "the session and the process group"),
    ],
)
def test_what_would_change_the_process_is_refused_and_says_why(pool, change, told):
    import resource

    def state():
        return (
            os.getresuid(),
            os.getresgid(),
            os.getgroups(),
            os.getsid(0),
            os.getpgrp(),
            resource.getrlimit(7),
        )

    before = state()
    with pytest.raises(OSError, match=f"{told}.*process's") as caught:
        pool.submit(change).result()
    assert caught.value.errno == errno.ENOTSUP
    assert state() == before


def test_a_refusal_is_not_told_of_later_errors(pool):
    def look():
        import ctypes

        assert ctypes.CDLL(None).setsid() == -1
        try:
            os.listdir("/nonexistent")
        except OSError as error:
            first = str(error)
        return first, os.strerror(errno.ENOTSUP)

    first, second = pool.submit(look).result()
    assert "No such file" in first and "process's" not in second


def test_children_set_limits_and_sessions_of_their_own(pool):
    def start():
        import resource
        import subprocess

        def prepare():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.umask(0o77)

        run = subprocess.run(
            ["sh", "-c", "ulimit -c; umask; ps -o pid= -o sid= -p $$"],
            preexec_fn=prepare,
            start_new_session=True,
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stdout.split()

    core, mask, pid, sid = pool.submit(start).result()
    assert (core, mask, pid) == ("0", "0077", sid)


def test_processors_and_priorities_are_an_interpreters_own(pools):
    def change():
        own, process = {min(os.sched_getaffinity(0))}, os.getpid()
        before = os.getpriority(os.PRIO_PROCESS, process)
        os.sched_setaffinity(process, own)
        os.setpriority(os.PRIO_PROCESS, process, before + 1)
        return (
            os.sched_getaffinity(0) == os.sched_getaffinity(process) == own,
            os.getpriority(os.PRIO_PROCESS, 0) == os.getpriority(os.PRIO_PROCESS, process) == before + 1,
        )

    def look():
        return os.sched_getaffinity(0), os.sched_getaffinity(os.getpid()), os.getpriority(os.PRIO_PROCESS, 0)

    before = look()
    assert pools[0].submit(change).result() == (True, True)
    assert pools[1].submit(look).result() == before
    assert look() == before


def test_code_that_names_its_process_reaches_the_main_thread_of_its_interpreter(pools):
    def change():
        import threading

        own = {min(os.sched_getaffinity(0))}
        thread = threading.Thread(target=os.sched_setaffinity, args=(os.getpid(), own))
        thread.start()
        thread.join()
        return os.sched_getaffinity(0) == own

    assert pools[0].submit(change).result()


def test_hashes_of_texts_are_equal_in_all_interpreters(pools):
    one, other = pools
    assert one.submit(hash, "text").result() == other.submit(hash, "text").result()


def test_sys_flags_say_that_hashes_are_random(pool):
    assert pool.submit(lambda: sys.flags.hash_randomization).result() == sys.flags.hash_randomization


def test_numbers_and_links_of_the_process_are_the_hosts(pools, tmp_path):
    def look(folder):
        os.chdir(folder)
        return os.getpid(), os.readlink("/proc/self/cwd"), os.readlink("/proc/thread-self/cwd")

    here = os.readlink("/proc/self/cwd")
    assert pools[0].submit(look, str(tmp_path)).result() == (os.getpid(), here, str(tmp_path))


def test_pythons_own_limits_are_an_interpreters_own(pools):
    def change():
        import threading

        sys.setrecursionlimit(12345)
        sys.setswitchinterval(0.123)
        threading.stack_size(1 << 20)

    def look():
        import threading

        return sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()

    before = look()
    pools[0].submit(change).result()
    assert pools[0].submit(look).result()[0] == 12345
    assert look() == before and pools[1].submit(look).result()[2] == before[2]


def test_daemon_is_refused(pool):
    def become():
        import ctypes

        return ctypes.CDLL(None, use_errno=True).daemon(1, 1), ctypes.get_errno()

    assert pool.submit(become).result() == (-1, errno.ENOTSUP)


def test_the_stack_of_a_main_thread_is_as_large_as_the_limit_says(run_script):
    run_script(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_STACK, (24 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
        import multipy_actors as multipy
        def look():
            import ctypes
            libc = ctypes.CDLL(None)
            attributes, size = ctypes.create_string_buffer(64), ctypes.c_size_t()
            libc.pthread_self.restype = ctypes.c_ulong
            assert libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes) == 0
            assert libc.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
            return size.value
        with multipy.Pool(1) as pool:
            assert pool.submit(look).result() >= 24 << 20
        """
    )
