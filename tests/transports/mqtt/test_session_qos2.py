"""Publications of QoS 2 before a real broker, over both clients and both versions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edged.protocol.broker_session import Connected, Publication, Published, SessionEvent
from edged.transports.mqtt.clients import open_session
from edged.transports.mqtt.connection import SessionOptions
from tests.fakes.broker import Device, Mosquitto
from tests.transports.conftest import until

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("client", ["native", "paho"])
def test_each_is_taken_once_in_order_and_within_the_window(
    tmp_path: Path, client: str, protocol: str
) -> None:
    events: list[SessionEvent] = []

    async def work(broker: Mosquitto, device: Device) -> None:
        options = SessionOptions(
            "n", "edged/n", "127.0.0.1", broker.port, protocol, session_expiry_s=0
        )
        session = open_session(options, client)
        session.start(asyncio.get_running_loop(), events.append)
        await until(lambda: any(isinstance(event, Connected) for event in events))
        tokens = [
            session.publish(Publication("out", b"%d" % number, qos=number % 3))
            for number in range(300)
        ]
        await until(lambda: sum(isinstance(event, Published) for event in events) == 300, 60)
        done = [event for event in events if isinstance(event, Published)]
        assert sorted(event.token for event in done) == tokens
        assert {event.reason_code for event in done} == {0}
        heard = await asyncio.to_thread(device.get, 300)
        assert sorted(int(message.payload) for message in heard) == list(range(300))
        assert all(message.qos == int(message.payload) % 3 for message in heard)
        for number in range(100):
            session.publish(Publication("out", b"%d" % number, qos=2))
        heard = await asyncio.to_thread(device.get, 100)
        assert [int(message.payload) for message in heard] == list(range(100))
        await session.stop(5)

    with (
        Mosquitto(tmp_path) as broker,
        Device(broker, "out", qos=2) as device,
    ):
        asyncio.run(asyncio.wait_for(work(broker, device), 120))
