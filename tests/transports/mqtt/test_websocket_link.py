"""MQTT inside a WebSocket: before mosquitto, and before servers that serve none."""

import asyncio
import json

import msgspec
import pytest

from edged.protocol.websocket import WebSocket
from edged.transports.mqtt import websocket_link as module
from edged.transports.mqtt.native import NativeSession
from edged.transports.mqtt.websocket_link import WebSocketLink
from tests.fakes.broker import Device, Mosquitto, free_port
from tests.protocol.test_websocket import ANSWER, KEY, frame, unmasked
from tests.transports.conftest import VIB, Rig, until


def run(main):
    asyncio.run(asyncio.wait_for(main(), 100))


@pytest.mark.broker
def test_a_broker_behind_a_websocket(tmp_path, monkeypatch):
    monkeypatch.setattr(Rig, "make_session", NativeSession)
    port = free_port()
    listener = f"listener {port} 127.0.0.1\nprotocol websockets"
    # mosquitto stops within frames; where others have the cores longer than a request may take.
    patient = msgspec.structs.replace(VIB, timeout=100 * 10**9)

    async def main():
        with Mosquitto(tmp_path, listener) as broker:
            async with Rig(port, patient, websocket="/mqtt") as rig:
                with Device(broker, "out/#") as device:
                    for number in range(200):
                        words = {"a": number, "b": 0, "pad": "p" * (number * 40)}
                        device.publish("in/hall", json.dumps(words), wait=False)
                    heard = await asyncio.to_thread(device.get, 200, 80)
                assert len({message.payload for message in heard}) == 200
            assert rig.stats["last_error"] is None
            assert rig.stats["connections"] == 1

    run(main)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 Not Found\r\n\r\n", b"\x20\x02\x00\x00\r\n\r\n"])
def test_a_server_that_serves_none_is_said_so(answer):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            Rig.make_session, before = NativeSession, Rig.make_session
            try:
                async with Rig(port, websocket="/mqtt", wait=False) as rig:
                    await until(lambda: rig.stats["last_error"])
                    assert "mqtt.websocket" in rig.stats["last_error"]
            finally:
                Rig.make_session = before

    run(main)


class Broker(asyncio.Protocol):
    """A socket's transport and the link behind it, in one."""

    def __init__(self):
        self.written, self.heard, self.is_gone = [], b"", False
        self._buffer = memoryview(bytearray(64))

    def write(self, data):
        self.written.append(bytes(data))

    def get_buffer(self, _):
        return self._buffer

    def buffer_updated(self, size):
        self.heard += bytes(self._buffer[:size])


def test_a_server_that_stops_in_mid_frame_is_woken_until_it_goes_on(monkeypatch):
    """mosquitto 2.0 goes on when it reads something, or after a tenth of a second."""
    monkeypatch.setattr(module, "NUDGE_S", 0.001)
    monkeypatch.setattr(module, "MOST_NUDGE_S", 0.002)

    async def main():
        broker, data = Broker(), frame(0x82, b"x" * 100)
        link = WebSocketLink(broker, WebSocket("b:9001", "/mqtt", key=KEY))
        link.connection_made(broker)
        link.data_received(ANSWER)
        link.data_received(data + data[:50])
        assert len(broker.written) == 1, "the handshake"
        await until(lambda: len(broker.written) > 3)
        assert {unmasked(one) for one in broker.written[1:]} == {(0x8A, b"")}
        link.data_received(data[50:])
        assert broker.heard == b"x" * 200
        broker.written.clear()
        await asyncio.sleep(0.02)
        assert not broker.written, "a frame that is whole"
        for end in (lambda: link.connection_lost(None), lambda: setattr(broker, "is_gone", True)):
            link.data_received(data[:50])
            end()
            await asyncio.sleep(0.02)
            assert not broker.written, "nobody is there any more"

    run(main)


def test_a_server_that_may_have_read_a_part_of_a_frame_is_woken_once(monkeypatch):
    monkeypatch.setattr(module, "NUDGE_S", 0.001)

    async def main():
        broker = Broker()
        broker.buffer_updated = lambda _: link.write(b"x" * 5000)  # an answer, within the same turn
        link = WebSocketLink(broker, WebSocket("b:9001", "/mqtt", key=KEY))
        link.connection_made(broker)
        link.data_received(ANSWER)
        link.data_received(frame(0x82, b"asks"))
        await until(lambda: len(broker.written) > 2)
        await asyncio.sleep(0.02)
        assert unmasked(broker.written[1])[1] == b"x" * 5000
        assert [unmasked(one) for one in broker.written[2:]] == [(0x8A, b"")]
        link.write(b"x" * 1000)
        link.write(b"x" * 5000)
        broker.buffer_updated = lambda _: None
        link.data_received(frame(0x82, b"it has it"))
        await asyncio.sleep(0.02)
        assert len(broker.written) == 5, "it reads, as it seems"

    run(main)
