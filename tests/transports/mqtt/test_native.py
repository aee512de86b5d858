"""Our own client before mosquitto, and before brokers that no one should have."""

import asyncio
import contextlib
import json
import socket

import pytest

from edged.protocol.broker_session import (
    Connected,
    Disconnected,
    Message,
    Publication,
    Published,
    Subscribed,
)
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.native import NativeSession
from tests.fakes.broker import Device, Mosquitto, free_port
from tests.fakes.mqtt_bytes import CONNACK_V5, packet
from tests.fakes.proxy import Proxy
from tests.transports.conftest import Rig, until

pytestmark = pytest.mark.broker


def run(main):
    asyncio.run(asyncio.wait_for(main(), 60))


class Talk:
    """A session that notes its events; ``async with Talk(port=...) as talk:``."""

    def __init__(self, **options):
        words = {"client_id": "n", "base": "edged/n", "host": "127.0.0.1", "connect_timeout_s": 5.0}
        self.session = NativeSession(SessionOptions(**words | options))
        self.events = []

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    async def connected(self, times=1):
        await until(lambda: len(self.of(Connected)) >= times)

    async def __aenter__(self):
        self.session.start(asyncio.get_running_loop(), self.events.append)
        return self

    async def __aexit__(self, *_):
        await self.session.stop(5)


@contextlib.asynccontextmanager
async def broker_that(act):
    """A server that calls ``act(reader, writer)`` once CONNECT has come; yields its port."""

    serving = set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        try:
            await reader.read(1000)
            await act(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for task in serving:
            task.cancel()
        await asyncio.wait(serving)


@pytest.mark.usefixtures("client")
def test_a_unix_socket(tmp_path):
    path = tmp_path / "broker.sock"

    async def main():
        with Mosquitto(tmp_path, f"listener 0 {path}") as broker:
            async with Rig(1883, host=str(path)):
                with Device(broker, "out/#") as device:
                    device.publish("in/hall", json.dumps({"a": 1, "b": 0}))
                    await asyncio.to_thread(device.one)

    run(main)


def test_small_packets_are_not_held_back(broker):
    """mosquitto #433: 40 ms latency out of nowhere."""

    async def main():
        async with Talk(port=broker.port) as talk:
            await talk.connected()
            sock = talk.session._link._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main)


def test_topics_by_number(broker):
    """mosquitto takes ten; those beyond go by their names."""

    async def main():
        async with Talk(port=broker.port) as talk:
            await talk.connected()
            with Device(broker, "#") as device:
                topics = [f"plant/hall/device-{number % 15}" for number in range(45)]
                for topic in topics:
                    talk.session.publish(Publication(topic, b"p"))
                heard = await asyncio.to_thread(device.get, len(topics))
                assert [message.topic for message in heard] == topics

    run(main)


@pytest.mark.usefixtures("client")
def test_what_is_longer_than_we_take_never_comes(broker):
    async def main():
        async with Rig(broker.port, max_packet_bytes=2000) as rig:
            with Device(broker, "out/#") as device:
                device.publish("in/hall", b" " * 3000 + b"{}")
                device.publish("in/hall", json.dumps({"a": 1, "b": 0}))
                await asyncio.to_thread(device.one)
            assert rig.stats["bindings"]["vib"]["received"] == 1

    run(main)


def test_a_broker_that_breaks_the_rules_is_told_so_and_left():
    said = []

    async def act(reader, writer):
        writer.write(CONNACK_V5 + packet(0x36, "\0\1t\0\1\0"))
        said.append(await reader.read(1000))

    async def main():
        async with broker_that(act) as port, Talk(port=port) as talk:
            await until(lambda: talk.of(Disconnected) and said)
            assert said[0] == b"\xe0\x01\x81"
            found = talk.of(Disconnected)[0]
            assert "MQTT-3.3.1-4" in found.reason
            assert found.will_retry

    run(main)


def test_a_broker_that_does_not_read_costs_bounded_memory():
    go_on = asyncio.Event()
    count, size = 400, 100_000

    async def act(reader, writer):
        writer.write(CONNACK_V5)
        await go_on.wait()
        while await reader.read(1 << 20):
            pass

    async def main():
        async with broker_that(act) as port, Talk(port=port) as talk:
            await talk.connected()
            tokens = [
                talk.session.publish(Publication("t", bytes(size), qos=0)) for _ in range(count)
            ]
            await until(lambda: talk.of(Published))
            refused = [event for event in talk.of(Published) if event.reason_code]
            assert refused
            assert "does not read" in refused[0].reason
            assert talk.session._link.session.outgoing.size_bytes < 9 << 20
            go_on.set()
            await until(lambda: len(talk.of(Published)) == count)
            assert sorted(event.token for event in talk.of(Published)) == tokens

    run(main)


