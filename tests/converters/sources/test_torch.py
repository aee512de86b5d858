"""PyTorch, through the real throw-away process; skipped by name where torch is not installed."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import converters
from converters.errors import ConversionError, UnsupportedModelError
from edged.errors import DeniedError

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None or importlib.util.find_spec("onnxscript") is None,
        reason="torch or onnxscript is not installed on this Python",
    ),
]

NETS = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.drop = torch.nn.Dropout(0.5)
        self.full = torch.nn.Linear(144, 10)

    def forward(self, image):
        embedding = torch.relu(self.conv(image)).flatten(1)
        return {"scores": self.full(self.drop(embedding)), "embedding": embedding}


class Branch(Net):
    def forward(self, image):
        if image.sum() > 0:
            return self.conv(image)
        return self.conv(-image)


class Mixed(Net):
    def forward(self, image):
        return image.view(2, -1).sum(1)


class Svd(Net):
    def forward(self, image):
        return torch.linalg.svd(image[:, 0])[1]
"""

SAVE = """
import nets, torch
from safetensors.torch import save_file

torch.manual_seed(1)
net = nets.Net()
save_file(net.state_dict(), "net.safetensors")
torch.save(net.state_dict(), "net.pt")
torch.save({"net": net}, "whole.pt")
rows = torch.randn(2, 1, 8, 8)
axes = {"image": {0: torch.export.Dim("batch")}}
torch.export.save(torch.export.export(net.eval(), (rows,), dynamic_shapes=axes), "net.pt2")
torch.export.save(torch.export.export(net, (rows,)), "frozen.pt2")
torch.export.save(torch.export.export(net.train(), (rows,), dynamic_shapes=axes), "train.pt2")
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    (folder / "nets.py").write_text(NETS)
    rows = np.random.default_rng(0).normal(size=(40, 1, 8, 8))
    np.savez(folder / "rows.npz", image=rows)
    done = subprocess.run(
        [sys.executable, "-c", SAVE], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def convert(nets, monkeypatch, tmp_path):
    monkeypatch.chdir(nets)

    def call(source, *, trust=True, **fields):
        recipe = converters.Recipe(
            source=source, samples="rows.npz", name="net", release=1, **fields
        )
        return converters.convert(recipe, tmp_path / "net.edgb", trust=trust)

    return call


@pytest.mark.parametrize(
    ("source", "weights"),
    [("nets:Net", "net.safetensors"), ("nets:Net", "net.pt"), ("net.pt2", None)],
)
def test_modules_and_archives(convert, source, weights):
    manifest = convert(source, weights=weights).manifest
    assert str(manifest.inputs[0].spec()) == "float32[batch,1,8,8]"
    assert manifest.inputs[0].name == "image"
    assert [(entry.name, str(entry.spec())) for entry in manifest.outputs] == [
        ("scores", "float32[batch,10]"),
        ("embedding", "float32[batch,144]"),
    ]
    assert manifest.artefacts[0].opset == 18
    assert manifest.provenance["framework"]["torch"]


def test_wanted_names_that_clash_inside_the_graph(convert):
    report = convert("nets:Net", output_names=("conv.weight", "linear"))
    assert [entry.name for entry in report.manifest.outputs] == ["conv.weight", "linear"]


@pytest.mark.parametrize("source", ["nets:Net", "net.pt2"])
def test_code_needs_trust(convert, source):
    with pytest.raises(DeniedError, match="--trust"):
        convert(source, trust=False)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nets:Branch", r"in forward, nets\.py:\d+; a branch depends on the values"),
        ("nets:Mixed", 'output "output" has shape'),
        ("nets:Svd", r"operator aten\._linalg_svd"),
        ("frozen.pt2", 'input "image" has its batch axis frozen at 2'),
        ("train.pt2", r"training mode\?\); call eval\(\)"),
    ],
)
def test_refusals_name_the_operator_or_the_line(convert, source, words):
    with pytest.raises(UnsupportedModelError, match=words):
        convert(source)


def test_loading_errors(convert):
    with pytest.raises(ConversionError, match="expected the module's own state dict"):
        convert("nets:Net", weights="whole.pt")  # weights_only refuses a pickled module
    with pytest.raises(ConversionError, match="no attribute 'Nope'"):
        convert("nets:Nope")
    with pytest.raises(ConversionError, match="not a torch Module"):
        convert("os:getcwd")


def test_another_opset_is_read_back(convert):
    assert convert("nets:Net", opset=17).manifest.artefacts[0].opset == 17
