"""Bindings beyond the golden cases: what must not be complained about."""

from __future__ import annotations

import pytest

from tests.config.test_check import HEAD, found


@pytest.mark.parametrize(
    "binding",
    [
        "{name: b, from: 'plant/{s}/in', to: 'plant/{s}/out', model: a}",
        "{name: b, from: 'plant/+/in', model: a@2}",
        "{name: b, from: edged/n/infer/a, to: edged/n/result/a, model: a}",
        "{name: b, from: edged/other/status, model: a}",
    ],
)
def test_good_ones(binding: str) -> None:
    assert found(HEAD + f"bindings: [{binding}]\n") == []


@pytest.mark.parametrize(
    ("binding", "paths"),
    [
        ("{name: b, from: '#', model: a}", {"bindings[0].from"}),
        ("{name: b, from: 'edged/+/models/+/state', model: a}", {"bindings[0].from"}),
        ("{name: b, from: x, to: edged/n/status, model: a}", {"bindings[0].to"}),
        ("{name: b, from: x, codec: raw, fields: [y], model: a}", {"bindings[0].fields"}),
        ("{name: b, from: x, retain: true, model: a}", {"bindings[0].retain"}),
        ("{name: b, from: x, timeout: 0, model: a}", {"bindings[0].timeout"}),
    ],
)
def test_bad_ones(binding: str, paths: set[str]) -> None:
    assert set(found(HEAD + f"bindings: [{binding}]\n")) == paths
