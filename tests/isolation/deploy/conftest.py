"""Packages as torch.package writes them, and the one pool in which most of these tests load them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import multipy_actors as multipy

torch = pytest.importorskip("torch")


@pytest.fixture(scope="session")
def pool():
    """Three interpreters, which all of these tests share."""
    with multipy.Pool(3, intra_op_threads=1, prefix_output=False) as pool:
        yield pool


@pytest.fixture(autouse=True)
def as_many_threads_in_the_host():
    """Have the host compute with one thread, too: the last bits depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def package(pool, archive):
    """The archive, loaded."""
    with pool.load_package(archive) as package:
        yield package


@pytest.fixture(scope="session")
def models():
    """The models of the archive, in the host."""
    from deployed.models import ResNet, Simple, Transformer, WithLeaf

    torch.manual_seed(0)
    return {
        "simple": Simple().eval(),
        "resnet": ResNet().eval(),
        "transformer": Transformer().eval(),
        "fx": traced(WithLeaf()).eval(),
    }


def traced(model):
    """Return `model` as a graph, in which `Leaf` is a module as it was."""
    from deployed.layers import Leaf

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, Leaf) or super().is_leaf_module(module, name)

    return torch.fx.GraphModule(model, Tracer().trace(model))


@pytest.fixture(scope="session")
def archive(tmp_path_factory, models):
    """The path of a package with the project, its models, and other resources."""
    path = tmp_path_factory.mktemp("packages") / "archive.pt"
    # An exporter takes down as external only what there is.
    path.with_name("registered_for_packages.py").touch()
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(path.parent)
        return export_all(path, models)


def export_all(path: Path, models: dict[str, object]) -> Path:
    """Write the archive."""
    from deployed.batched import Lengths
    from deployed.objects import Noted

    resources = {
        **models,
        "lengths": Lengths(),
        "noted": Noted(),
        "obstructed": Noted(str(path.with_name("obstacle"))),
    }
    return export(path, resources, texts={"greeting": "grüezi"}, binaries={"bytes": b"\0\1\2"})


def export(
    path: Path,
    pickles: dict[str, object],
    texts: dict[str, str] | None = None,
    binaries: dict[str, bytes] | None = None,
) -> Path:
    """Write a package whose resources are in the package `resources`."""
    from torch.package import PackageExporter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own use of storages
        with PackageExporter(path) as exporter:
            exporter.intern("deployed.**")
            exporter.extern(["torch.**", "multipy_actors", "registered_for_packages"])
            exporter.mock("**")
            for name in ("objects", "distributed", "registered"):
                exporter.save_module(f"deployed.{name}")
            for name, value in pickles.items():
                exporter.save_pickle("resources", f"{name}.pkl", value)
            for name, text in (texts or {}).items():
                exporter.save_text("resources", f"{name}.txt", text)
            for name, data in (binaries or {}).items():
                exporter.save_binary("resources", f"{name}.bin", data)
    return path
