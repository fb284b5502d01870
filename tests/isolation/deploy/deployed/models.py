"""Models of the usual kinds, small: a perceptron, a residual network, a transformer."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from deployed import layers


class Simple(nn.Module):
    def __init__(self, size: int = 20):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size, size))
        self.tied = nn.ModuleList([nn.Linear(size, size), nn.Linear(size, size)])
        self.tied[1].weight = self.tied[0].weight

    def forward(self, input, scale=1.0):
        for layer in self.tied:
            input = layer(input)
        return scale * (self.weight + input.sum(0))

    def addresses(self):
        return [parameter.data_ptr() for parameter in self.parameters()]

    def home(self):
        return type(self).__module__, functional.__name__, nn is torch.nn


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
        )

    def forward(self, x):
        return torch.relu(self.path(x) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, padding=3, bias=False)
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = functional.max_pool2d(torch.relu(self.stem(x)), 3, 2, padding=1)
        return self.head(self.blocks(x).mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 50)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens)))


class WithLeaf(nn.Module):
    """What torch.fx traces, but for its leaf, and for a function of this project."""

    def __init__(self):
        super().__init__()
        self.leaf = layers.Leaf()
        self.linear = nn.Linear(10, 5)

    def forward(self, x):
        return layers.halved(self.leaf(self.linear(x)))
