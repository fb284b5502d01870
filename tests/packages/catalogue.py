"""The packages that are tried, each with a use of it that does real work and checks what came out.

A use is a function of the modules data_packages, learning_packages, system_packages or built_modules. It gets
a folder of its own to write to and raises if anything is not as it should be. Many import inside the
function, because the host must not have what it does not use.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import built_modules
import data_packages
import learning_packages
import system_packages

Use = Callable[[Path], None]


class Package(NamedTuple):
    """One row: `requires` must be installed; `build`, if given, first makes what `use` imports."""

    name: str
    requires: tuple[str, ...]
    use: Use
    build: Use | None = None
    interpreters: int = 2
    slow: bool = False  # takes minutes: not part of the quick subset
    limit: str = ""  # why it cannot work, if it cannot; a test fails once it does

    def missing(self) -> list[str]:
        """Return the distributions that are not installed."""
        return [name for name in self.requires if not _is_installed(name)]

    def versions(self) -> str:
        """Return the version of the distribution that gives the row its name, if there is one."""
        return importlib.metadata.version(self.requires[0]) if self.requires else ""


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


PACKAGES = [
    Package("numpy", ("numpy",), data_packages.use_numpy),
    Package("scipy", ("scipy",), data_packages.use_scipy),
    Package("pandas", ("pandas",), data_packages.use_pandas),
    Package("pyarrow", ("pyarrow",), data_packages.use_pyarrow),
    Package("polars", ("polars",), data_packages.use_polars),
    Package("duckdb", ("duckdb",), data_packages.use_duckdb),
    Package("h5py", ("h5py",), data_packages.use_h5py),
    Package("pillow", ("pillow",), data_packages.use_pillow),
    Package("opencv", ("opencv-python-headless",), data_packages.use_opencv),
    Package("matplotlib", ("matplotlib",), data_packages.use_matplotlib),
    Package("av", ("av",), data_packages.use_av),
    Package("numba", ("numba",), data_packages.use_numba),
    Package("lxml", ("lxml",), data_packages.use_lxml),
    Package("pydantic", ("pydantic",), data_packages.use_pydantic),
    Package("orjson", ("orjson",), data_packages.use_orjson),
    Package("msgspec", ("msgspec",), data_packages.use_msgspec),
    Package("protobuf", ("protobuf",), data_packages.use_protobuf),
    Package("torch", ("torch",), learning_packages.use_torch),
    Package("torch.compile", ("torch",), learning_packages.use_torch_compile, slow=True),
    Package(
        "torch load_inline",
        ("torch", "ninja"),
        learning_packages.use_load_inline,
        interpreters=1,
        slow=True,
    ),
    Package("transformers", ("transformers", "torch"), learning_packages.use_transformers),
    Package("tokenizers", ("tokenizers",), learning_packages.use_tokenizers),
    Package("sentencepiece", ("sentencepiece",), learning_packages.use_sentencepiece),
    Package("tiktoken", ("tiktoken",), learning_packages.use_tiktoken),
    Package("safetensors", ("safetensors", "torch"), learning_packages.use_safetensors),
    Package("onnxruntime", ("onnxruntime",), learning_packages.use_onnxruntime),
    Package("scikit-learn", ("scikit-learn",), learning_packages.use_scikit_learn),
    Package("xgboost", ("xgboost",), learning_packages.use_xgboost),
    Package("lightgbm", ("lightgbm",), learning_packages.use_lightgbm),
    Package("cryptography", ("cryptography",), system_packages.use_cryptography),
    Package("grpcio", ("grpcio",), system_packages.use_grpc),
    Package("uvloop", ("uvloop",), system_packages.use_uvloop),
    Package(
        "uvloop (child processes)",
        ("uvloop",),
        system_packages.use_uvloop_process,
        limit="waits for SIGCHLD, but signals are the host's",
    ),
    Package("greenlet", ("greenlet",), system_packages.use_greenlet),
    Package("gevent", ("gevent",), system_packages.use_gevent),
    Package(
        "gevent (child processes)",
        ("gevent",),
        system_packages.use_gevent_process,
        limit="waits for SIGCHLD, but signals are the host's",
    ),
    Package("psycopg", ("psycopg", "psycopg-binary"), system_packages.use_psycopg),
    Package("sqlite3", (), system_packages.use_sqlite),
    Package("ssl", (), system_packages.use_ssl),
    Package("decimal", (), system_packages.use_decimal),
    Package("asyncio", (), system_packages.use_asyncio),
    Package("subprocess", (), system_packages.use_subprocess),
    Package("multiprocessing (spawn)", (), system_packages.use_multiprocessing),
    Package("cffi (ABI mode)", ("cffi",), built_modules.use_cffi_abi),
    Package(
        "cffi (API mode)", ("cffi", "setuptools"), built_modules.use_cffi_api, built_modules.build_cffi_api
    ),
    Package("Cython module", ("Cython",), built_modules.use_cython, built_modules.build_cython),
    Package("pybind11 module", ("pybind11",), built_modules.use_pybind11, built_modules.build_pybind11),
    Package("nanobind module", ("nanobind",), built_modules.use_nanobind, built_modules.build_nanobind),
    Package("Rust module (C API)", (), built_modules.use_rust, built_modules.build_rust),
]

BY_NAME = {package.name: package for package in PACKAGES}
