"""The decoder with random weights that the docs and the tests use."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from converters.texts.example import Size, make_folder
from converters.texts.folder import read_folder
from edged.runtimes.genai_config import CONFIG


def test_the_same_bytes_each_time_also_over_an_older_one(tmp_path: Path):
    make_folder(tmp_path / "a")
    make_folder(tmp_path / "b", Size(layers=3))
    make_folder(tmp_path / "b")
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"
    )
    assert one == other
    make_folder(tmp_path / "b", seed=8)
    assert (tmp_path / "b/model.onnx.data").read_bytes() != one["model.onnx.data"]


def test_what_it_is(tmp_path: Path):
    make_folder(tmp_path, Size(layers=3, heads=6, kv_heads=3, head=16, context=99))
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("GroupQueryAttention") == 3
    assert json.loads((tmp_path / CONFIG).read_text())["model"]["context_length"] == 99
    assert read_folder(tmp_path).config.token_bytes == 2 * 3 * 3 * 16 * 4
