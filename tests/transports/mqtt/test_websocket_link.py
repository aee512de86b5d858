"""MQTT inside a WebSocket: before mosquitto, and before servers that serve none."""

import asyncio
import json

import msgspec
import pytest

from edged.transports.mqtt.native import NativeSession
from tests.fakes.broker import Device, Mosquitto, free_port
from tests.transports.conftest import VIB, Rig, until

pytestmark = pytest.mark.broker


def run(main):
    asyncio.run(asyncio.wait_for(main(), 100))


def test_a_broker_behind_a_websocket(tmp_path, monkeypatch):
    monkeypatch.setattr(Rig, "make_session", NativeSession)
    port = free_port()
    listener = f"listener {port} 127.0.0.1\nprotocol websockets"
    # mosquitto lets a WebSocket wait for seconds where others have the cores, longer than a request may.
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
