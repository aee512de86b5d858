"""What is wrong with pipelines as far as the configuration alone can tell."""

from __future__ import annotations

import pytest

from edged.config.check import check
from edged.config.convert import convert_config
from edged.config.load import read_document

HEAD = "trust: {require_signatures: false}\nmodels: {gate: {bundle: x, aliases: {best: 1}}}\n"


def found(text: str) -> list[str]:
    document, _ = read_document("x", (HEAD + text).encode())
    return [f"{p.path}: {p.message}" for p in check(convert_config(document))]


def pipeline(step: str, name: str = "p") -> str:
    return f"pipelines: {{{name}: {{inputs: {{x: y}}, steps: [{{name: a, {step}}}], outputs: {{y: a}}}}}}\n"


@pytest.mark.parametrize("model", ["gate", "gate@3", "gate@best"])
def test_good_ones(model: str):
    assert not found(pipeline(f"model: {model}"))


WRONG = {
    "model: gat": 'no model is named "gat" (did you mean "gate"?); models: gate',
    "model: p": '"p" is a pipeline; write its steps here',
    "model: gate@bst": (
        '"bst" is neither a release number nor an alias of "gate" (did you mean "best"?); '
        "aliases: best"
    ),
}


@pytest.mark.parametrize("step", WRONG)
def test_bad_ones(step: str):
    (problem,) = found(pipeline(step))
    assert problem.startswith(f"pipelines.p.steps[0].model: {WRONG[step]}")


def test_names_are_unique_among_models_and_pipelines():
    (problem,) = found(pipeline("model: gate", "gate")[:0] + pipeline("compute: x", "gate"))
    assert problem.startswith('pipelines.gate: "gate" is the name of a model too')


def test_bindings_may_name_a_pipeline():
    text = pipeline("compute: x") + "mqtt: {}\nbindings: [{name: b, from: f, model: MODEL}]\n"
    assert not found(text.replace("MODEL", "p"))
    assert not found(text.replace("MODEL", "p@1"))
    (problem,) = found(text.replace("MODEL", "p@2"))
    assert 'pipeline "p" is release 1; expected p@1' in problem
