"""What a bundle takes of a folder of ONNX Runtime GenAI, and what it refuses with file and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converters.errors import ConversionError
from converters.texts.folder import read_folder
from edged.runtimes.genai_config import CONFIG
from tests.fakes import texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in texts.files().items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def change(folder: Path, **decoder: Any) -> None:
    document = json.loads((folder / CONFIG).read_text())
    document["model"]["decoder"].update(decoder)
    (folder / CONFIG).write_text(json.dumps(document))


def test_what_is_taken(folder: Path):
    (folder / "README.md").write_text("read me")
    (folder / "chat_template.jinja").write_text("{{ x }}")
    read = read_folder(folder)
    assert read.files == dict(texts.files())
    assert next(iter(read.files)) == CONFIG
    assert read.kinds == {name: texts.TYPES[Path(name).suffix] for name in texts.files()}
    assert read.left_out == ("README.md", "chat_template.jinja")
    assert read.precision == "float32"


@pytest.mark.parametrize(
    ("dtype", "few_bits", "precision"),
    [("f4", False, "float32"), ("f2", False, "float16"), ("i1", False, "mixed"), ("f4", True, "mixed")],
)  # fmt: skip
def test_precision(folder: Path, dtype: str, precision: str, *, few_bits: bool):
    weight = numpy_helper.from_array(np.ones((2, 2), dtype), "w")
    kind, domain = ("MatMulNBits", "com.microsoft") if few_bits else ("MatMul", "")
    node = helper.make_node(kind, ["x", "w"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", [], [], [weight])
    onnx.save(helper.make_model(graph), folder / "model.onnx")
    assert read_folder(folder).precision == precision


class TestRefused:
    def refused(self, folder: Path, words: str) -> None:
        with pytest.raises(ConversionError, match=words):
            read_folder(folder)

    def test_no_such_folder(self, tmp_path: Path):
        self.refused(tmp_path, r"expected a folder with genai_config\.json")
        self.refused(tmp_path / "missing", r"expected a folder with genai_config\.json")

    def test_a_field_of_the_configuration(self, folder: Path):
        change(folder, session_options={"custom_ops_library": "x.so"})
        self.refused(folder, r"genai_config\.json: .*custom_ops_library")

    def test_another_device(self, folder: Path):
        change(folder, session_options={"provider_options": [{"cuda": {}}]})
        self.refused(folder, "provider_options: names another device")

    @pytest.mark.parametrize("name", ["tokenizer.json", "model.onnx"])
    def test_a_file_that_is_missing(self, folder: Path, name: str):
        (folder / name).unlink()
        self.refused(folder, name.replace(".", r"\."))

    def test_weights_that_are_missing(self, folder: Path):
        (folder / "model.onnx.data").unlink()
        self.refused(folder, r'lies in "model\.onnx\.data", which is no file')

    def test_weights_elsewhere(self, folder: Path):
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "../model.onnx.data"
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        self.refused(folder, r'lies in "\.\./model\.onnx\.data"')

    def test_weights_cut_short(self, folder: Path):
        data = (folder / "model.onnx.data").read_bytes()
        (folder / "model.onnx.data").write_bytes(data[:-1000])
        self.refused(folder, r"model\.onnx: ")

    def test_an_operator_that_does_more_than_compute(self, folder: Path):
        node = helper.make_node("EPContext", [], ["y"], domain="com.microsoft")
        graph = helper.make_graph([node], "g", [], [])
        onnx.save(helper.make_model(graph), folder / "model.onnx")
        self.refused(folder, "EPContext")

    def test_no_onnx(self, folder: Path):
        (folder / "model.onnx").write_bytes(b"\xff" * 99)
        self.refused(folder, r"model\.onnx: not an ONNX file")

    def test_a_name_that_no_bundle_holds(self, folder: Path):
        (folder / "model.onnx").rename(folder / "Model.onnx")
        change(folder, filename="Model.onnx")
        self.refused(folder, r"Model\.onnx: a bundle cannot hold a file of that name")

    def test_an_ending_that_says_something_else(self, folder: Path):
        (folder / "model.onnx").rename(folder / "model.bin")
        change(folder, filename="model.bin")
        self.refused(folder, r"expected a model file that ends in \.onnx")

    def test_a_pipe(self, folder: Path):
        import os

        (folder / "tokenizer.json").unlink()
        os.mkfifo(folder / "tokenizer.json")
        self.refused(folder, "tokenizer")
