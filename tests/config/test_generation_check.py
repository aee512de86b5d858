"""What is wrong with models that make texts as far as the configuration alone can tell."""

from __future__ import annotations

import pytest

from edged.config.check import check
from edged.config.convert import convert_config
from edged.config.generation_check import RUNTIME
from edged.config.load import read_document
from edged.runtimes.registry import RUNTIME_NAMES

GOOD = "isolation: model, runtime: [onnxruntime-genai]"


def found(model: str) -> list[str]:
    text = f"trust: {{require_signatures: false}}\nmodels:\n  m: {{bundle: x, {model}}}\n"
    draft = convert_config(read_document("x", text.encode())[0])
    return [f"{p.path}: {p.message}" for p in [*draft.problems, *check(draft)]]


@pytest.mark.parametrize("more", ["", ", generation: {max_prompt: 9}", ", cache: {size: 1MiB}"])
def test_a_good_one(more: str):
    assert RUNTIME in RUNTIME_NAMES
    assert not found(GOOD + more)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("runtime: [onnxruntime-genai]", "models.m.isolation: onnxruntime-genai holds up every"),
        ("isolation: device, runtime: [onnxruntime-genai]", "models.m.isolation: onnx"),
        (
            "isolation: model, runtime: [onnxruntime-genai, onnxruntime]",
            "models.m.runtime: onnxruntime-genai makes texts and no other can; name it alone",
        ),
        ("generation: {max_prompt: 9}", "models.m.generation: bounds texts, which are made by"),
        (GOOD + ", sequence: {state: {a: b}}", "models.m.sequence: a model that makes texts has"),
    ],
)
def test_bad_ones(model: str, wanted: str):
    (problem,) = found(model)
    assert problem.startswith(wanted)
