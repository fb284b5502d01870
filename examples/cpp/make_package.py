"""Writes what the C++ examples load: `make_package.py FOLDER` makes model.zip and model.torchscript there.

model.zip is a torch.package with the model and an input, and with the code of this module; model.torchscript
is the same model, traced.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn, package


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels: int) -> None:
        """Keep the number of channels."""
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images to images of the same shape."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Network(nn.Module):
    """A little of what a ResNet is."""

    def __init__(self) -> None:
        """Begin with random weights, the same each time."""
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images of shape (n, 3, h, w) to scores of shape (n, 10)."""
        with torch.no_grad():
            return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def write(folder: Path) -> None:
    """Write both files."""
    model = Network().eval()
    image = torch.ones(1, 3, 32, 32)
    with package.PackageExporter(folder / "model.zip") as exporter:
        exporter.intern(Network.__module__)
        exporter.extern(["torch.**", "sys", "pathlib"])
        exporter.save_pickle("model", "model.pkl", model)
        exporter.save_pickle("model", "input.pkl", image)
        exporter.save_text("model", "readme.txt", "A small network.")
    torch.jit.trace(model, image).save(folder / "model.torchscript")


if __name__ == "__main__":
    # A package's code is that of importable modules, so this one is imported under its name.
    import make_package

    make_package.write(Path(sys.argv[1]))
