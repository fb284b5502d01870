"""Builds for 64-bit Arm and tests the loader there, under qemu: `make test-aarch64`.

Nothing is installed. What is needed beyond the compiler and qemu, Debian's arm64 packages (a Python with its
shared libpython, C and C++ libraries) and a few packages from PyPI, is downloaded and unpacked below --work,
and kept there. The steps, in order: the C++ tests; the smoke test of all hosts, in two interpreters of that
Python, also with 64 KiB pages where this qemu can pretend them; and those of the Python tests that the list
below names. pytest itself runs in the emulated Python; what the tests compile is compiled by the cross
compiler.

An emulated processor shows what the code means on Arm, not how it is ordered: qemu on x86-64 keeps memory as
orderly as x86-64 does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMOKE = (ROOT / "tests" / "hosts" / "smoke.py", "msgpack", "", "")  # it has a module of C
# name of the program: Debian's package
TOOLS = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "qemu-aarch64": "qemu-user",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "cmake": "cmake",
    "ninja": "ninja-build",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libpython3-dev", "libstdc++6", "libgcc-s1")
# With msgpack's extension in the wheel for Arm, a module of C is among what the interpreters import.
PYPI_PACKAGES = ("msgpack>=1.0", "cloudpickle>=3.0", "pytest>=8")
# Each of these takes seconds, most of it the start of an emulated Python.
TESTS = (
    "tests/elf/test_on_64_bit_arm.py",
    "tests/elf/test_thread_locals.py",
    "tests/elf/test_binding_symbols.py",
    "tests/elf/test_private_images.py",
    "tests/elf/test_cpp_exceptions.py",
    "tests/elf/test_exit_and_environment.py",
    "tests/elf/test_answers_at_the_seam.py",
    "tests/elf/test_finding_libraries.py",
    "tests/elf/test_search_paths.py",
)


# Sixteen interpreters at once take more than the tests' patience when emulated, and a program that a test
# links would run outside the emulator.
CHOSEN = "not many_images and not (search_paths and the_program)"


def missing() -> list[str]:
    """Say what this machine lacks."""
    lacking = [f"{name} (Debian: {package})" for name, package in TOOLS.items() if not shutil.which(name)]
    if not KEYRING.exists():
        lacking.append(f"{KEYRING} (Debian: debian-archive-keyring)")
    try:
        import nanobind  # noqa: F401
    except ImportError:
        lacking.append("nanobind (PyPI), for this Python")
    return lacking


def step(title: str) -> None:
    """Announce what comes next."""
    print(f"== {title}", flush=True)


def run(*command: str | Path, **environment: str) -> None:
    """Run a command that must succeed."""
    subprocess.run([str(part) for part in command], check=True, env={**os.environ, **environment})


def codename() -> str:
    """Return the Debian release whose packages suit this machine's cross compiler."""
    lines = Path("/etc/os-release").read_text().splitlines()
    fields = dict(line.replace('"', "").partition("=")[::2] for line in lines)
    if fields.get("ID") == "debian" and fields.get("VERSION_CODENAME"):
        return fields["VERSION_CODENAME"]
    return "bookworm"


def make_sysroot(work: Path, mirror: str, release: str) -> Path:
    """Download Debian's arm64 packages with all they depend on, and unpack them; return the folder."""
    sysroot, state = work / "sysroot", work / "apt"
    stamp = work / f"sysroot-{release}-{urllib.parse.quote(mirror, safe='')}"
    if stamp.exists():
        return sysroot
    step(f"arm64 packages of Debian {release}")
    shutil.rmtree(sysroot, ignore_errors=True)
    # An apt of our own, which knows of no installed package, so that it downloads the whole closure.
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {release} main\n")
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Sandbox::User": "root",  # the folder need not be readable by apt's own user
        "Acquire::Languages": "none",
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": state / "parts",
        "Dir::Etc::PreferencesParts": state / "parts",
        "Dir::State": state,
        "Dir::State::Lists": state / "lists",
        "Dir::State::Status": state / "status",
        "Dir::Cache": state / "cache",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    run(*apt, "update")
    run(*apt, "install", "--yes", "--download-only", "--no-install-recommends", *DEBIAN_PACKAGES)
    for package in sorted((state / "cache" / "archives").glob("*.deb")):
        run("dpkg-deb", "--extract", package, sysroot)
    stamp.touch()
    return sysroot


def write_program(path: Path, text: str) -> None:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def make_programs(work: Path, sysroot: Path) -> Path:
    """Make the emulated Python, and compilers by the names that the tests use; return the Python.

    What the emulated Python starts runs outside the emulator: hence a script, which starts it again. It lies
    where Python finds the library below the same prefix, because qemu shows only some system calls the
    sysroot in the place of /usr.
    """
    folder = sysroot / "usr" / "bin"
    real = next(folder.glob("python3.*[0-9]"))
    python = folder / "emulated-python"
    # The name by which it is called becomes sys.executable. MULTIPY_QEMU: further options.
    write_program(python, f'exec qemu-aarch64 $MULTIPY_QEMU -0 "{python}" -L "{sysroot}" "{real}" "$@"')
    for name in ("gcc", "g++"):
        # Debian splits Python's headers over two folders.
        command = f'aarch64-linux-gnu-{name} "$@" -idirafter "{sysroot}/usr/include"'
        write_program(work / "bin" / name, f'exec {command} -idirafter "{sysroot}/usr/include/{real.name}"')
    return python


