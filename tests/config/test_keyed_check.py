"""What is wrong with bindings that remember, as far as the configuration alone can tell."""

from __future__ import annotations

import pytest

from edged.config.check import check
from edged.config.convert import convert_config
from edged.config.load import read_document

HEAD = """\
trust: {require_signatures: false}
mqtt: {host: h}
models:
  plain: {bundle: p}
  vad: {bundle: x, sequence: {state: {h: hN}}}
bindings:
"""


def found(binding: str) -> list[str]:
    text = (
        f"{HEAD}- {{name: b, from: 'in/{{site}}/{{device}}/vib', to: 'out/{{device}}', {binding}}}"
    )
    document, _ = read_document("x", text.encode())
    draft = convert_config(document)
    return [f"{p.line}: {p.path}: {p.message}" for p in [*draft.problems, *check(draft)]]


def test_good_ones() -> None:
    assert not found("model: plain")
    assert not found("model: vad, sequence: {key: '{site}/{device}'}")


@pytest.mark.parametrize(
    ("binding", "wanted"),
    [
        (
            "model: vad@1",
            '7: bindings[0].model: "vad" keeps state (sequence), and messages have none yet',
        ),
        (
            "model: plain, sequence: {key: '{device}'}",
            '7: bindings[0].sequence: "plain" keeps nothing from one message to the next; remove',
        ),
        (
            "model: vad, sequence: {key: '{devise}'}",
            "7: bindings[0].sequence.key: uses {devise}, which `from` does not name (did you mean",
        ),
        (
            "model: vad, sequence: {key: all}",
            "7: bindings[0].sequence.key: is the same for every message; name a level",
        ),
        (
            "model: vad, sequence: {key: '{device}/#'}",
            '7: bindings[0].sequence.key: "#" is a wildcard',
        ),
        ("model: vad, sequence: {}", '7: bindings[0].sequence: needs "key"'),
        (
            "model: vad, sequence: {key: '{device}'}, stream: true",
            "7: bindings[0].stream: goes with texts",
        ),
    ],
)
def test_bad_ones(binding: str, wanted: str) -> None:
    assert [problem for problem in found(binding) if problem.startswith(wanted)]
