"""A network of ResNet-18's shape (11.7 million weights, 224x224 pictures) with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

WIDTHS = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.around: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.around = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Any) -> Any:
        return torch.relu(self.main(x) + self.around(x))


class ResNet(nn.Module):
    """The stem, four stages of two blocks, and a classifier of a thousand classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        blocks = []
        for before, after, stride in WIDTHS:
            blocks += [Block(before, after, stride), Block(after, after, 1)]
        self.stages = nn.Sequential(*blocks)
        self.full = nn.Linear(512, 1000)

    def forward(self, image: Any) -> Any:
        return self.full(self.stages(self.stem(image)).mean((2, 3)))


def build() -> ResNet:
    """The same weights each time."""
    torch.manual_seed(0)
    return ResNet().eval()
