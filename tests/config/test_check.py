"""Checks between fields beyond the golden cases: what must not be complained about."""

from __future__ import annotations

import pytest

from edged.config.check import check
from edged.config.convert import convert_config
from edged.config.load import read_document

HEAD = "trust: {require_signatures: false}\nmqtt: {base: edged/n}\nmodels: {a: {bundle: x}}\n"


def found(text: str) -> list[str]:
    document, _ = read_document("x", text.encode())
    assert document is not None
    return [problem.path for problem in check(convert_config(document))]


def test_consequences_of_other_problems_are_not_reported() -> None:
    """keys misspelt: not also "no key is trusted"; model broken: not also "no such model"."""
    text = (
        "trust: {kyes: [a]}\nmqtt: {}\nmodels: {a: {bundel: x}}\n"
        "bindings: [{name: b, from: f, model: a, timeout: soon}]\n"
    )
    assert found(text) == []


def test_independent_ones_are() -> None:
    text = HEAD + "bindings: [{name: b, from: f, to: f, model: c, timeout: soon}]\n"
    assert set(found(text)) == {"bindings[0].model", "bindings[0].to"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("reload: {poll: 1ms}", "reload.poll"),
        ("reload: {settle: 1min}", "reload.settle"),
        ("limits: {busy_wait: 2ms}", "limits.busy_wait"),
        ("limits: {max_request: 1B}", "limits.max_request"),
        ("mqtt: {session_expiry: 999999999h}", "mqtt.session_expiry"),
        ("mqtt: {base: 'a/{b}'}", "mqtt.base"),
        ("mqtt: {base: $SYS/x}", "mqtt.base"),
        ("mqtt: {tls: {key: x}}", "mqtt.tls.key"),
        ("mqtt: {host: /run/broker.sock, tls: {}}", "mqtt.tls"),
        ("mqtt: {host: /run/broker.sock, websocket: /mqtt}", "mqtt.websocket"),
        ("mqtt: {websocket: /mqtt, client: paho}", "mqtt.websocket"),
    ],
)
def test_ranges(text: str, path: str) -> None:
    assert found(text + "\n") == [path]


def test_auto_stands_alone() -> None:
    text = "models: {{m: {{bundle: x, runtime: {}}}}}\ntrust: {{require_signatures: false}}\n"
    assert found(text.format("auto")) == []
    assert found(text.format("[auto]")) == ["models.m.runtime"]
    assert found(text.format("[auto, onnxruntime]")) == ["models.m.runtime"]
