"""Where libpython is looked for, what an interpreter is told, and what happens if it cannot start."""

from __future__ import annotations

import os
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

import multipy_actors as multipy
from multipy_actors.pool.interpreter import boot_settings, find_libpython

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SHARED = f"libpython{VERSION}.so.1.0"


@pytest.fixture
def installation(monkeypatch, tmp_path):
    """Return a function that sets what sysconfig says; nothing of the real installation is found."""
    find_libpython.cache_clear()
    is_file = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: str(path).startswith(str(tmp_path)) and is_file(path))
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path / "base"))

    def say(**variables):
        monkeypatch.setattr(sysconfig, "get_config_var", variables.get)
        return tmp_path

    yield say
    find_libpython.cache_clear()


def make(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return str(path)


# libpython -------------------------------------------------------------------------------------------------


def test_the_libpython_that_is_found_is_one_of_this_version():
    path = find_libpython()
    assert os.path.isfile(path) and f"libpython{VERSION}" in os.path.basename(path)


def test_the_libpython_that_this_python_runs_on_comes_first():
    mapped = {
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libpython" in line
    }
    if not mapped:
        pytest.skip("this Python has its libpython inside the executable")
    find_libpython.cache_clear()
    assert find_libpython() in mapped


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"INSTSONAME": SHARED, "LIBDIR": "lib-of-sysconfig"}, f"lib-of-sysconfig/{SHARED}"),
        # libpython is inside the executable: sysconfig knows the archive, the shared twin is beside it.
        ({"INSTSONAME": f"libpython{VERSION}.a", "LIBDIR": "lib"}, f"lib/{SHARED}"),
        ({"INSTSONAME": f"libpython{VERSION}.a", "LIBDIR": "elsewhere"}, f"base/lib/{SHARED}"),
        ({"MULTIARCH": "x86_64-linux-gnu"}, f"base/lib/x86_64-linux-gnu/{SHARED}"),
        ({"LDLIBRARY": "libpython-vendor.so", "LIBPL": "config"}, "config/libpython-vendor.so"),
        ({"LIBDIR": "lib"}, f"lib/libpython{VERSION}.so"),
    ],
)
def test_libpython_is_found_where_installations_have_it(installation, tmp_path, variables, place):
    folders = ("LIBDIR", "LIBPL")
    installation(**{name: str(tmp_path / v) if name in folders else v for name, v in variables.items()})
    path = make(tmp_path / place)
    assert find_libpython() == path


def test_libpython_is_found_without_the_variables_of_sysconfig(installation, tmp_path):
    installation()
    path = make(tmp_path / "base" / "lib" / sys.implementation._multiarch / SHARED)
    assert find_libpython() == path


def test_a_symbolic_link_to_libpython_is_followed(installation, tmp_path):
    installation(INSTSONAME=SHARED, LIBDIR=str(tmp_path))
    path = make(tmp_path / "real" / "library.so")
    (tmp_path / SHARED).symlink_to(path)
    assert find_libpython() == path


def test_where_there_is_no_libpython_the_error_names_the_package_to_install(installation, tmp_path):
    installation(INSTSONAME=f"libpython{VERSION}.a", LIBDIR=str(tmp_path / "lib"))
    make(tmp_path / "lib" / f"libpython{VERSION}.a")
    with pytest.raises(multipy.InterpreterStartError) as caught:
        find_libpython()
    text = str(caught.value)
    assert f"install the package libpython{VERSION}" in text and "--enable-shared" in text
    assert str(tmp_path / "lib") in text and SHARED in text and sys.executable in text


def test_a_pool_without_libpython_fails_with_that_error(installation, recwarn):
    installation()
    with pytest.raises(multipy.InterpreterStartError, match="install the package"):
        multipy.Pool(1)
    assert not recwarn.list


def test_a_libpython_that_is_no_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("multipy_actors.pool.pool.find_libpython", lambda: make(tmp_path / SHARED))
    with pytest.raises(multipy.InterpreterStartError, match=SHARED):
        multipy.Pool(2)


def test_an_interpreter_that_cannot_find_its_standard_library_says_so(monkeypatch):
    monkeypatch.setattr("multipy_actors.pool.pool.boot_settings", lambda paths: boot_settings(["/nowhere"]))
    with pytest.raises(multipy.InterpreterStartError, match="init_fs_encoding"):
        multipy.Pool(1)


