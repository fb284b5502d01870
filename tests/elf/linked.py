"""Three C++ libraries that together use some of everything, linked by any compiler and linker in any style.

`base` <- `middle` <- `top`: an exception thrown in the first passes the second and is caught in the third; a
thread-local of the first is counted up by the others; then constructors and destructors in order, an IFUNC, a
versioned function, weak and unique symbols. `report` of `top` tells in one line what came of it.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HEADER = r"""
#include <stdexcept>
#include <string>
struct __attribute__((visibility("default"))) Failure : std::runtime_error {
  explicit Failure(int n) : std::runtime_error("failure " + std::to_string(n)), number(n) {}
  int number;
};
struct __attribute__((visibility("default"))) Shape { virtual ~Shape(); };
struct __attribute__((visibility("default"))) Round : Shape { ~Round(); };
inline int *unique() { static int value = 5; return &value; }
extern __thread int counter;
Shape *make_shape();
void throws(int n);
int passes(int n);
int *unique_of_base();
extern "C" {
void constructed(const char *name);
void destructed(const char *name);
int chosen();
int overridden();
}
#define ANNOUNCED(name) \
  __attribute__((constructor)) static void start() { constructed(name " "); } \
  __attribute__((destructor)) static void stop() { destructed(name " "); }
"""
BASE = r"""
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "set.h"
static char order[64], path[4096];
extern "C" {
void constructed(const char *name) { strcat(order, name); }
const char *order_of_constructors() { return order; }
void destructors_to(const char *file) { strcpy(path, file); }
void destructed(const char *name) {
  int file = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (write(file, name, strlen(name)) < 0) strcat(order, "?");
  close(file);
}
int number_1() { return 1; }
int number_2() { return 2; }
}
__asm__(".symver number_1,number@BASE_1\n.symver number_2,number@@BASE_2");
ANNOUNCED("base")
__thread int counter = 10;
Shape::~Shape() {}
Round::~Round() {}
Shape *make_shape() { return new Round; }
int *unique_of_base() { return unique(); }
void throws(int n) { throw Failure(n); }
"""
BASE_VERSIONS = "BASE_1 { global: *; }; BASE_2 { global: number; } BASE_1;"
MIDDLE = r"""
#include "set.h"
static int unwound;
struct Guard { ~Guard() { ++unwound; ++counter; } };
int passes(int n) {
  Guard guard;
  throws(n);
  return unwound;
}
int how_many_unwound() { return unwound; }
extern "C" {
static int answer() { return 42; }
__attribute__((visibility("hidden"))) int (*choose())() { return answer; }
int chosen() __attribute__((ifunc("choose")));
__attribute__((weak)) int nobody();
int has_nobody() { return nobody != nullptr; }
__attribute__((weak)) int overridden() { return 1; }
int asks_overridden() { return overridden(); }
}
ANNOUNCED("middle")
"""
TOP = r"""
#include <stdio.h>
#include "set.h"
int how_many_unwound();
extern "C" {
int number(), old_number(), has_nobody(), asks_overridden();
const char *order_of_constructors();
int overridden() { return 2; }
}
__asm__(".symver old_number,number@BASE_1");
static int (*const pointer)() = chosen;
struct PerThread { int value; PerThread() : value(7) {} };
static thread_local PerThread own;
ANNOUNCED("top")
static int caught(int n) {
  try { return passes(n); }
  catch (const Failure &failure) {
    return failure.what() == "failure " + std::to_string(n) ? failure.number : -1;
  }
}
extern "C" const char *report() {
  static char text[256];
  Shape *shape = make_shape();
  int exception = caught(7);
  snprintf(text, sizeof text,
           "caught %d unwound %d counter %d own %d number %d %d ifunc %d %d weak %d %d unique %d "
           "cast %d order %s",
           exception, how_many_unwound(), counter, ++own.value, number(), old_number(), chosen(), pointer(),
           has_nobody(), asks_overridden(), unique() == unique_of_base(),
           dynamic_cast<Round *>(shape) != nullptr, order_of_constructors());
  delete shape;
  return text;
}
"""


def expected(unwound: int, counter: int, own: int) -> str:
    """What `report` says when the images are as they should be; the arguments are what it counts."""
    return (
        f"caught 7 unwound {unwound} counter {counter} own {own} number 2 1 ifunc 42 42 weak 0 2 unique 1 "
        "cast 1 order base middle top "
    )


# What can be chosen when linking, and which linkers understand it.
BINDING = {"now": "-Wl,-z,now", "lazy": "-Wl,-z,lazy"}
RELRO = {"relro": "-Wl,-z,relro", "norelro": "-Wl,-z,norelro"}
HASH = {style: f"-Wl,--hash-style={style}" for style in ("gnu", "sysv", "both")}
PAGE = {size: f"-Wl,-z,max-page-size={size}" for size in ("4096", "65536", "2097152")}
CODE = {"separate": "-Wl,-z,separate-code", "mixed": "-Wl,-z,noseparate-code"}
PLAIN = {"plain": "-Wl,-z,combreloc"}
CHOICES = {
    "bfd": (BINDING, RELRO, HASH, PAGE, CODE, {**PLAIN, "relr": "-Wl,-z,pack-relative-relocs"}),
    "gold": (BINDING, RELRO, HASH, PAGE),
    "lld": (
        BINDING,
        RELRO,
        HASH,
        PAGE,
        {**CODE, "separate segments": "-Wl,-z,separate-loadable-segments"},
        {**PLAIN, "relr": "-Wl,--pack-dyn-relocs=relr"},
    ),
}


def styles(linker: str) -> list[tuple[str, ...]]:
    """Few combinations of the linker's choices, in which every two choices meet."""
    choices = CHOICES[linker]
    pairs = itertools.combinations(range(len(choices)), 2)
    missing = {((a, x), (b, y)) for a, b in pairs for x in choices[a] for y in choices[b]}
    rows = []
    while missing:
        by_gain = {
            row: len(missing.intersection(itertools.combinations(enumerate(row), 2)))
            for row in itertools.product(*choices)
        }
        rows.append(max(by_gain, key=by_gain.__getitem__))
        missing.difference_update(itertools.combinations(enumerate(rows[-1]), 2))
    return rows


