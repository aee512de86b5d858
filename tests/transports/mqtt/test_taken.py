"""What is not sent to a broker that does not take it, by a table and over paho, which would send it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edged.protocol.broker_session import Connected, Publication, Published, SessionEvent
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.paho import MqttSession
from edged.transports.mqtt.standing import UNREAD_BYTES
from edged.transports.mqtt.taken import Taken
from tests.transports.conftest import until
from tests.transports.mqtt.test_native import broker_that

PLAIN = Publication("t", b"", qos=0)
LARGE = Publication("t", bytes(100_000), qos=0)


@pytest.mark.parametrize(
    ("taken", "publication", "unread", "code"),
    [
        (Taken(), PLAIN, UNREAD_BYTES, None),
        (Taken(), PLAIN, UNREAD_BYTES + 1, 0x97),
        (Taken(), PLAIN._replace(qos=1), UNREAD_BYTES + 1, None),
        (Taken(1), PLAIN._replace(qos=2), 0, None),
        (Taken(0), PLAIN._replace(qos=1), 0, 0x9B),
        (Taken(0), PLAIN, 0, None),
        (Taken(2, False), PLAIN, 0, None),
        (Taken(2, False), PLAIN._replace(retain=True), 0, 0x9A),
        (Taken(2, True, LARGE.size_bytes), LARGE, 0, None),
        (Taken(2, True, LARGE.size_bytes - 1), LARGE, 0, 0x95),
    ],
)
def test_what_would_end_the_connection_is_not_sent(
    taken: Taken, publication: Publication, unread: int, code: int | None
) -> None:
    refusal = taken.refusal(taken.fitting(publication), unread)
    assert (refusal and refusal[0]) == code


@pytest.mark.broker
def test_what_nobody_waits_for_is_counted_where_paho_does_not_send_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither to a broker that does not read, nor what it does not take."""
    # MQTT 5: packets of 200,000 bytes at most, no retained messages.
    connack = b"\x20\x0a\x00\x00\x07\x27\x00\x03\x0d\x40\x25\x00"
    count = 400
    events: list[SessionEvent] = []

    def told() -> list[Published]:
        return [event for event in events if isinstance(event, Published)]

    async def main() -> None:
        go_on, got = asyncio.Event(), 0

        async def act(reader: Any, writer: Any) -> None:
            nonlocal got
            writer.write(connack)
            await go_on.wait()
            while data := await reader.read(1 << 20):
                got += len(data)

        async with broker_that(act) as port:
            session = MqttSession(SessionOptions("n", "edged/n", "127.0.0.1", port))
            session.start(asyncio.get_running_loop(), events.append)
            try:
                await until(lambda: any(isinstance(event, Connected) for event in events))
                session.send(Publication("t", bytes(200_001), qos=0))
                session.send(Publication("t", b"", qos=0, retain=True))
                await until(lambda: session.stats()["unsent"] == 2)
                for _ in range(count):
                    session.send(LARGE)
                token = session.publish(LARGE)
                await until(lambda: bool(told()))
                assert [(one.token, one.reason_code) for one in told()] == [(token, 0x97)]
                unsent = session.stats()["unsent"] - 2
                assert 100 < unsent < count
                go_on.set()
                await until(lambda: got > (count - unsent) * len(LARGE.payload))
                later = session.publish(PLAIN)
                await until(lambda: len(told()) == 2)
                assert (told()[1].token, told()[1].reason_code) == (later, 0)
                assert session.stats()["unsent"] == unsent + 2
            finally:
                await session.stop(5)

    asyncio.run(asyncio.wait_for(main(), 60))
    assert caplog.text.count("is lost: ") == 1, "it is said once a minute"
