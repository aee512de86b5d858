"""The tap's own reader, against bytes that paho writes and against what no MQTT is."""

from __future__ import annotations

import paho.mqtt.client as paho
import pytest

from edged.protocol.broker_session import Publication
from tests.chaos.frames import Ack, Hello, Publish, Reader, user_properties
from tests.chaos.wire import publish

PUBLISH = publish(
    Publication("out/7", b"payload", content_type="a/b", correlation=b"c", expiry_s=9,
                properties=(("edged-dup", "1"), ("k", "v"))),
    5,
)  # fmt: skip
FOUND = Publish(5, "out/7", b"payload", is_dup=False, properties={"edged-dup": "1", "k": "v"})


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_however_the_stream_is_cut(step: int) -> None:
    stream = PUBLISH + b"\x40\x02\x00\x05" + b"\xc0\x00" + b"\x40\x04\x00\x06\x87\x00"
    reader, found = Reader(), []
    for at in range(0, len(stream), step):
        found += reader.feed(stream[at : at + step])
    assert found == [FOUND, Ack(5, 0), Ack(6, 0x87)]


def test_the_older_version_has_no_properties() -> None:
    reader = Reader()
    reader.is_v5 = False
    data = publish(Publication("out/7", b"payload"), 5, is_v5=False)
    assert reader.feed(data) == [FOUND._replace(properties={})]


@pytest.mark.parametrize(("protocol", "is_v5"), [(paho.MQTTv5, True), (paho.MQTTv311, False)])
def test_which_version_it_is(protocol: int, is_v5: bool) -> None:
    name = b"\x00\x04MQTT" + bytes((protocol, 2, 0, 60)) + (b"\x00" if is_v5 else b"") + b"\0\0"
    assert Reader().feed(bytes((0x10, len(name))) + name) == [Hello(is_v5)]


def test_dup_and_qos_0() -> None:
    dup = bytes((PUBLISH[0] | 8,)) + PUBLISH[1:]
    assert Reader().feed(dup) == [FOUND._replace(is_dup=True)]
    assert Reader().feed(b"\x30\x04\x00\x01t\x00") == [Publish(0, "t", b"", False, {})]


@pytest.mark.parametrize(
    "data", [b"\x30\xff\xff\xff\xff\x01", b"\x30\xff\xff\xff\x7f", b"\x30\x06\x00\x01t\x02\x77\x00"]
)
def test_what_is_no_mqtt(data: bytes) -> None:
    with pytest.raises(ValueError):
        Reader().feed(data)


def test_an_unknown_property_is_said() -> None:
    with pytest.raises(ValueError, match="0x77"):
        user_properties(b"\x77\x00")
