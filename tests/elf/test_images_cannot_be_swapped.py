"""Nobody, another user of the machine least of all, can put a file of theirs in the place of an image.

The skeleton that glibc opens has no name in any folder: it is an anonymous file, reached by its descriptor,
and gone when the image is made. The original is mapped from the very file that was read, or the load fails.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from building import EXTENSION
from isolated import in_pool


def test_loading_writes_no_name_into_the_temporary_folder(workshop, tmp_path, monkeypatch):
    library = workshop.library("private_own", "int answer(void) { return 7; }")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    before = os.stat(folder).st_mtime_ns  # changes whenever a name comes or goes

    def scenario(pool):
        return [
            f.result() for f in pool.broadcast(lambda: (ctypes.CDLL(library).answer(), os.environ["TMPDIR"]))
        ]

    assert in_pool(scenario, interpreters=3) == [(7, str(folder))] * 3
    assert os.stat(folder).st_mtime_ns == before


def test_loading_makes_no_name_anywhere(workshop, tmp_path):
    library = workshop.library("private_own", "int answer(void) { return 7; }")
    script = tmp_path / "script.py"
    script.write_text(f"""
import ctypes, multipy_actors as multipy
with multipy.Pool(2, private=["libprivate_*"]) as pool:
    assert [f.result() for f in pool.broadcast(lambda: ctypes.CDLL({library!r}).answer())] == [7, 7]
""")
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    calls = "symlink,symlinkat,link,linkat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,creat"
    log = tmp_path / "log"
    traced = subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-o",
            str(log),
            "-e",
            f"trace={calls},open,openat,memfd_create",
            sys.executable,
            "-B",
            str(script),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "ptrace" in traced.stderr:
        pytest.skip("processes may not be traced here")
    assert traced.returncode == 0, traced.stderr
    lines = log.read_text().splitlines()
    assert any("memfd_create(" in line and "libprivate_own.so" in line for line in lines)
    calls_made = [match for line in lines if (match := re.match(r"\d+\s+(\w+)\((.*)", line))]
    harmless = [call for call in calls_made if call[1] == "memfd_create" or call[1].startswith("open")]
    assert [call[0] for call in calls_made if call not in harmless or "O_CREAT" in call[2]] == []


def test_no_skeleton_stays_open_or_mapped(workshop):
    library = workshop.library("private_own", "int zeros[9000]; int answer(void) { return 7 + zeros[8999]; }")
    extension = workshop.extension("own", EXTENSION.replace("NAME", "own"))

    def scenario(pool):
        def use():
            handles = ctypes.CDLL(library), ctypes.CDLL(extension)
            links = []
            for descriptor in os.listdir("/proc/self/fd"):
                try:
                    links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
                except FileNotFoundError:
                    continue  # the one that listed the folder
            with open("/proc/self/maps") as maps:
                mapped = [line for line in maps if "memfd:" in line]
            return handles[0].answer(), [link for link in links if "memfd:" in link], mapped

        return [interpreter.submit(use).result() for interpreter in pool.interpreters]

    assert in_pool(scenario, interpreters=2) == [(7, [], [])] * 2


VERSION = """
int data = VERSION;
static const int table[20000] = {[0 ... 19999] = VERSION};
int code(void) { return VERSION; }
int answer(void) { return code() == data && table[0] == data && table[19999] == data ? data : -1; }
"""


def test_a_file_replaced_while_it_is_loaded_is_one_of_the_two_whole(workshop):
    versions = [
        Path(workshop.library("private_version", VERSION, f"-DVERSION={n}", folder=str(n))) for n in (1, 2)
    ]
    place = workshop.folder / "libprivate_place.so"
    shutil.copy(versions[0], place)

    def scenario(pool):
        done = threading.Event()

        def replace():
            while not done.is_set():
                for version in versions:
                    shutil.copy(version, f"{place}.new")
                    os.replace(f"{place}.new", place)

        def load():
            try:
                return ctypes.CDLL(str(place)).answer()
            except OSError as error:
                return str(error)

        thread = threading.Thread(target=replace)
        thread.start()
        try:
            return [future.result() for _ in range(3) for future in pool.broadcast(load)]
        finally:
            done.set()
            thread.join()

    for outcome in in_pool(scenario, interpreters=10):
        assert outcome in (1, 2)