def test_a_broker_that_reads_and_acknowledges_nothing_costs_bounded_memory():
    go_on = asyncio.Event()
    count, size = 400, 100_000

    async def act(reader, writer):
        writer.write(b"\x20\x06\x00\x00\x03\x21\x00\x01")  # one at a time
        await go_on.wait()
        writer.write(b"\x40\x02\x00\x01")
        while await reader.read(1 << 20):
            pass

    async def main():
        async with broker_that(act) as port, Talk(port=port) as talk:
            await talk.connected()
            for _ in range(2):
                talk.session.publish(Publication("t", b""))
            for _ in range(count):
                talk.session.send(Publication("t", bytes(size), qos=0))
            together = Publication("", b"", qos=0)
            talk.session.publish_together(["t"] * 2, [b"1", b"2"], together)
            last = talk.session.publish(Publication("t", bytes(size), qos=0))
            unsent = talk.session.stats()["unsent"]
            assert 100 < unsent < count
            link = talk.session._link
            assert link.session.together.unsent_bytes < 9 << 20
            await until(lambda: talk.of(Published))
            assert [(one.token, one.reason_code) for one in talk.of(Published)] == [(last, 0x97)]
            go_on.set()
            await until(lambda: link.session.together.unsent_bytes == 0)
            talk.session.send(Publication("t", b"", qos=0))
            assert talk.session.stats()["unsent"] == unsent, "there is room again"

    run(main)


def test_what_nobody_waits_for_is_counted_where_it_is_not_sent(caplog):
    """Neither to a broker that does not read, nor what it does not take."""
    go_on = asyncio.Event()
    # MQTT 5: packets of 200,000 bytes at most, no retained messages.
    connack = b"\x20\x0a\x00\x00\x07\x27\x00\x03\x0d\x40\x25\x00"
    got = 0

    async def act(reader, writer):
        nonlocal got
        writer.write(connack)
        await go_on.wait()
        while data := await reader.read(1 << 20):
            got += len(data)

    async def main():
        async with broker_that(act) as port, Talk(port=port) as talk:
            await talk.connected()
            talk.session.send(Publication("t", bytes(200_001), qos=0))
            talk.session.send(Publication("t", b"", qos=0, retain=True))
            assert talk.session.stats()["unsent"] == 2
            for _ in range(400):
                talk.session.send(Publication("t", bytes(100_000), qos=0))
            unsent = talk.session.stats()["unsent"] - 2
            assert 100 < unsent < 400
            go_on.set()
            await until(lambda: got > (400 - unsent) * 100_000)
            assert got < (401 - unsent) * 100_010
        assert talk.session.stats()["unsent"] == unsent + 2, "the count outlives its connection"

    run(main)
    assert caplog.text.count("is lost: ") == 1, "it is said once a minute"


def test_exactly_once_into_the_daemon(broker):
    """QoS 2: the same message after a cut between PUBREC and PUBREL is not given on twice."""

    async def main():
        with Proxy(broker.port) as proxy:
            async with Talk(port=proxy.port) as talk:
                await talk.connected()
                talk.session.subscribe((("in", 2),))
                await until(lambda: talk.of(Subscribed))
                with Device(broker) as device:
                    for number in range(20):
                        device.publish("in", str(number), 2)
                    await until(lambda: len(talk.of(Message)) == 20)
                    assert {message.qos for message in talk.of(Message)} == {2}
                    for message in talk.of(Message)[:10]:
                        talk.session.ack(message)
                    await asyncio.sleep(0)  # they have been written; whether they arrive is open
                    proxy.cut()
                    await talk.connected(2)
                    await until(lambda: len(talk.of(Message)) >= 30)
                    for message in talk.of(Message)[20:]:
                        talk.session.ack(message)
                    await until(lambda: not talk.session._received)
                    device.publish("in", "last", 2)
                    await until(lambda: talk.of(Message)[-1].payload == b"last")
                again = [int(message.payload) for message in talk.of(Message)[20:-1]]
                assert again == list(range(10, 20)), "those of which PUBREC had left came again"

    run(main)


