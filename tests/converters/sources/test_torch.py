"""PyTorch: every row of what is known to work, to need a remedy, or to be refused by name."""

import importlib.util
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import converters
from converters.errors import ConversionError
from edged.errors import DeniedError
from tests.converters.many import case, make_once, outcomes_once

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.timeout(600),  # one fixture converts all; a busy machine takes its time
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None or importlib.util.find_spec("onnxscript") is None,
        reason="torch or onnxscript is not installed on this Python",
    ),
]

NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.drop = nn.Dropout(0.5)
        self.full = nn.Linear(144, 10)

    def forward(self, image):
        embedding = torch.relu(self.conv(image)).flatten(1)
        return {"scores": self.full(self.drop(embedding)), "embedding": embedding}


class Always(Net):
    def forward(self, image):
        return nn.functional.dropout(image, 0.5, training=True)


class Block(nn.Module):
    def __init__(self, width, out, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )
        self.skip = nn.Conv2d(width, out, 1, stride)

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Block(1, 8, 1), Block(8, 16, 2), nn.AdaptiveAvgPool2d(1))
        self.full = nn.Linear(16, 5)

    def forward(self, image):
        return self.full(self.body(image).flatten(1))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 5, bidirectional=True, batch_first=True)

    def forward(self, tokens):
        return self.rnn(tokens)[0]


class Gru(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 5, batch_first=True)

    def forward(self, tokens, state):
        out, state = self.rnn(tokens, state[None])
        return out[:, -1], state[0]


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens):
        return self.body(tokens)


class Spectrum(nn.Module):
    def forward(self, sound):
        wave = torch.fft.rfft(sound)
        window = torch.hann_window(16)
        short = torch.stft(sound, 16, 8, window=window, return_complex=True)
        return wave.abs(), torch.view_as_real(short)


class Masked(nn.Module):
    def forward(self, row):
        return torch.where(row > 0, row, torch.zeros_like(row)), row > 0.5


class Ids(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids):
        return self.table(ids).mean(1)


class Dicted(nn.Module):
    def forward(self, batch):
        return batch["left"] - 2 * batch["right"]


class Averages(nn.Module):
    def forward(self, row):
        return nn.functional.layer_norm(row, (8,)).mean(1)


class Mixed(nn.Module):
    def forward(self, row):
        return row.view(2, -1).sum(1)


class Inner(nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x)[1]


class Svd(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), Inner())

    def forward(self, image):
        return self.body(image[:, 0])


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), Branch())

    def forward(self, row):
        return self.body(row)


class Text(nn.Module):
    def forward(self, row):
        return {"row": row, "kind": "text"}


class Wide(nn.Module):  # weights of a megabyte, which exporters like to put beside the file
    def __init__(self):
        super().__init__()
        self.full = nn.Linear(8, 32768)

    def forward(self, row):
        return self.full(row)[:, ::4096]


def scripted():
    return torch.jit.script(nn.Linear(8, 2))


def whole():
    return torch.load("whole.pt", weights_only=False)
"""

SAVE = """
import torch
from safetensors.torch import save_file
from torch import nn
import nets

