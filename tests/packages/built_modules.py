"""Uses of extension modules that are compiled here, one per way of writing one.

`build_…` compiles the module into a folder that is on sys.path when `use_…` runs; `tool` names the compiler
where it is not g++.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
INCLUDE = sysconfig.get_path("include")


def compile_cpp(sources: list[Path], target: Path, includes: list[str], *options: str) -> None:
    """Make the extension module `target` of `sources`."""
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", *options]
    command += [f"-I{folder}" for folder in [INCLUDE, *includes]]
    subprocess.run([*command, *map(str, sources), "-o", str(target)], check=True)


# cffi ------------------------------------------------------------------------------------------------------


def use_cffi_abi(folder: Path) -> None:
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(
        "int abs(int); typedef struct { int quot; int rem; } div_t; div_t div(int, int);"
        "void qsort(void *, size_t, size_t, int (*)(const void *, const void *));"
    )
    libc = ffi.dlopen(None)
    assert libc.abs(-3) == 3
    parts = libc.div(17, 5)
    assert (parts.quot, parts.rem) == (3, 2)
    values = ffi.new("int[]", [3, 1, 2])

    @ffi.callback("int(const void *, const void *)")
    def compare(left, right):
        return ffi.cast("int *", left)[0] - ffi.cast("int *", right)[0]

    libc.qsort(values, 3, ffi.sizeof("int"), compare)
    assert list(values) == [1, 2, 3]


def build_cffi_api(folder: Path) -> None:
    import cffi

    builder = cffi.FFI()
    builder.cdef('int twice(int); extern "Python" int from_python(int); int call_python(int);')
    builder.set_source(
        "built_with_cffi",
        "static int from_python(int); static int twice(int x) { return 2 * x; }"
        "static int call_python(int x) { return from_python(x) + 1; }",
    )
    builder.compile(tmpdir=str(folder))


def use_cffi_api(folder: Path) -> None:
    from built_with_cffi import ffi, lib

    @ffi.def_extern()
    def from_python(x):
        return 10 * x

    assert lib.twice(21) == 42 and lib.call_python(4) == 41


# Cython ----------------------------------------------------------------------------------------------------

CYTHON = """
# cython: language_level=3
from libcpp.vector cimport vector

cdef class Counter:
    cdef vector[long] seen
    def add(self, long n):
        self.seen.push_back(n)
        return self
    def total(self):
        cdef long sum = 0
        for n in self.seen:
            sum += n
        return sum

def squares(int n):
    for i in range(n):
        yield i * i

def divide(int a, int b):
    with nogil:
        pass
    return a // b
