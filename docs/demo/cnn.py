"""The demo's convolutional network, in PyTorch. Imported only where torch is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

EPOCHS = 12
BATCH = 64


class DigitNet(nn.Module):
    """Pixels float32[n,1,8,8] from 0 to 240 in, logits float32[n,10] out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """One logit for each digit."""
        return self.layers(image / 240.0)


def train_and_export(
    pixels: np.ndarray, classes: np.ndarray, tested: np.ndarray, path: Path
) -> np.ndarray:
    """Train, save as a torch.export archive with a free batch axis, and answer for ``tested``.

    Returns:
        The framework's own logits, float64[rows,10].
    """
    torch.manual_seed(7)
    model = DigitNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    inputs, targets = torch.from_numpy(pixels), torch.from_numpy(classes).long()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    model.eval()
    example = torch.from_numpy(tested[:4])
    shapes = {"image": {0: torch.export.Dim("batch", min=1, max=4096)}}
    torch.export.save(torch.export.export(model, (example,), dynamic_shapes=shapes), path)
    with torch.no_grad():
        return model(torch.from_numpy(tested)).double().numpy()