# Settings --------------------------------------------------------------------------------------------------


def values_of(name, paths=()):
    return [value for key, value in boot_settings(paths) if key == name.encode()]


def test_search_paths_are_told_in_their_order():
    assert values_of("module_search_paths", ["/b", "/a", "/ü"]) == [b"/b", b"/a", "/ü".encode()]


def test_the_hosts_flags_and_prefixes_are_told(monkeypatch):
    assert values_of("prefix") == [os.fsencode(sys.prefix)]
    assert values_of("base_prefix") == [os.fsencode(sys.base_prefix)]
    assert values_of("executable") == [os.fsencode(sys.executable)]
    assert values_of("optimization_level") == [str(sys.flags.optimize).encode()]
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert values_of("write_bytecode") == [b"0"]
    monkeypatch.setattr(sys, "pycache_prefix", "/tmp/cache")
    assert values_of("pycache_prefix") == [b"/tmp/cache"]


def test_arguments_and_options_are_told(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prog", "", "--ü"])
    assert values_of("argv") == [b"prog", b"", "--ü".encode()]
    monkeypatch.setattr(sys, "_xoptions", {"utf8": True, "frozen_modules": "off"})
    assert values_of("xoptions") == [b"utf8", b"frozen_modules=off"]
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    assert values_of("warnoptions") == [b"error"]


def test_a_host_without_arguments_or_streams_can_be_mirrored(monkeypatch):
    monkeypatch.delattr(sys, "argv")
    monkeypatch.setattr(sys, "__stdout__", None)
    assert values_of("argv") == [b""] and values_of("stdio_encoding") == []


def test_a_fixed_hash_seed_is_told(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert values_of("hash_seed") == [b"7"]


@pytest.mark.parametrize("seed", ["random", "", None])
def test_interpreters_have_one_random_hash_seed(monkeypatch, seed):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    if seed is not None:
        monkeypatch.setenv("PYTHONHASHSEED", seed)
    [told] = values_of("hash_seed")
    assert 0 < int(told) < 2**32
    assert values_of("hash_seed") == [told]


def test_hashes_agree_among_interpreters_of_all_pools(run_script):
    run_script(
        """
        import sys
        import multipy_actors as multipy
        def look():
            return hash("text"), sys.flags.hash_randomization
        with multipy.Pool(2) as pool, multipy.Pool(1) as other:
            first, *rest = multipy.get(pool.broadcast(look)) + multipy.get(other.broadcast(look))
            assert rest == [first] * 2 and first[1] == 1, (first, rest)
        """,
        PYTHONHASHSEED="random",
    )


def test_hashes_agree_where_the_seed_is_fixed(run_script):
    run_script(
        """
        import multipy_actors as multipy
        with multipy.Pool(2) as pool:
            assert multipy.get(pool.broadcast(hash, "text")) == [hash("text")] * 2
        """,
        PYTHONHASHSEED="42",
    )


@pytest.mark.parametrize("option", ["-O", "-OO", "-B", "-bb", "-I", "-S", "-Xdev", "-Xutf8", "-Werror"])
def test_interpreters_mirror_the_command_line(run_script, tmp_path, option):
    source = f"""
        import sys
        sys.path[:] = {sys.path!r}  # by hand: -I and -S do not look where the package is
        import multipy_actors as multipy

        def flag(name):
            return getattr(sys.flags, name)

        with multipy.Pool(1) as pool:
            for name in "optimize dont_write_bytecode bytes_warning no_site dev_mode utf8_mode".split():
                assert pool.submit(flag, name).result() == flag(name), name
            assert pool.submit(lambda: sys.warnoptions).result() == sys.warnoptions
            assert pool.submit(lambda: sys.path).result() == sys.path
    """
    script = tmp_path / "options.py"
    script.write_text(textwrap.dedent(source))
    run_script(None, arguments=[option, str(script)])


# Environments ----------------------------------------------------------------------------------------------


def test_path_environments_are_absolute_and_come_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    environment = multipy.PathEnvironment("a", tmp_path / "b")
    assert environment.paths == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert environment.search_paths(["/host"]) == [*environment.paths, "/host"]


def test_the_default_environment_is_the_hosts_path_copied():
    host = ["/x", "/y"]
    paths = multipy.Environment().search_paths(host)
    assert paths == host and paths is not host