torch.manual_seed(1)
net = nets.Net()
save_file(net.state_dict(), "net.safetensors")
torch.save(net.state_dict(), "net.pt")
torch.save(net, "whole.pt")
rows = torch.randn(2, 1, 8, 8)
axes = {"image": {0: torch.export.Dim("batch")}}
free = {"tokens": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
export, save = torch.export.export, torch.export.save
save(export(net.eval(), (rows,), dynamic_shapes=axes), "net.pt2")
save(export(net, (rows,)), "frozen.pt2")
save(export(net.train(), (rows,), dynamic_shapes=axes), "train.pt2")
save(export(nets.Encoder().eval(), (torch.randn(2, 7, 6),), dynamic_shapes=free), "free.pt2")
script = torch.jit.script(nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.5), nn.GELU()))
script.save("script.pt")
"""


def make(folder):
    (folder / "nets.py").write_text(NETS)
    random = np.random.default_rng(0)
    np.savez(folder / "image.npz", image=random.normal(size=(40, 1, 8, 8)))
    np.savez(folder / "row.npz", row=random.normal(size=(40, 8)))
    np.savez(folder / "tokens.npz", tokens=random.normal(size=(40, 7, 6)))
    np.savez(folder / "carried.npz", tokens=random.normal(size=(40, 7, 6)), state=np.ones((40, 5)))
    np.savez(
        folder / "two.npz", left=random.normal(size=(40, 3)), right=random.normal(size=(40, 3))
    )
    np.savez(folder / "sound.npz", sound=random.normal(size=(40, 64)))
    np.savez(folder / "ids.npz", ids=random.integers(0, 10, size=(40, 5)))
    done = subprocess.run(
        [sys.executable, "-c", SAVE], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    return make_once(tmp_path_factory, "torch", make)


IMAGE, ROW = "image.npz", "row.npz"
TIME = {"tokens": {1: "time"}}
SOURCE = "converters.sources.torch"
CASES = {
    "weights": case("nets:Net", IMAGE, weights="net.safetensors"),
    "archive": case("net.pt2", IMAGE),
    "pickled": case("whole.pt", IMAGE),
    "residual": case("nets:Residual", IMAGE),
    "lstm": case("nets:Lstm", "tokens.npz", free_axes=TIME),
    "gru": case("nets:Gru", "carried.npz"),
    "encoder": case("nets:Encoder", "tokens.npz", free_axes=TIME),
    "counted": case("free.pt2", "tokens.npz"),
    "spectrum": case("nets:Spectrum", "sound.npz"),
    "masked": case("nets:Masked", ROW),
    "ids": case("nets:Ids", "ids.npz"),
    "dict": case("nets:Dicted", "two.npz"),
    "dict-off": case("nets:Dicted", "two.npz", off={f"{SOURCE}:_NO_KEYWORDS": "()"}),
    "opset": case("nets:Net", IMAGE, opset=17),
    "opset-kept": case("nets:Averages", ROW, opset=17),
    "opset-off": case(
        "nets:Averages",
        ROW,
        opset=17,
        off={
            "converters.graph:settle_opset": "lambda model, asked, target: before(model, None, target)"
        },
    ),
    "clash": case("nets:Net", IMAGE, output_names=["conv.weight", "linear"]),
    "clash-off": case(
        "nets:Net",
        IMAGE,
        output_names=["conv.weight", "linear"],
        off={"converters.naming:_all_names": "lambda graph: set()"},
    ),
    "frozen": case("frozen.pt2", IMAGE),
    "frozen-off": case("frozen.pt2", IMAGE, off={f"{SOURCE}:_refuse_frozen": "lambda *rest: None"}),
    "wide": case("nets:Wide", ROW),
    "made-archive": case("net.pt2", ""),
    "made-factory": case("nets:Net", ""),
    "made-script": case("script.pt", ""),
    "made-pickled": case("whole.pt", ""),
    "no-axes": case("nets:Net", IMAGE, off={f"{SOURCE}:_free": "lambda job, name: {}"}),
    "mixed": case("nets:Mixed", ROW),
    "mixed-off": case(
        "nets:Mixed",
        ROW,
        off={
            "converters.sources.base:check_rows": "lambda outputs, rows: None",
            f"{SOURCE}:run_model": "lambda call, inputs, batch, say: call(inputs)",
        },
    ),
    "train": case("train.pt2", IMAGE),
    "train-off": case("train.pt2", IMAGE, off={f"{SOURCE}:_refuse_random": "lambda *rest: None"}),
    "always": case("nets:Always", IMAGE),
    "branch": case("nets:Branching", ROW),
    "svd": case("nets:Svd", IMAGE),
    "text": case("nets:Text", ROW),
    "script": case("script.pt", ROW),
    "script-opset": case("script.pt", ROW, opset=18),
    "scripted": case("nets:scripted", ROW),
    "no-name": case("nets:Nope", ROW),
    "no-module": case("os:getcwd", ROW, kind="torch"),
    "bad-weights": case("nets:Net", IMAGE, weights="whole.pt"),
    "other-samples": case("nets:Residual", ROW),
}


@pytest.fixture(scope="module")
def outcomes(nets):
    return outcomes_once(nets, CASES)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("weights", ["image float32[batch,1,8,8]"],
         ["scores float32[batch,10]", "embedding float32[batch,144]"]),
        ("archive", ["image float32[batch,1,8,8]"],
         ["scores float32[batch,10]", "embedding float32[batch,144]"]),
        ("pickled", ["image float32[batch,1,8,8]"],
         ["scores float32[batch,10]", "embedding float32[batch,144]"]),
        ("residual", ["image float32[batch,1,8,8]"], ["output float32[batch,5]"]),
        ("lstm", ["tokens float32[batch,time,6]"], ["output float32[batch,time,10]"]),
        ("gru", ["tokens float32[batch,7,6]", "state float32[batch,5]"],
         ["output_0 float32[batch,5]", "output_1 float32[batch,5]"]),
        ("encoder", ["tokens float32[batch,time,6]"], ["output float32[batch,time,6]"]),
        ("spectrum", ["sound float32[batch,64]"],
         ["output_0 float32[batch,33]", "output_1 float32[batch,9,9,2]"]),
        ("masked", ["row float32[batch,8]"],
         ["output_0 float32[batch,8]", "output_1 bool[batch,8]"]),
        ("ids", ["ids int64[batch,5]"], ["output float32[batch,4]"]),
        ("script", ["input float32[batch,8]"], ["output float32[batch,4]"]),
        # From the bytes alone: weights that lay beside the file would not load.
        ("wide", ["row float32[batch,8]"], ["output float32[batch,8]"]),
        ("made-archive", ["image float32[batch,1,8,8]"],
         ["scores float32[batch,10]", "embedding float32[batch,144]"]),
    ],
)  # fmt: skip
def test_converts(outcomes, name, inputs, outputs):
    got = outcomes[name]
    assert not got.error
    assert (got.inputs, got.outputs) == (inputs, outputs)
    assert got.max_abs < 1e-5
    assert got.opset == (17 if name == "script" else 18)


def test_a_module_in_training_mode_is_brought_to_eval_and_it_is_said(outcomes):
    assert "training-mode" in outcomes["weights"].traps
    assert not outcomes["archive"].traps


def test_axes_that_the_exporter_counted_get_names(outcomes):
    got = outcomes["counted"]
    assert got.inputs == ["tokens float32[batch,tokens_1,6]"]
    assert got.outputs == ["output float32[batch,tokens_1,6]"]
    assert got.traps == ["counted-axes"]


def test_a_dict_of_inputs_is_not_taken_for_keywords(outcomes):
    assert outcomes["dict"].inputs == ["left float32[batch,3]", "right float32[batch,3]"]
    assert "trailing-dict" in outcomes["dict"].traps
    assert "cannot export" in outcomes["dict-off"].error


def test_the_opset_is_read_back(outcomes):
    assert outcomes["opset"].opset == 17
    assert outcomes["script-opset"].opset == 18
    assert "opset 17 was asked for, the exporter wrote opset 18" in outcomes["opset-kept"].error
    assert outcomes["opset-off"].opset == 18  # what would have been written without a word


def test_wanted_names_that_clash_inside_the_graph(outcomes):
    assert outcomes["clash"].outputs == [
        "conv.weight float32[batch,10]",
        "linear float32[batch,144]",
    ]
    assert "does not load" in outcomes["clash-off"].error


def test_only_one_exporter_is_said_to_go_away(outcomes):
    assert "marked for removal" in outcomes["script"].warnings[0]
    assert not outcomes["residual"].warnings


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("frozen", 'input "image" has its batch axis frozen at 2'),
        ("no-axes", 'input "image" has its batch axis frozen at 2'),
        ("mixed", 'output "output" has shape [2] for 40 rows'),
        ("mixed-off", 'output "output" has its batch axis frozen at 2'),
        ("train", "training mode?); call eval()"),
        ("train-off", "Dropout in training mode (at "),
        ("always", "answers at random"),
        ("branch", 'in forward of module "body.1" (Branch), nets.py:128; a branch depends on the'),
        ("svd", 'aten._linalg_svd; in forward of module "body.1" (Inner), nets.py:114; ONNX has'),
        ("text", 'output "kind" is a str, not a tensor'),
        ("scripted", "save it with its save() as .pt"),
    ],
)
def test_refused_by_name(outcomes, name, words):
    assert words in outcomes[name].error
    assert outcomes[name].kind == "UnsupportedModelError"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-name", "no attribute 'Nope'"),
        ("no-module", "os:getcwd gave a str, not a torch Module"),
        ("bad-weights", "expected the module's own state dict"),  # weights_only refuses a module
        ("frozen-off", "Guard failed: image.size()[0] == 2"),
        ("other-samples", "the model itself fails on the samples (rows of image [8])"),
        ("made-factory", "no rows can be made for forward (image)"),
        ("made-pickled", "no rows can be made for forward (image)"),
        ("made-script", "no rows can be made for the script (input)"),
    ],
)
def test_what_cannot_be_loaded(outcomes, name, words):
    assert words in outcomes[name].error


@pytest.fixture
def convert(nets, monkeypatch, tmp_path):
    monkeypatch.chdir(nets)

    def call(source, *, samples=IMAGE, trust=True, **fields):
        recipe = converters.Recipe(source=source, samples=samples, name="net", release=1, **fields)
        return converters.convert(recipe, tmp_path / "net.edgb", trust=trust)

    return call


def test_the_same_source_gives_the_same_bytes_and_none_of_this_machine(
    convert, nets, tmp_path, monkeypatch
):
    """Through the real throw-away process, twice."""
    convert("nets:Net", weights="net.pt")
    first = (tmp_path / "net.edgb").read_bytes()
    convert("nets:Net", weights="net.pt")
    assert (tmp_path / "net.edgb").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "net.edgb") as bundle:
        model = bundle.read("model.onnx")
    for word in (str(nets), "nets.py", "site-packages", "stack_trace"):
        assert word.encode() not in model
    # The control: what the exporter notes at each node, were it left there.
    monkeypatch.setattr("converters.graph._strip", lambda model: None)
    convert("nets:Net", weights="net.pt")
    with zipfile.ZipFile(tmp_path / "net.edgb") as bundle:
        assert str(nets).encode() in bundle.read("model.onnx")


@pytest.mark.parametrize("source", ["nets:Net", "net.pt2", "script.pt", "whole.pt"])
def test_code_needs_trust(convert, source):
    with pytest.raises(DeniedError, match="--trust"):
        convert(source, trust=False)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.fixture
def hostile(nets):
    """Each kind with a pickle inside that makes a folder when it is opened."""
    import torch

    torch.save({"net": Canary(str(nets / "canary"))}, nets / "canary.pt")
    with (
        zipfile.ZipFile(nets / "net.pt2") as good,
        zipfile.ZipFile(nets / "canary.pt2", "w") as bad,
    ):
        with zipfile.ZipFile(nets / "canary.pt") as archive:
            code = archive.read("canary/data.pkl")
        for name in good.namelist():
            is_code = name.endswith(("sample_inputs/model.pt", ".pkl"))
            bad.writestr(name, code if is_code else good.read(name))
    return nets


@pytest.mark.hostile("R21 foreign models run in a throw-away process")
@pytest.mark.parametrize(
    ("source", "fields", "kind"),
    [
        ("canary.pt", {}, DeniedError),
        ("canary.pt2", {}, DeniedError),
        ("nets:Net", {"weights": "canary.pt", "trust": True}, ConversionError),
    ],
)
def test_a_canary_never_sings_without_trust(convert, hostile, tmp_path, source, fields, kind):
    with pytest.raises(kind):
        convert(source, **{"trust": False, **fields})
    assert not (hostile / "canary").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("cut.pt2", lambda data: data[: len(data) // 2], "broken or cut short"),
        ("cut.pt", lambda data: data[:300], "broken or cut short"),
        ("text.pt", lambda data: b"hello", "nothing that PyTorch wrote"),
        ("renamed.pt", None, "weights alone: give module:factory and --weights renamed.pt"),
        ("renamed.onnx", None, "weights alone: give module:factory and --weights renamed.onnx"),
    ],
)
def test_bad_files(convert, nets, tmp_path, name, make, words):
    source = "net.pt2" if make else "net.pt"
    data = (nets / source).read_bytes()
    (nets / name).write_bytes(make(data) if make else data)
    with pytest.raises(ConversionError, match=words):
        convert(name)
    assert not list(tmp_path.iterdir())


def test_an_archive_with_a_broken_member_is_told_in_one_sentence(convert, nets):
    with zipfile.ZipFile(nets / "half.pt2", "w") as bad:
        bad.writestr("half/archive_format", "pt2")
    with pytest.raises(ConversionError, match=r"is not a torch\.export archive"):
        convert("half.pt2")
