"""Writes what the C++ tests load into a folder: `make_data.py FOLDER`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "cpp"

MODELS = """
import torch


class Simple(torch.nn.Module):
    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(float(rows * columns)).reshape(rows, columns))

    def forward(self, input: torch.Tensor):
        return self.weight.sum() + self.weight @ input


class Raises:
    def __reduce__(self):
        return fail, ()


def fail():
    raise RuntimeError("it does not unpickle")


def answer():
    return 42
"""


def write_modules(folder: Path) -> None:
    """Write a module that is found in a folder of its own."""
    (folder / "modules").mkdir()
    (folder / "modules" / "found_here.py").write_text("def answer():\n    return 42\n")


def write_packages(folder: Path) -> None:
    """Write a package with models, TorchScript files of them, and what is no package."""
    import torch
    from torch import package

    (folder / "sources").mkdir()
    (folder / "sources" / "models.py").write_text(MODELS)
    sys.path[:0] = [str(folder / "sources"), str(EXAMPLES)]
    import make_package
    import models

    network = make_package.Network().eval()
    simple = models.Simple(10, 2)
    with package.PackageExporter(folder / "models.zip") as exporter:
        exporter.intern(["models", "make_package"])
        exporter.extern(["torch.**", "sys", "pathlib"])
        exporter.save_pickle("simple", "model.pkl", simple)
        exporter.save_pickle("model", "model.pkl", network)
        exporter.save_pickle("model", "input.pkl", torch.ones(1, 3, 32, 32))
        exporter.save_text("model", "readme.txt", "A small network.")
        exporter.save_binary("model", "bytes", bytes(range(3)))
        exporter.save_pickle("bad", "raises.pkl", models.Raises())
        exporter.save_binary("bad", "garbage.pkl", b"no pickle")
    image = torch.ones(1, 3, 32, 32)
    (folder / "first_score.txt").write_text(str(network(image)[0, 0].item()))
    torch.jit.trace(network, image).save(folder / "model.torchscript")
    torch.jit.script(simple).save(folder / "simple.torchscript")
    (folder / "no_archive.zip").write_bytes(b"no archive")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_modules(target)
    if importlib.util.find_spec("torch") is not None:
        write_packages(target)
