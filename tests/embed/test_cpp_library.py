"""The C++ tests of libmultipy_embed, in a program without torch and in one that links libtorch."""

from __future__ import annotations

import shutil
import sys

import cpp_projects
import pytest

pytestmark = pytest.mark.skipif(cpp_projects.why_not() is not None, reason=str(cpp_projects.why_not()))

HEADERS = sorted(path.name for path in (cpp_projects.PACKAGE / "include" / "multipy_actors").glob("*.h"))


def test_the_cpp_tests_pass(programs, data):
    name = "embed_torch_tests" if programs.with_torch else "embed_tests"
    done = cpp_projects.run([programs.tests / name], MULTIPY_TEST_DATA=str(data))
    if not programs.with_torch:
        # What interpreters print comes when they print it.
        said = [line for line in done.stdout.splitlines() if line in ("before", "during", "after")]
        assert said == ["before", "during", "during", "after"]


@pytest.mark.parametrize(
    ("cxx", "standard", "headers"),
    [
        ("g++", "c++17", [name for name in HEADERS if name not in ("torch.h", "multipy_actors.h")]),
        ("g++", "c++20", ["multipy_actors.h"]),
        ("clang++", "c++17", ["multipy_actors.h"]),
    ],
)
def test_headers_compile_alone_and_without_warnings(tmp_path, cxx, standard, headers):
    if shutil.which(cxx) is None:
        pytest.skip(f"no {cxx}")
    sources = [tmp_path / f"{header}.cpp" for header in headers]
    for header, source in zip(headers, sources, strict=True):
        source.write_text(f"#include <multipy_actors/{header}>\n")
    cpp_projects.run(
        [cxx, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
         f"-I{cpp_projects.PACKAGE / 'include'}", *sources]
    )  # fmt: skip


def test_a_compiler_alone_builds_a_program_and_a_python_can_be_named(tmp_path):
    program = tmp_path / "program"
    source = tmp_path / "program.cpp"
    source.write_text(
        "#include <multipy_actors/multipy_actors.h>\n#include <iostream>\n"
        "int main(int, char** arguments) try {\n"
        "  auto python = std::make_shared<multipy_actors::NoopEnvironment>(arguments[1]);\n"
        "  multipy_actors::InterpreterManager manager(1, python);\n"
        '  std::cout << manager.submit("operator", "add", 40, 2).get() << std::endl;\n'
        "} catch (const multipy_actors::StartError& error) {\n"
        "  std::cout << error.what() << std::endl;\n"
        "}\n"
    )
    package = cpp_projects.PACKAGE
    cpp_projects.run(
        [cpp_projects.compiler(), "-std=c++17", f"-I{package / 'include'}", source, "-o", program,
         f"{package}/libmultipy_embed.so", f"-Wl,-rpath,{package}"]
    )  # fmt: skip
    assert cpp_projects.run([program, sys.executable]).stdout == "42\n"
    # A program that says other things when it is to describe itself.
    said = cpp_projects.run([program, "echo"]).stdout
    assert "echo cannot be what interpreters are made of" in said


def test_the_command_line_tells_cmake_where_to_look():
    done = cpp_projects.run([sys.executable, "-m", "multipy_actors", "cmake-dir"])
    assert done.stdout == f"{cpp_projects.multipy.cmake_dir()}\n"