def install_packages(site: Path, python: Path) -> None:
    """Install from PyPI what the emulated Python needs."""
    version = answer(python, "import sys; print('%d.%d' % sys.version_info[:2])")
    stamp = site.parent / f"packages-{version}"
    if stamp.exists():
        return
    step("packages from PyPI")
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in (17, 28)] + ["manylinux2014_aarch64"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(site)]
    pip += ["--only-binary=:all:", "--python-version", version]
    run(*pip, *(f"--platform={name}" for name in platforms), *PYPI_PACKAGES)
    stamp.touch()


def answer(python: Path, source: str) -> str:
    """Return what a line of Python prints in the emulated one."""
    return subprocess.run([python, "-c", source], check=True, capture_output=True, text=True).stdout.strip()


def build(work: Path, sysroot: Path, python: Path) -> Path:
    """Cross-compile core, extension and C++ tests; return the build folder."""
    step("cross-compiling")
    folder = work / "build"
    nanobind = subprocess.run(
        [sys.executable, "-m", "nanobind", "--cmake_dir"], check=True, capture_output=True, text=True
    ).stdout.strip()
    version = answer(python, "import sys; print('python%d.%d' % sys.version_info[:2])")
    settings = {
        "CMAKE_TOOLCHAIN_FILE": ROOT / "cmake" / "aarch64.cmake",
        "MULTIPY_SYSROOT": sysroot,
        "MULTIPY_NATIVE_TESTS": "ON",
        "MULTIPY_EXTENSION": "ON",
        "Python_EXECUTABLE": python,
        "Python_INCLUDE_DIR": sysroot / "usr" / "include" / version,
        "nanobind_DIR": nanobind,
    }
    options = [f"-D{name}={value}" for name, value in settings.items()]
    run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-Wno-dev", *options)
    run("cmake", "--build", folder)
    return folder


def install(folder: Path, site: Path) -> None:
    """Put the package, as it is now, where the emulated Python finds it."""
    package = site / "multipy_actors"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "multipy_actors", package, ignore=shutil.ignore_patterns("__pycache__"))
    for library in folder.glob("native/*.so"):
        shutil.copy2(library, package)


def pretended_pages(sysroot: Path) -> str:
    """Return the options by which this qemu pretends 64 KiB pages, or nothing where it cannot.

    Without SVE: qemu 7.2 does not note that the rest of the dynamic linker's last page is there, in which the
    names of libraries lie, and its vector loads, those of glibc's memcpy among them, look at what is noted.
    """
    options = "-p 65536 -cpu max,sve=off"
    probe = [*f"qemu-aarch64 {options} -L {sysroot}".split(), sysroot / "usr" / "bin" / "python3"]
    source = "import mmap; assert mmap.PAGESIZE == 65536"
    done = subprocess.run([*map(str, probe), "-c", source], capture_output=True)
    return options if done.returncode == 0 else ""


def main(arguments: Sequence[str]) -> int:
    """Build and test; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "aarch64", help="where all is kept")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="of Debian")
    parser.add_argument("--release", default=codename(), help="of Debian; the one of the cross compiler")
    parser.add_argument("pytest", nargs="*", help="instead of the list: what to give pytest, after --")
    options = parser.parse_args(arguments)
    if lacking := missing():
        print("make test-aarch64 needs, and does not find:", *lacking, sep="\n  ", file=sys.stderr)
        return 2
    work = options.work.resolve()
    site = work / "site"
    try:
        sysroot = make_sysroot(work, options.mirror, options.release)
        python = make_programs(work, sysroot)
        install_packages(site, python)
        folder = build(work, sysroot, python)
        install(folder, site)
        environment = {"PATH": f"{work / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(site)}
        if not options.pytest:
            step("C++ tests")
            run("ctest", "--test-dir", folder / "tests" / "native", "--output-on-failure", "--no-tests=error")
            step("two interpreters")
            run(python, *SMOKE, **environment)
            if pages := pretended_pages(sysroot):
                step("two interpreters, 64 KiB pages")
                run(python, *SMOKE, MULTIPY_QEMU=pages, **environment)
            else:
                print("this qemu cannot pretend 64 KiB pages: not tried")
        step("Python tests")
        # `-m pytest` would import the sources, which have no extension.
        pytest = [python, site / "bin" / "pytest", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=600"]
        run(*pytest, *(options.pytest or [*TESTS, "-k", CHOSEN]), **environment)
    except subprocess.CalledProcessError as error:
        print(f"failed with {error.returncode}: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
