"""What is wrong with the feeds of models, as far as the configuration alone can tell."""

from __future__ import annotations

import pytest

from edged.config.check import check
from edged.config.convert import convert_config
from edged.config.load import read_document

MQTT = "mqtt: {host: h, base: edged/n}\n"
BINDING = "bindings: [{name: b, from: 'in/+', to: out, model: m}]\n"


def found(rule: str, more: str = MQTT) -> list[str]:
    text = f"trust: {{require_signatures: false}}\n{more}models:\n  m: {{bundle: x, publish: {{{rule}}}}}\n"
    document, _ = read_document("x", text.encode())
    draft = convert_config(document)
    return [f"{p.line}: {p.path}: {p.message}" for p in [*draft.problems, *check(draft)]]


@pytest.mark.parametrize("rule", ["to: out/m", "to: 'plant/{model}'", "to: edged/n/result/m"])
def test_good_ones(rule: str) -> None:
    assert not found(rule)


@pytest.mark.parametrize(
    ("rule", "more", "wanted"),
    [
        ("to: out", "", "3: models.m.publish: needs a broker"),
        ("to: 'out/{site}'", MQTT, "4: models.m.publish.to: has named levels; only {model}"),
        ("to: out/#", MQTT, '4: models.m.publish.to: "#" is a wildcard'),
        ("to: $SYS/x", MQTT, '4: models.m.publish.to: "$SYS/x": topics that begin with $'),
        ("to: edged/n/models", MQTT, '4: models.m.publish.to: "edged/n/models" is one of the'),
        ("to: edged/n", MQTT, '4: models.m.publish.to: "edged/n" is one of the'),
        ("to: 'in/{model}'", MQTT + BINDING, '5: models.m.publish.to: "in/m" is read by binding'),
        ("to: out, max_size: 1GiB", MQTT, "4: models.m.publish.max_size: is outside what can"),
        ("to: out, when_full: block", MQTT, "4: models.m.publish.when_full:"),
        ("qos: 1", MQTT, '4: models.m.publish: needs "to"'),
    ],
)
def test_bad_ones(rule: str, more: str, wanted: str) -> None:
    assert [problem for problem in found(rule, more) if problem.startswith(wanted)]
