"""Where a private interpreter comes from: its libpython, and a configuration that mirrors the host's.

Problem: a private Python must behave as the user's own does: the same version, the same packages, the same
flags. The host's command line and environment variables have been read already, so what they amounted to is
told field by field (the names are PyConfig's), and the interpreter itself reads neither.

Model: `find_libpython` finds the shared library of the running version, `boot_settings` lists the fields,
and an `Environment` adds package folders. An `Interpreter` is the user's view of one interpreter of a pool;
the pool owns it.

Threads: any; what is found is cached. The settings are read from `sys` when a pool is made; a later change of
the host's `sys.path` is told to the interpreters with the next call (see pool).
"""

from __future__ import annotations

import bisect
import functools
import os
import sys
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

from multipy_actors import _native
from multipy_actors.errors import InterpreterStartError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from multipy_actors.deploy.sessions import Session
    from multipy_actors.futures import Future
    from multipy_actors.pool.pool import Pool

T = TypeVar("T")
P = ParamSpec("P")

__all__ = ["Environment", "ImageInfo", "Interpreter", "PathEnvironment", "find_libpython"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ImageInfo(NamedTuple):
    """How one interpreter came to a library.

    `path` is the file, `private` says whether the interpreter has an image of its own of it and `reason` why,
    in words. `address` is where it lies and `size` how much address space it covers, in bytes; images of
    one file share its text, so `size` is not memory used.
    """

    path: str
    private: bool
    reason: str
    address: int
    size: int


def written_bytes(images: Sequence[ImageInfo]) -> dict[int, int]:
    """Return how many bytes of memory of its own each image has, by its address; from /proc/self/smaps."""
    sizes = {image.address: 0 for image in images}
    ordered = sorted(images, key=lambda image: image.address)
    starts = [image.address for image in ordered]
    owner: ImageInfo | None = None
    with open("/proc/self/smaps") as lines:
        for line in lines:
            name, _, rest = line.partition(":")
            if name == "Anonymous" and owner is not None:
                sizes[owner.address] += int(rest.split()[0]) * 1024
            elif "-" in (extent := line.split(maxsplit=1)[0]):
                start = int(extent.partition("-")[0], 16)
                index = bisect.bisect_right(starts, start) - 1
                found = ordered[index] if index >= 0 else None
                owner = found if found is not None and start < found.address + found.size else None
    return sizes


class Environment:
    """What interpreters see of the installation: by default just what the host sees.

    Subclass it and override `search_paths` to change where they import from.
    """

    def search_paths(self, host: Sequence[str]) -> list[str]:
        """Return the interpreter's `sys.path`, given the host's."""
        return list(host)


class PathEnvironment(Environment):
    """The host's environment with more package folders, searched first."""

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        """Put `paths` before the host's `sys.path`."""
        self.paths = [os.path.abspath(os.fspath(path)) for path in paths]

    def search_paths(self, host: Sequence[str]) -> list[str]:
        """Return `paths`, then the host's."""
        return [*self.paths, *host]


class Interpreter:
    """One private interpreter of a pool.

    Attributes: `id` counts from 0 within the pool.
    """

    def __init__(self, pool: Pool, id: int) -> None:
        """For Pool alone; use `pool.interpreters`."""
        self._pool = pool
        self.id = id

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn(*args, **kwargs)` in this interpreter, after what was submitted to it before."""
        return self._pool._submit_to(self.id, fn, args, kwargs)

    def acquire(self, timeout: float | None = None) -> Session:
        """Wait until it has nothing else to do, and hold it: see `Pool.acquire`."""
        return self._pool._acquire(self.id, timeout)

    def statistics(self) -> dict[str, float]:
        """Calls `done`, `failed` and `queued`, `busy_seconds`, `restarts`, and `gpu_bytes` for tensors.

        `busy_seconds` is for how long, up to now, it has been at calls or its event loop has run code; a
        coroutine that waits counts nothing (on an event loop that is not asyncio's own, until it has ended).
        """
        return self._pool._native.statistics(self.id)

    def __repr__(self) -> str:
        """Name the pool and the number."""
        return f"<Interpreter {self.id} of {self._pool!r}>"


@functools.cache
def find_libpython() -> str:
    """Return the path of the shared libpython of the running Python's version.

    It is the one that Python runs on or, if that is inside the executable, the one sysconfig knows of, beside
    it or from the distribution. Raises InterpreterStartError, naming the package to install, if there
    is none.
    """
    loaded = _native.loaded_libpython()
    if loaded is not None and os.path.isfile(loaded):
        return os.path.realpath(os.fsdecode(loaded))

    import sysconfig  # which reads how Python was built, and that takes a while

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    abiflags = getattr(sys, "abiflags", "")
    names = [sysconfig.get_config_var("INSTSONAME"), sysconfig.get_config_var("LDLIBRARY")]
    names += [f"libpython{version}{abiflags}.so.1.0", f"libpython{version}{abiflags}.so"]
    names = [name for name in dict.fromkeys(names) if name and ".so" in name]
    # Where sysconfig was interrupted as it read them, by want of memory say, it has no variables for good.
    multiarch = sysconfig.get_config_var("MULTIARCH") or getattr(sys.implementation, "_multiarch", "")
    folders = [
        sysconfig.get_config_var("LIBDIR"),
        os.path.join(sys.base_exec_prefix, "lib"),
        os.path.join(sys.base_exec_prefix, "lib", multiarch),
        os.path.join("/usr/lib", multiarch),
        "/usr/lib64",
        sysconfig.get_config_var("LIBPL"),
    ]
    folders = [folder for folder in dict.fromkeys(folders) if folder]
    for folder in folders:
        for name in names:
            path = os.path.realpath(os.path.join(folder, name))
            if os.path.isfile(path):
                return str(path)
    raise InterpreterStartError(
        f"no shared libpython{version} for {sys.executable}: looked for {', '.join(names)} in "
        f"{', '.join(folders)}. On Debian and Ubuntu install the package libpython{version}, on Fedora "
        f"python3-libs; with pyenv reinstall Python with PYTHON_CONFIGURE_OPTS=--enable-shared."
    )


def boot_settings(search_paths: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Return the PyConfig fields of a private interpreter like this one that imports from `search_paths`."""
    flags = sys.flags
    settings: list[tuple[str, object]] = [
        ("utf8_mode", flags.utf8_mode),
        ("dev_mode", int(flags.dev_mode)),
        ("isolated", 0),
        ("use_environment", 0),
        ("safe_path", 1),  # the host's first entry of sys.path is in search_paths already
        ("site_import", int(not flags.no_site)),
        ("user_site_directory", int(not flags.no_user_site)),
        ("optimization_level", flags.optimize),
        ("write_bytecode", int(not sys.dont_write_bytecode)),
        ("bytes_warning", flags.bytes_warning),
        ("program_name", sys.executable or "python3"),
        ("executable", sys.executable or "python3"),
        ("base_executable", getattr(sys, "_base_executable", None) or sys.executable or "python3"),
        ("prefix", sys.prefix),
        ("exec_prefix", sys.exec_prefix),
        ("base_prefix", sys.base_prefix),
        ("base_exec_prefix", sys.base_exec_prefix),
        ("platlibdir", sys.platlibdir),
        ("filesystem_encoding", sys.getfilesystemencoding()),
        ("filesystem_errors", sys.getfilesystemencodeerrors()),
    ]
    if stdlib_dir := getattr(sys, "_stdlib_dir", None):
        settings.append(("stdlib_dir", stdlib_dir))
    if sys.pycache_prefix:
        settings.append(("pycache_prefix", sys.pycache_prefix))
    if sys.__stdout__ is not None:
        settings.append(("stdio_encoding", sys.__stdout__.encoding))
        settings.append(("stdio_errors", sys.__stdout__.errors or "strict"))
    seed = "random" if flags.ignore_environment else os.environ.get("PYTHONHASHSEED", "random")
    settings.append(("hash_seed", _common_hash_seed() if seed in ("", "random") else seed))
    settings += [("module_search_paths", path) for path in search_paths]
    settings += [("argv", arg) for arg in getattr(sys, "argv", None) or [""]]
    settings += [("orig_argv", arg) for arg in sys.orig_argv]
    settings += [("warnoptions", option) for option in sys.warnoptions]
    settings += [
        ("xoptions", name if value is True else f"{name}={value}") for name, value in sys._xoptions.items()
    ]
    return [(name.encode(), os.fsencode(str(value))) for name, value in settings]


@functools.cache
def _common_hash_seed() -> int:
    """Draw a seed for all interpreters, so that what one sorts into buckets by hash, the others find there.

    That of the host itself cannot be read.
    """
    return int.from_bytes(os.urandom(4), "little") or 1  # 0 would turn randomisation off


def usable_cpus() -> int:
    """Return how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0))


def thread_variables(threads: int | str, interpreters: int) -> list[tuple[bytes, bytes]]:
    """Return the variables that tell torch, OpenMP and BLAS of an interpreter how many threads to use."""
    if threads == "auto":
        if "OMP_NUM_THREADS" in os.environ:
            return []  # the others follow it
        threads = max(1, usable_cpus() // interpreters)
        wanted = [name for name in _THREAD_VARIABLES if name not in os.environ]
    else:
        wanted = list(_THREAD_VARIABLES)
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f'intra_op_threads must be a positive int or "auto", not {threads!r}')
    return [(name.encode(), str(threads).encode()) for name in wanted]
