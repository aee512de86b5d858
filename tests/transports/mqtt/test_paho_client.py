"""paho with a broker that would keep it for ever: by its silence, or by what is in a message."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.protocol.broker_session import Message, Publication, SessionEvent
from edged.protocol.mqtt_properties import PROPERTIES_CAP
from edged.protocol.mqtt_wire import encode_length
from edged.transports.mqtt import paho as module
from edged.transports.mqtt import patience
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.paho import PahoConnection
from tests.fakes.mqtt_bytes import CONNACK_V5

PINGRESP = b"\xd0\x00"


class Pair:
    """A connection of paho's and the broker's end of it."""

    def __init__(self, root: Path) -> None:
        self.events: list[SessionEvent] = []
        where = str(root / "s")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(where)
            listener.listen()
            options = SessionOptions("n", "edged/n", host=where)
            self.connection = PahoConnection(options, "5", 1, self.events.append)
            self.connection.connect()
            self.broker, _ = listener.accept()
        self.step()
        self.read()
        self.say(CONNACK_V5)
        assert self.connection.is_up

    def say(self, data: bytes) -> None:
        self.broker.setblocking(False)
        while data:
            _, ready, _ = select.select((), (self.broker,), (), 0)
            data = data[self.broker.send(data) :] if ready else data
            self.step()

    def step(self) -> bool:
        goes_on = True
        while goes_on:
            goes_on = self.connection.step(is_readable=True)
            if (
                not self.connection.pending()
                and not select.select((self.connection,), (), (), 0)[0]
            ):
                break
        return goes_on

    def read(self) -> bytes:
        found = b""
        while select.select((self.broker,), (), (), 0)[0] and (data := self.broker.recv(1 << 16)):
            found += data
        return found


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    with made.broker:
        yield made


@pytest.mark.parametrize("kind", ["publish", "subscribe", "unsubscribe"])
def test_a_broker_that_answers_pings_and_acknowledges_nothing_is_left(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(module, "_LOOK_NS", -1)
    if kind == "publish":
        pair.connection.publish(1, Publication("t", b"", qos=1))
        pair.connection.publish(2, Publication("t", b"", qos=1))
    elif kind == "subscribe":
        pair.connection.subscribe(1, (("a", 1), ("b", 1)))
    else:
        pair.connection.unsubscribe(1, ["a"])
    assert pair.step()
    pair.say(PINGRESP)
    monkeypatch.setattr(patience, "UNANSWERED_S", 0)
    pair.say(PINGRESP)  # the system has it, and not the broker
    pair.read()
    if kind == "publish":
        pair.say(b"\x40\x02\x00\x01" + PINGRESP)  # the second has waited since now
        monkeypatch.setattr(patience, "UNANSWERED_S", 3600)
        pair.say(PINGRESP)
        monkeypatch.setattr(patience, "UNANSWERED_S", 0)
    with pytest.raises(TimeoutError, match="has not acknowledged what it was sent"):
        pair.say(PINGRESP)


def test_a_broker_that_acknowledges_all_is_kept(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_NS", -1)
    monkeypatch.setattr(patience, "UNANSWERED_S", 0)
    for mid in range(1, 9):
        pair.connection.publish(mid, Publication("t", b"", qos=1))
        pair.connection.step(is_readable=False)
        pair.say(b"\x40\x02\x00" + bytes((mid,)))
        assert pair.step()
        pair.read()


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_of_too_many_properties_is_acknowledged_unread(
    pair: Pair, qos: int, caplog: pytest.LogCaptureFixture
) -> None:
    def publish(mid: int, count: int) -> bytes:
        properties = b"\x26\0\0\0\0" * count
        head = b"\0\1t" + (bytes((0, mid)) if qos else b"") + encode_length(len(properties))
        body = head + properties + b"payload"
        return bytes((0x30 | qos << 1,)) + encode_length(len(body)) + body

    pair.say(publish(1, PROPERTIES_CAP + 1))
    pair.say(publish(2, 3))
    pair.say(publish(3, PROPERTIES_CAP + 1))
    found = [one for one in pair.events if isinstance(one, Message)]
    assert [(one.topic, one.payload, one.qos) for one in found] == [
        ("", b"", qos), ("t", b"payload", qos), ("", b"", qos),
    ]  # fmt: skip
    assert [one.mid for one in found] == ([1, 2, 3] if qos else [0, 0, 0])
    (said,) = [one for one in caplog.messages if "acknowledged unread" in one]
    assert "more than 32768 properties" in said
