"""Lightning: a checkpoint beside its class, or a factory; never in training mode."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import converters
from converters.errors import ConversionError, UnsupportedModelError
from tests.converters.many import case, make_once, outcomes_once

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("lightning") is None, reason="lightning is not installed"
    ),
]

NETS = """
import lightning
import torch


class Lit(lightning.LightningModule):
    def __init__(self, width=4):
        super().__init__()
        self.save_hyperparameters()
        self.example_input_array = torch.zeros(2, 8)
        self.full = torch.nn.Linear(8, width)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, row):
        return self.drop(self.full(row))

    def training_step(self, batch, _index):
        return self(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


class Other(Lit):
    def __init__(self, width=4):
        super().__init__(width)
        self.more = torch.nn.Linear(2, 2)


def plain():
    return 3
"""

SAVE = """
import lightning, nets, torch

torch.manual_seed(1)
rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 8)), batch_size=4)
quiet = dict(enable_progress_bar=False, logger=False, enable_checkpointing=False,
             enable_model_summary=False, accelerator="cpu")
trainer = lightning.Trainer(max_epochs=1, **quiet)
trainer.fit(nets.Lit(6), rows)
trainer.save_checkpoint("lit.ckpt")
"""


def make(folder):
    (folder / "nets.py").write_text(NETS)
    np.savez(folder / "row.npz", row=np.random.default_rng(0).normal(size=(40, 8)))
    done = subprocess.run(
        [sys.executable, "-c", SAVE], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder / "cut.ckpt").write_bytes((folder / "lit.ckpt").read_bytes()[:900])


CASES = {
    "checkpoint": case("nets:Lit", "row.npz", weights="lit.ckpt"),
    "factory": case("nets:Lit", "row.npz"),
    "eval-off": case(
        "nets:Lit",
        "row.npz",
        weights="lit.ckpt",
        off={"torch.nn:Module.eval": "lambda self: self"},
    ),
    "other-class": case("nets:Other", "row.npz", weights="lit.ckpt"),
    "function": case("nets:plain", "row.npz", weights="lit.ckpt"),
    "cut": case("nets:Lit", "row.npz", weights="cut.ckpt", kind="lightning"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_once(tmp_path_factory, "lightning", make)


@pytest.fixture(scope="module")
def outcomes(folder):
    return outcomes_once(folder, CASES)


def test_a_checkpoint_has_its_own_size_and_a_free_batch(outcomes):
    got = outcomes["checkpoint"]
    assert not got.error
    assert (got.inputs, got.outputs) == (["row float32[batch,8]"], ["output float32[batch,6]"])
    assert got.traps == ["training-mode"]
    assert outcomes["factory"].outputs == ["output float32[batch,4]"]


def test_training_mode_does_not_pass_where_eval_is_not_called(outcomes):
    assert "answers at random" in outcomes["eval-off"].error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other-class", "expected one that nets:Other wrote"),
        ("function", "nets:plain is no LightningModule class"),
        ("cut", 'checkpoint "cut.ckpt": '),
    ],
)
def test_what_does_not_fit(outcomes, name, words):
    assert words in outcomes[name].error
    assert outcomes[name].kind == "ConversionError"


def test_a_checkpoint_alone_is_told_what_it_lacks(folder, tmp_path):
    recipe = converters.Recipe(
        source=str(folder / "lit.ckpt"), samples=str(folder / "row.npz"), name="m", release=1
    )
    with pytest.raises(UnsupportedModelError, match=r"give module:Class and --weights lit\.ckpt"):
        converters.convert(recipe, tmp_path / "m.edgb")
    cut = converters.Recipe(
        source=str(folder / "cut.ckpt"), samples=str(folder / "row.npz"), name="m", release=1
    )
    with pytest.raises(ConversionError, match="cut short"):
        converters.convert(cut, tmp_path / "m.edgb")
    assert not list(tmp_path.iterdir())
