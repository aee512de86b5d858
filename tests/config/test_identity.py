"""Names that default to the host's."""

from __future__ import annotations

import pytest

from edged.config.identity import base_topic, client_id, node_name
from edged.config.mqtt import MqttConfig
from edged.config.schema import Config


@pytest.mark.parametrize(
    ("host", "node"),
    [
        ("jetson-1", "jetson-1"),
        ("a.b.c", "a-b-c"),
        ("...", "edged"),
        ("x" * 80, "x" * 64),
        ("", "edged"),
    ],
)
def test_node_from_host(host: str, node: str) -> None:
    assert node_name(Config(), host) == node


def test_defaults_and_choices() -> None:
    assert base_topic(Config(), "h") == "edged/h"
    assert client_id(Config(node="n"), "h") == "edged-n"
    assert len(client_id(Config(node="n" * 64))) == 64
    chosen = Config(node="n", mqtt=MqttConfig(base="site/", client_id="c"))
    assert (node_name(chosen), base_topic(chosen), client_id(chosen)) == ("n", "site", "c")
    assert node_name(Config())