def test_a_broker_keeps_to_a_smaller_receive_maximum_after_a_restart_of_ours(broker):
    async def main():
        async with Talk(port=broker.port, max_inflight=20) as talk:
            await talk.connected()
            talk.session.subscribe((("in", 1),))
            await until(lambda: talk.of(Subscribed))
            with Device(broker) as device:
                for number in range(30):
                    device.publish("in", str(number))
            await until(lambda: len(talk.of(Message)) == 20)
        async with Talk(port=broker.port, max_inflight=5) as talk:
            await until(lambda: talk.of(Message) or talk.of(Disconnected))
            seen = 0
            while seen < 30:
                await until(lambda: len(talk.of(Message)) > seen or talk.of(Disconnected))  # noqa: B023
                assert not talk.of(Disconnected)
                messages = talk.of(Message)
                for message in messages[seen:]:
                    talk.session.ack(message)
                seen = len(messages)
            assert [int(m.payload) for m in talk.of(Message)] == list(range(30))

    run(main)


def test_one_poisonous_message_is_acknowledged_and_said(caplog):
    said = []

    async def act(reader, writer):
        writer.write(CONNACK_V5 + packet(0x32, "\0\1\xff\0\7\0") + packet(0x30, "\0\1t\0ok"))
        said.append(await reader.readexactly(5))

    async def main():
        async with broker_that(act) as port, Talk(port=port) as talk:
            await until(lambda: said and talk.of(Disconnected))
            assert said == [b"\x40\x03\x00\x07\x83"]
            assert [message.payload for message in talk.of(Message)] == [b"ok"]
            assert talk.session.stats()["rejected"] == 1

    run(main)
    assert "MQTT-1.5.4-1" in caplog.text


@pytest.mark.hostile("E10 an exception in a handler of ours")
def test_an_exception_in_a_handler_costs_nothing_but_itself(broker, caplog):
    """exception inside our handler → loop lives, message settled by policy."""

    async def main():
        talk = Talk(port=broker.port)

        def explode(event):
            talk.events.append(event)
            raise RuntimeError("no")

        talk.session.start(asyncio.get_running_loop(), explode)
        await talk.connected()
        talk.session.publish(Publication("t", b"p"))
        await until(lambda: talk.of(Published))
        await talk.session.stop(5)

    run(main)
    assert "could not be handled" in caplog.text


def test_commands_of_a_connection_that_is_gone_are_dropped(broker):
    async def main():
        with Proxy(broker.port) as proxy:
            async with Talk(port=proxy.port) as talk:
                talk.session.publish(Publication("t", b"early"))
                assert talk.session.stats()["stale_commands"] == 1
                await talk.connected()
                old = Message(1, 7, "t", b"", 1, False, False, 0)
                proxy.cut()
                await talk.connected(2)
                talk.session.ack(old)
                assert talk.session.stats()["stale_commands"] == 2

    run(main)


async def never_closes(reader, writer):
    writer.write(CONNACK_V5)
    await asyncio.sleep(30)


async def never_answers(reader, writer):
    await asyncio.sleep(30)


@pytest.mark.parametrize("act", [never_closes, never_answers])
def test_stopping_waits_for_nobody_for_long(act):
    async def main():
        async with broker_that(act) as port:
            async with Talk(port=port) as talk:
                await until(lambda: talk.session._link and talk.session._link.reached_broker)
                if act is never_closes:
                    await talk.connected()
            assert talk.session.stats()["state"] == "stopped"

    run(main)


def test_stopping_between_two_tries():
    async def main():
        async with Talk(port=free_port()) as talk:
            await until(lambda: talk.of(Disconnected))
        assert "refused" in talk.of(Disconnected)[0].reason
        assert talk.session.stats()["state"] == "stopped"

    run(main)


def test_the_rig_is_on_our_own_client(broker, client):
    """The same tests run over both clients; this one sees to it that they do."""

    async def main():
        async with Rig(broker.port) as rig:
            assert isinstance(rig.session, NativeSession) == (client == "native")
            with Device(broker, "out/#") as device:
                device.publish("in/hall", json.dumps({"a": 1, "b": 0}))
                await asyncio.to_thread(device.one)

    run(main)
