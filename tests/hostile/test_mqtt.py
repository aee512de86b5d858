"""What devices and brokers may do to us over MQTT, before a real broker and before one that misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edged.outbox.age import now
from edged.outbox.disk import Disk
from edged.outbox.entry import Entry, Policy
from edged.outbox.outbox import Outbox
from edged.transports.mqtt.native import NativeSession
from edged.transports.mqtt.paho import MqttSession
from tests.fakes.broker import Device, Mosquitto
from tests.transports.conftest import Rig, until

GOOD = json.dumps({"a": 1, "b": 2})
CAP = 4 << 20
MANY = 1_000_000
CONNACK = b"\x20\x03\x00\x00\x00"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:  # it keeps nothing over a restart
        yield running


@pytest.fixture(params=[MqttSession, NativeSession])
def site(request: pytest.FixtureRequest) -> type[Rig]:
    """A rig of one client and of the other."""
    return type("Site", (Rig,), {"make_session": request.param})


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


@pytest.mark.broker
@pytest.mark.hostile("E4 correlation data of 64 kB, or none")
def test_correlation_data(broker: Mosquitto, site: type[Rig]) -> None:
    async def work() -> None:
        async with site(broker.port):
            with Device(broker, "reply") as device:
                for data in (b"c" * 65535, b"\x00\xff", None):
                    words = {} if data is None else {"CorrelationData": data}
                    device.publish("in/hall", GOOD, ResponseTopic="reply", **words)
                    answer = await asyncio.to_thread(device.one)
                    assert getattr(answer.properties, "CorrelationData", None) == data

    run(work())


@pytest.mark.broker
@pytest.mark.hostile("E5 ten thousand user properties, and topic aliases that are misused")
def test_ten_thousand_user_properties(broker: Mosquitto, site: type[Rig]) -> None:
    """Aliases are a broker's; tests/fakes/mqtt_bytes.py has how they can be misused."""
    many = [(f"name{number}", "x" * 20) for number in range(10_000)]

    async def work() -> None:
        async with site(broker.port) as rig:
            with Device(broker, "out/#") as device:
                device.publish("in/hall", GOOD, UserProperty=many)
                device.publish("in/next", GOOD)
                answers = await asyncio.to_thread(device.get, 2)
                assert [one.topic for one in answers] == ["out/hall", "out/next"]
                assert len(answers[0].properties.UserProperty) < 10
            assert rig.stats["connections"] == 1

    run(work())


def speak(
    listener: socket.socket, pieces: list[bytes], heard: list[bytes], last: bytes = b"out/hall"
) -> None:
    """A broker that hangs up behind each piece, but for the last, whose result it takes.

    Args:
        listener: where it is.
        pieces: what it says.
        heard: what it was told, by piece.
        last: behind this it hangs up too.
    """
    for data in pieces:
        client, _ = listener.accept()
        with client:
            client.recv(1000)
            client.sendall(CONNACK + data)
            client.settimeout(10 if data is pieces[-1] else 0.3)
            said = b""
            while last not in said or b"out/hall" not in said:
                try:
                    more = client.recv(4096)
                except TimeoutError:
                    break
                if not more:
                    break
                said += more
            heard.append(said)


@pytest.mark.hostile("E7 a broker that closes in mid-packet")
def test_a_request_that_is_cut_is_no_request(site: type[Rig]) -> None:
    """What comes whole the next time is answered then, and acknowledged after its result."""
    body = b"\x00\x07in/hall" + b"\x00\x05\x00" + GOOD.encode()
    packet = bytes((0x32, len(body))) + body
    heard: list[bytes] = []

    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            pieces = [packet[:-3], packet[:1], packet]
            thread = threading.Thread(target=speak, args=(listener, pieces, heard), daemon=True)
            thread.start()
            port = listener.getsockname()[1]
            async with site(port, wait=False, protocol="5", longest_pause_s=1.0):
                await until(lambda: not thread.is_alive(), 30)

    run(work())
    assert [b"out/hall" in said for said in heard] == [False, False, True]
    assert not any(b"\x40\x02\x00\x05" in said for said in heard), "acknowledged before its result"