"""


def build_cython(folder: Path) -> None:
    source = folder / "built_with_cython.pyx"
    source.write_text(CYTHON)
    subprocess.run([sys.executable, "-m", "cython", "--cplus", "-3", str(source)], check=True)
    compile_cpp([source.with_suffix(".cpp")], folder / f"built_with_cython{SUFFIX}", [])


def use_cython(folder: Path) -> None:
    import built_with_cython

    assert built_with_cython.Counter().add(2).add(3).total() == 5
    assert list(built_with_cython.squares(5)) == [0, 1, 4, 9, 16]
    try:
        built_with_cython.divide(1, 0)
    except ZeroDivisionError:
        return
    raise AssertionError("an exception was lost")


# pybind11 and nanobind -------------------------------------------------------------------------------------

BOUND_CLASS = """
namespace py = {library};
using namespace py::literals;
struct Account {{
  int balance = 0;
  int draw(int amount) {{
    if (amount > balance) throw std::runtime_error("too little");
    return balance -= amount;
  }}
}};
{macro}(built_with_{library}, module) {{
  py::class_<Account>(module, "Account")
      .def(py::init<>())
      .{field}("balance", &Account::balance)
      .def("draw", &Account::draw, "amount"_a);
  module.def("apply", [](std::function<int(int)> function, std::vector<int> values) {{
    for (int& value : values) value = function(value);
    return values;
  }});
}}
"""


def build_pybind11(folder: Path) -> None:
    import pybind11

    source = folder / "module.cpp"
    code = BOUND_CLASS.format(library="pybind11", macro="PYBIND11_MODULE", field="def_readwrite")
    headers = ["pybind11", "functional", "stl"]
    source.write_text("".join(f"#include <pybind11/{name}.h>\n" for name in headers) + code)
    compile_cpp([source], folder / f"built_with_pybind11{SUFFIX}", [pybind11.get_include()])


def build_nanobind(folder: Path) -> None:
    import nanobind

    source = folder / "module.cpp"
    code = BOUND_CLASS.format(library="nanobind", macro="NB_MODULE", field="def_rw")
    headers = ["nanobind", "stl/function", "stl/vector"]
    source.write_text("".join(f"#include <nanobind/{name}.h>\n" for name in headers) + code)
    root = Path(nanobind.include_dir()).parent
    compile_cpp(
        [source, root / "src" / "nb_combined.cpp"],
        folder / f"built_with_nanobind{SUFFIX}",
        [str(root / "include"), str(root / "ext" / "robin_map" / "include")],
        "-fno-strict-aliasing",
    )


def use_pybind11(folder: Path) -> None:
    import built_with_pybind11

    _use_bound_class(built_with_pybind11)


def use_nanobind(folder: Path) -> None:
    import built_with_nanobind

    _use_bound_class(built_with_nanobind)


def _use_bound_class(module) -> None:
    account = module.Account()
    account.balance = 10
    assert account.draw(amount=3) == 7
    assert module.apply(lambda x: 2 * x, [1, 2, 3]) == [2, 4, 6]
    for wrong, error in (
        (lambda: account.draw(100), RuntimeError),
        (lambda: account.draw("x"), TypeError),
        (lambda: module.apply(lambda x: 1 // 0, [1]), ZeroDivisionError),
    ):
        try:
            wrong()
        except error:
            continue
        raise AssertionError(f"no {error.__name__}")


# Rust ------------------------------------------------------------------------------------------------------

# PyO3 itself is what cryptography, orjson, polars, pydantic and tokenizers are written with. This is what
# lies below it, Rust's own standard library in an image: thread-locals, threads, and a panic that unwinds.
RUST = """
use std::cell::Cell;
use std::os::raw::{c_char, c_int, c_long, c_void};
type Object = *mut c_void;
type Function = extern "C" fn(Object, Object) -> Object;
#[repr(C)]
struct Method { name: *const c_char, function: Option<Function>, flags: c_int, doc: *const c_char }
#[repr(C)]
struct Head { count: isize, kind: Object, init: Object, index: isize, copy: Object }
#[repr(C)]
struct Module { head: Head, name: *const c_char, doc: *const c_char, size: isize, methods: *mut Method,
                slots: Object, traverse: Object, clear: Object, free: Object }
extern "C" {
    fn PyModule_Create2(module: *mut Module, version: c_int) -> Object;
    fn PyLong_FromLong(value: c_long) -> Object;
}
thread_local! { static CALLS: Cell<c_long> = Cell::new(0); }
extern "C" fn calls(_: Object, _: Object) -> Object {
    CALLS.with(|calls| { calls.set(calls.get() + 1); unsafe { PyLong_FromLong(calls.get()) } })
}
extern "C" fn caught(_: Object, _: Object) -> Object {
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = std::thread::spawn(|| { if CALLS.with(|c| c.get()) == 0 { panic!("unwinding"); } }).join();
    let here = std::panic::catch_unwind(|| { let v: Vec<i32> = Vec::new(); v[3] });
    unsafe { PyLong_FromLong(outcome.is_err() as c_long + here.is_err() as c_long) }
}
#[no_mangle]
pub extern "C" fn PyInit_built_with_rust() -> Object {
    let methods = Box::leak(Box::new([
        Method { name: c"calls".as_ptr(), function: Some(calls), flags: 4, doc: std::ptr::null() },
        Method { name: c"caught".as_ptr(), function: Some(caught), flags: 4, doc: std::ptr::null() },
        Method { name: std::ptr::null(), function: None, flags: 0, doc: std::ptr::null() },
    ]));
    let null = std::ptr::null_mut();
    let module = Box::leak(Box::new(Module {
        head: Head { count: 1, kind: null, init: null, index: 0, copy: null },
        name: c"built_with_rust".as_ptr(), doc: std::ptr::null(), size: -1, methods: methods.as_mut_ptr(),
        slots: null, traverse: null, clear: null, free: null,
    }));
    unsafe { PyModule_Create2(module, 1013) }
}
"""


def build_rust(folder: Path) -> None:
    source = folder / "built_with_rust.rs"
    source.write_text(RUST)
    target = folder / f"built_with_rust{SUFFIX}"
    subprocess.run(
        ["rustc", "--edition=2021", "--crate-type=cdylib", "-O", str(source), "-o", str(target)], check=True
    )


build_rust.tool = "rustc"


def use_rust(folder: Path) -> None:
    import threading

    import built_with_rust

    before = built_with_rust.calls()
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(built_with_rust.calls()))
    thread.start()
    thread.join()
    assert elsewhere == [1] and built_with_rust.calls() == before + 1
    assert built_with_rust.caught() == 2