def absent_tool(compiler: str, linker: str) -> str | None:
    """The first program that this machine lacks."""
    programs = (compiler, f"{compiler}++".replace("gcc++", "g++"), f"ld.{linker}")
    return next((program for program in programs if not shutil.which(program)), None)


class Linked:
    """The set in all styles of one compiler and linker, each in a folder of its own; compiled once."""

    def __init__(self, folder: Path, compiler: str, linker: str) -> None:
        self.folder = folder
        self._linker = linker
        self._compiler = f"{compiler}++".replace("gcc++", "g++")
        (folder / "set.h").write_text(HEADER)
        (folder / "base.map").write_text(BASE_VERSIONS)
        sources = {"base": BASE, "middle": MIDDLE, "top": TOP}
        for name, source in sources.items():
            (folder / f"{name}.cpp").write_text(source)
        with ThreadPoolExecutor() as threads:
            list(threads.map(self._compile, sources))
            self.outcomes = dict(zip(styles(linker), threads.map(self._link, styles(linker)), strict=True))

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self._compiler, *arguments], capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def _compile(self, name: str) -> None:
        self._run("-c", "-fPIC", "-O1", "-w", f"{name}.cpp", "-o", f"{name}.o")

    def _link(self, style: tuple[str, ...]) -> Path | Exception:
        flags = [choice[name] for choice, name in zip(CHOICES[self._linker], style, strict=True)]
        folder = self.folder / "-".join(style)
        folder.mkdir()
        try:
            return self.link(folder, *flags)
        except AssertionError as error:
            return error

    def link(self, folder: Path, *flags: str) -> Path:
        """Link the three libraries with `flags` into `folder`; return it."""
        shared = ["-shared", f"-fuse-ld={self._linker}", *flags, "-Wl,-rpath,$ORIGIN"]
        needs: list[str] = []
        for name in ("base", "middle", "top"):
            library = f"libprivate_{name}.so"
            versions = ["-Wl,--version-script=base.map"] if name == "base" else []
            self._run(
                *shared, *versions, f"-Wl,-soname,{library}", f"{name}.o", *needs, "-o", str(folder / library)
            )
            needs.insert(0, str(folder / library))
        return folder
