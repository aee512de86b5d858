"""Steps on texts, labels and bytes: their words, and the bounds of what may be written."""

from __future__ import annotations

import pytest

from edged.config.convert import convert_config
from edged.config.load import read_document
from tests.fakes.pipelines import config_of

AROUND = "    inputs: {{x: 'int8[1]'}}\n    steps: [{{name: a, {step}}}]\n    outputs: {{y: a}}\n"


def test_what_is_not_written():
    step = config_of(AROUND.format(step="tokens: {from: x, file: t.json}")).steps[0].tokens
    assert step is not None
    assert (step.length, step.pad, step.multiple, step.special) == (None, "longest", 1, True)
    assert step.max_bytes == 65536
    step = config_of(AROUND.format(step="labels: {from: x}")).steps[0].labels
    assert step is not None
    assert (step.of, step.file, step.top, step.threshold) == (None, None, 1, None)


@pytest.mark.parametrize(
    ("step", "path"),
    [
        ("tokens: {from: x, file: t, length: 0}", "tokens.length"),
        ("tokens: {from: x, file: t, length: 100000}", "tokens.length"),
        ("tokens: {from: x, file: t, pad: none}", "tokens.pad"),
        ("tokens: {from: x}", "tokens"),
        ("labels: {from: x, top: 0}", "labels.top"),
        ("ends: {from: x, head: 2000000}", "ends.head"),
        ("ends: {from: x, head: 1, pad: 3000000000}", "ends.pad"),
    ],
)
def test_bounds(step: str, path: str):
    text = "pipelines:\n  p:\n" + AROUND.format(step=step)
    document, _ = read_document("x", text.encode())
    (problem,) = convert_config(document).problems
    assert problem.path == f"pipelines.p.steps[0].{path}"
