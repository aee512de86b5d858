"""The bounds of texts as they are written."""

from __future__ import annotations

import pytest

from edged.config.convert import convert_config
from edged.config.generation import GenerationConfig
from edged.config.load import read_document

MODEL = "models:\n  m:\n    bundle: x\n    generation: {SECTION}\n"


def convert(section: str):
    return convert_config(read_document("x", MODEL.replace("SECTION", section).encode())[0])


def test_fields():
    draft = convert("max_new_tokens: 9, max_prompt: 7")
    assert draft.config.models["m"].generation == GenerationConfig(max_new_tokens=9, max_prompt=7)
    assert convert("").config.models["m"].generation == GenerationConfig()


@pytest.mark.parametrize("section", ["max_new_tokens: 0", "max_prompt: 2000000", "temperature: 1"])
def test_refused(section: str):
    (problem,) = convert(section).problems
    assert problem.path.startswith("models.m.generation")
