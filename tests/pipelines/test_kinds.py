"""Every kind that a step may have is made into work."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.pipeline import KINDS, StepConfig
from edged.errors import FieldError
from edged.pipelines.kinds import check_kind, make_work, named_inputs
from edged.pipelines.labels import Label
from tests.fakes.pipelines import config_of
from tests.fakes.token_files import write_token_file

STEPS = {
    "compute": "compute: x * 2",
    "select": "select: {from: x, at: 0}",
    "concat": "concat: {from: [x, x]}",
    "gather": "gather: {from: x}",
    "first": "first: [x]",
    "image": "image: {from: x}",
    "crop": "crop: {from: x, boxes: b}",
    "boxes": "boxes: {boxes: x, scores: s}",
    "regions": "regions: {from: x, picture: p}",
    "signal": "signal: {from: x, size: 4}",
    "picture": "picture: {from: x}",
    "audio": "audio: {from: x, rate: 16000}",
    "resample": "resample: {from: x, have: 2, want: 3}",
    "mel": "mel: {from: x, rate: 16000, bands: 4}",
    "windows": "windows: {from: x, size: 2}",
    "transpose": "transpose: {from: x, axes: [0]}",
    "each": "each: {from: x}",
    "reshape": "reshape: {from: x, shape: [-1]}",
    "ctc": "ctc: {from: x, characters: c.txt}",
    "tokens": "tokens: {from: x, file: t.json, length: 8}",
    "labels": "labels: {from: x}",
    "ends": "ends: {from: x, head: 4}",
}


def step(text: str) -> StepConfig:
    return config_of(
        f"    inputs: {{x: 'int8[1]'}}\n    steps: [{{name: a, {text}}}]\n    outputs: {{y: a}}\n"
    ).steps[0]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"model", "use"}))
def test_each_kind(kind: str, tmp_path: Path):
    (tmp_path / "c.txt").write_text("a\n")
    if kind == "tokens":
        write_token_file(tmp_path / "t.json")
    config = step(STEPS[kind])
    check_kind(config)
    work = make_work(config, lambda name: tmp_path / name, lambda _: [Label("a")])
    assert "x" in work.reads.values()


def test_inputs_by_name():
    assert named_inputs(step("model: m, inputs: x"), "only") == {"only": "x"}
    assert named_inputs(step("model: m, inputs: {a: x}")) == {"a": "x"}


def test_one_kind():
    with pytest.raises(FieldError, match="found: none"):
        check_kind(step("when: x > 1"))
