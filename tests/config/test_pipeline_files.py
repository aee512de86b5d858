"""The files of steps, each once; a kind with a path that is not listed here would not be watched."""

from __future__ import annotations

import msgspec

from edged.config.convert import is_struct, options
from edged.config.explain import description
from edged.config.pipeline import KINDS, CtcConfig, PipelineConfig, StepConfig
from edged.config.pipeline_files import step_files
from edged.config.pipeline_text import LabelsConfig, TokensConfig


def pipeline(*steps: StepConfig) -> PipelineConfig:
    return PipelineConfig(inputs={"x": "float32[batch,4]"}, steps=steps, outputs={"y": "a"})


def test_each_once():
    ctc = CtcConfig(from_="x", characters="c.txt")
    tokens = TokensConfig(from_="x", file="t.json")
    one = pipeline(StepConfig(name="a", ctc=ctc), StepConfig(name="b", tokens=tokens))
    labels = LabelsConfig(from_="x", file="c.txt")
    two = pipeline(
        StepConfig(name="a", labels=labels),
        StepConfig(name="b", labels=LabelsConfig(from_="x")),
        StepConfig(name="c", compute="x"),
    )
    assert step_files({"one": one, "two": two}) == ["c.txt", "t.json"]


def test_no_path_is_left_out():
    found = set()
    for item in msgspec.structs.fields(StepConfig):
        for option in options(item.type):
            if item.name in KINDS and is_struct(option.base):
                found |= {
                    (item.name, field.encode_name)
                    for field in msgspec.structs.fields(option.base)
                    if "relative path" in description(options(field.type))
                }
    assert found == {("ctc", "characters"), ("tokens", "file"), ("labels", "file")}