def published(first: int, topic: bytes, mid: int, properties: bytes = b"") -> bytes:
    """A request as a broker brings it; ``first`` has its flags."""
    body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big")
    body += bytes((len(properties),)) + properties + GOOD.encode()
    return bytes((first, len(body))) + body


def ack(mid: int) -> bytes:
    """PUBACK."""
    return b"\x40\x02" + mid.to_bytes(2, "big")


@pytest.mark.hostile("E6 a retained request at each reconnect")
def test_old_state_and_what_came_too_late_do_not_run(site: type[Rig]) -> None:
    """All at once: what is retained or expired is acknowledged and no more, the rest in its order."""
    expired, heard = b"\x02\x00\x00\x00\x00", list[bytes]()
    brought = [
        published(0x33, b"in/kept", 1),
        published(0x3B, b"in/kept", 2),
        published(0x32, b"in/late", 3, expired),
        published(0x3A, b"in/late", 4, expired),
        published(0x3B, b"in/kept", 5, expired),
        published(0x3A, b"in/again", 6),
        published(0x32, b"in/hall", 7),
    ]

    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            pieces = [b"".join(brought)]
            thread = threading.Thread(
                target=speak, args=(listener, pieces, heard, ack(5)), daemon=True
            )
            thread.start()
            async with site(listener.getsockname()[1], wait=False, protocol="5") as rig:
                await until(lambda: rig.vib["expired"] == 2, 30)
                await until(lambda: not thread.is_alive(), 30)
                assert rig.stats["retained"] == 3

    run(work())
    (said,) = heard
    assert b"out/kept" not in said
    assert b"out/late" not in said
    assert said.index(b"out/again") < said.index(b"edged-dup") < said.index(b"out/hall")
    acks = [said.find(ack(mid)) for mid in range(1, 8)]
    assert sorted(acks[:5]) == acks[:5], "in the order of arrival"
    assert acks[0] > 0
    assert acks[5:] == [-1, -1], "their results are not with the broker yet"


@pytest.mark.broker
@pytest.mark.hostile("E9 a session that the broker has lost")
def test_subscribed_anew(broker: Mosquitto, site: type[Rig]) -> None:
    async def work() -> None:
        async with site(broker.port) as rig:
            await asyncio.to_thread(broker.restart)
            await rig.connected(2)
            with Device(broker, "out/#") as device:
                device.publish("in/hall", GOOD)
                assert (await asyncio.to_thread(device.one)).topic == "out/hall"

    run(work())


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that syncs nothing, where there is one: three hundred syncs take a minute."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.hostile("E12 an outbox at its cap", "E13 a broker that is away while results are made")
def test_results_without_end_for_a_broker_that_is_away(in_memory: Path) -> None:
    """A million, of which the newest come out in order."""
    folder = in_memory / "outbox"
    kept = threading.Event()
    outbox = Outbox(Disk(folder), lambda act: act(), max_bytes=CAP)
    outbox.open()
    outbox.start()
    rng = random.Random(1)
    process, most, before = psutil.Process(), 0, 0
    for number in range(MANY):
        data = b"%d " % number + b"x" * rng.randrange(100)
        entry = Entry(b"topic%d" % (number % 3), data, now(), 0, Policy.DROP_OLDEST)
        is_last = number % 10_000 == 9_999
        if is_last:
            kept.clear()
        outbox.put(entry, (lambda _: kept.set()) if is_last else (lambda _: None), is_durable=False)
        if is_last:
            assert kept.wait(30)
            most = max(most, sum(path.stat().st_size for path in folder.iterdir()))
            before = before or process.memory_info().rss
    assert most <= CAP
    assert process.memory_info().rss - before < 20 << 20
    numbers = []
    while outbox.stats()["entries"]:
        if (one := outbox.take()) is not None:
            numbers.append(int(one.data.split()[0]))
            outbox.done(one)
    assert numbers == list(range(numbers[0], MANY)), "the newest, without a gap, in order"
    assert outbox.stats()["dropped"] == numbers[0]
    outbox.stop()
