"""A trained network on real digits: what int8 costs there, through the whole workflow."""

import subprocess
import sys

import pytest

from converters import Recipe, convert
from converters.verify import verify_bundle

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.timeout(300)]

NETWORK = """
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
            nn.Linear(512, 10),
        )

    def forward(self, image):
        return {"scores": self.body(image)}


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    pixels, labels = load_digits(return_X_y=True)
    pictures = (pixels / 16).reshape(-1, 1, 8, 8).astype("f4")
    inputs, wanted = torch.from_numpy(pictures[:1000]), torch.from_numpy(labels[:1000])
    net = Net()
    steps = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(8):
        for part in torch.randperm(1000).split(50):
            loss = nn.functional.cross_entropy(net(inputs[part])["scores"], wanted[part])
            steps.zero_grad()
            loss.backward()
            steps.step()
    torch.save(net.eval().state_dict(), "net.pt")
    np.savez("calibration.npz", image=pictures[:256])
    np.savez("test.npz", image=pictures[1000:], digit=labels[1000:])
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    (tmp_path / "int8_digits.py").write_text(NETWORK)
    subprocess.run([sys.executable, "int8_digits.py"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)  # where the throw-away process imports from
    return tmp_path


def test_a_trained_network_loses_half_a_point_at_most(trained):
    recipe = Recipe(
        source="int8_digits:Net",
        weights=str(trained / "net.pt"),
        samples=str(trained / "test.npz"),
        truth="digit",
        name="digits",
        release=1,
        precision="int8",
        calibration=str(trained / "calibration.npz"),
    )
    path = trained / "digits-1.edgb"
    report = convert(recipe, path, trust=True, empty_env="off")
    cost = report.manifest.parity["int8"]
    assert cost["float32"] > 0.9, "it is trained"
    assert (cost["rows"], cost["budget"]) == (797, 0.005)
    assert cost["lost"] <= 0.005
    assert verify_bundle(path, [], run=True)
