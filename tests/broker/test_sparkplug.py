"""A node's session: its name, its will, and that it keeps nothing."""

from __future__ import annotations

from typing import Any

import pytest

from edged.broker.sparkplug import open_node
from edged.config.sparkplug import SparkplugNodeConfig
from edged.transports.mqtt import clients
from edged.transports.mqtt.connection import SessionOptions
from tests.fakes.session import FakeSession
from tests.transports.bindings.test_bindings import on_loop


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    def open_session(options: SessionOptions, client: str) -> FakeSession:
        found.append((options, client))
        return FakeSession()

    monkeypatch.setattr(clients, "open_session", open_session)
    return found


@pytest.mark.parametrize(
    ("node", "name", "host"), [(None, "host", None), ("own", "own", None), (None, "host", "scada")]
)
def test_a_session_of_its_own(
    made: list[Any], node: str | None, name: str, host: str | None
) -> None:
    @on_loop
    async def work() -> None:
        config = SparkplugNodeConfig(group="g", node=node, primary_host=host)
        options = SessionOptions("edged-n", "edged/n", max_inflight=64)
        open_node(config, "host", options, "native", lambda: None)

    work()
    ((options, client),) = made
    assert (options.client_id, options.session_expiry_s, client) == ("edged-n-spb", 0, "native")
    assert options.takes_retained == (host is not None), "its STATE is a retained message"
    will = options.last_words()
    assert (will.topic, will.qos) == (f"spBv1.0/g/NDEATH/{name}", 1)
