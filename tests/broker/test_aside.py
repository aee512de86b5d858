"""The sessions beside that of requests: who they are at the broker, and what they take."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edged.broker.aside import open_desired, open_questions
from edged.config.desired import DesiredConfig
from edged.config.mqtt import MqttConfig
from edged.transports.mqtt import clients
from edged.transports.mqtt.connection import SessionOptions
from tests.fakes.session import FakeSession


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[SessionOptions, str]]:
    found: list[tuple[SessionOptions, str]] = []

    def open_session(options: SessionOptions, client: str) -> FakeSession:
        found.append((options, client))
        return FakeSession()

    monkeypatch.setattr(clients, "open_session", open_session)
    return found


def test_questions_are_a_session_that_the_broker_forgets(opened: list[Any]) -> None:
    async def work() -> None:
        async def models(_: dict[str, Any]) -> Any:
            return []

        mqtt = MqttConfig(questions=("models",), client="paho")
        own = SessionOptions("box", "edged/box", max_inflight=64)
        calls = {"models": models, "status": models}
        asked = open_questions(mqtt, own, calls, lambda _: False)
        ((options, client),) = opened
        assert (options.client_id, options.session_expiry_s, client) == ("box-req", 0, "paho")
        assert options.max_inflight < own.max_inflight
        await asked.stop()

    asyncio.run(work())


def test_desired_is_a_session_that_takes_what_the_broker_kept(opened: list[Any]) -> None:
    async def work() -> None:
        mqtt = MqttConfig(desired=DesiredConfig())
        own = SessionOptions("box", "edged/box")
        made = open_desired(mqtt, own, lambda *_: None, {"generation": 1})  # type: ignore[arg-type]
        ((options, _),) = opened
        assert (options.client_id, options.takes_retained) == ("box-config", True)
        assert mqtt.desired is not None
        assert (options.max_packet_bytes or 0) > 2 * int(mqtt.desired.max_size)
        await made.stop()

    asyncio.run(work())
