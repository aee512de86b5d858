"""What is wrong with sequences as far as the configuration alone can tell."""

from __future__ import annotations

import pytest

from edged.config.check import check
from edged.config.convert import convert_config
from edged.config.load import read_document

HEAD = "trust: {require_signatures: false}\n"
STEP = "pipelines: {p: {inputs: {x: y}, steps: [{name: a, model: vad}], outputs: {y: a}}}\n"


def found(section: str, more: str = "", beside: str = "") -> list[str]:
    text = f"{HEAD}models:\n  vad:\n    bundle: x\n{beside}    sequence: {{{section}}}\n{more}"
    document, _ = read_document("x", text.encode())
    draft = convert_config(document)
    return [f"{p.line}: {p.path}: {p.message}" for p in [*draft.problems, *check(draft)]]


def test_a_good_one():
    assert not found("state: {h: hN}")


@pytest.mark.parametrize(
    ("section", "more", "beside", "wanted"),
    [
        ("state: {}", "", "", "5: models.vad.sequence.state: names no state"),
        ("max_state: 1MiB", "", "", '5: models.vad.sequence: needs "state"'),
        (
            "state: {h: hN}, idle_timeout: 1ms", "", "",
            "5: models.vad.sequence.idle_timeout: is outside what can work; expected 100ms to 24h",
        ),
        (
            "state: {h: hN}, on_swap: drain", "", "    memory: {swap: replace}\n",
            "6: models.vad.sequence.on_swap: needs the old release beside the new one",
        ),
        (
            "state: {h: hN}", "memory: {budget: 64MiB}\n", "",
            "6: memory.budget: sequences may keep 67108864 bytes",
        ),
        (
            "state: {h: hN}", "", "    cache: {size: 1MiB}\n",
            "5: models.vad.cache: keeps answers by their inputs alone, and",
        ),
        ("state: {h: hN}", STEP, "", '6: pipelines.p.steps[0].model: "vad" keeps state'),
    ],
)  # fmt: skip
def test_bad_ones(section: str, more: str, beside: str, wanted: str):
    (problem,) = found(section, more, beside)
    assert problem.startswith(wanted)
