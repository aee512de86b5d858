"""What is wrong with bindings that remember, as far as the configuration alone can tell."""

from __future__ import annotations

import pytest

from edged.config.check import check
from edged.config.convert import convert_config
from edged.config.load import read_document

HEAD = """\
trust: {require_signatures: false}
mqtt: {host: h, base: edged/n}
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
    assert not found("model: plain, window: {rows: 4, hop: 2, key: '{device}', gap: 5s}")
    assert not found("model: plain, fields: [a], join: [{from: 'hum/{site}/+', fields: [h]}]")
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
        (
            "model: plain, window: {rows: 4, hop: 5}",
            "7: bindings[0].window.hop: is more than the window's 4 rows",
        ),
        ("model: plain, window: {rows: 1}", "7: bindings[0].window.rows:"),
        (
            "model: plain, window: {rows: 4, gap: 48h}",
            "7: bindings[0].window.gap: is outside what can work; expected 1ms to 24h",
        ),
        (
            "model: plain, window: {rows: 4, key: '{no}'}",
            "7: bindings[0].window.key: uses {no}, which `from` does not name",
        ),
        (
            "model: plain, codec: tensor, window: {rows: 4}",
            "7: bindings[0].codec: carries whole inputs",
        ),
        (
            "model: plain, window: {rows: 4}, stream: true",
            "7: bindings[0].stream: and window exclude each other",
        ),
        (
            "model: plain, window: {rows: 4, max_size: 1B}",
            "7: bindings[0].window.max_size: would hold next to nothing",
        ),
        (
            "model: plain, fields: [a], join: [{from: 'hum/{place}', fields: [h]}]",
            "7: bindings[0].join[0].from: names {place}, which `from` does not",
        ),
        (
            "model: plain, join: [{from: hum, fields: [h]}]",
            "7: bindings[0].join: needs fields on both sides",
        ),
        (
            "model: plain, fields: [a], join: [{from: 'out/{device}', fields: [h]}]",
            '7: bindings[0].join[0].from: would receive results of binding "b"',
        ),
        (
            "model: plain, fields: [a], join: [{from: 'edged/#', fields: [h]}]",
            '7: bindings[0].join[0].from: "edged/#" would receive what this daemon publishes',
        ),
        (
            "model: plain, codec: raw, join: [{from: hum, fields: [h]}]",
            "7: bindings[0].codec: has no columns by name",
        ),
        (
            "model: plain, fields: [a], join: [{from: hum, fields: [h], max_age: 1ns}]",
            "7: bindings[0].join[0].max_age: is outside",
        ),
        (
            "model: plain, fields: [a], join: [{from: 'hum/#/x', fields: [h]}]",
            '7: bindings[0].join[0].from: "#" may only be the last level',
        ),
    ],
)
def test_bad_ones(binding: str, wanted: str) -> None:
    assert [problem for problem in found(binding) if problem.startswith(wanted)]
