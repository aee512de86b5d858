"""A site's devices: MQTT clients that publish real payloads at QoS 1, each with an id of its own.

Knows nothing of edged: a broker, topics and bytes. Prints one JSON line for each message that the
broker has acknowledged, and stops at the end of standard input.

    python devices.py PORT MODEL REFERENCE.npz DEVICES RATE TOPIC
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def send_at_once(_client: object, _userdata: object, sock: socket.socket) -> None:
    """Small messages must not wait for company."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Device:
    """One device with its own connection.

    Args:
        port: the broker's on this machine.
        name: client id and topic level.
    """

    def __init__(self, port: int, name: str) -> None:
        self.name = name
        self._waiting: dict[int, str] = {}
        self._early: set[int] = set()
        self._lock = threading.Lock()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, f"device-{name}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_publish = self._on_publish
        self._client.on_socket_open = send_at_once
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, line: dict[str, object]) -> None:
        """Send at QoS 1; the line is printed when the broker has it."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = str(line["id"]).encode()
        mid = self._client.publish(topic, payload, qos=1, properties=properties).mid
        # The lock is not held while publishing: paho calls back with a lock of its own held.
        with self._lock:
            if mid not in self._early:
                self._waiting[mid] = json.dumps(line)
                return
            self._early.remove(mid)
        print(json.dumps(line) + "\n", end="", flush=True)  # in one piece: two threads write

    def _on_publish(self, *arguments: object) -> None:
        mid = int(str(arguments[2]))
        with self._lock:
            line = self._waiting.pop(mid, None)
            if line is None:
                self._early.add(mid)
                return
        print(line + "\n", end="", flush=True)

    def stop(self) -> None:
        """Wait until the broker has everything, then go."""
        until = time.monotonic() + 10
        while self._waiting and time.monotonic() < until:
            time.sleep(0.02)
        self._client.disconnect()
        self._client.loop_stop()


def main() -> None:
    """Publish rows in turn until standard input ends."""
    port, model, path, count, rate, topic = sys.argv[1:]
    with np.load(Path(path)) as reference:
        whole, ends = reference["payloads"].tobytes(), np.cumsum(reference["lengths"])
    payloads = [whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    devices = [Device(int(port), f"{model}-{number}") for number in range(int(count))]
    stopped = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
    sequence, started = 0, time.monotonic()
    while not stopped.wait(max(0.0, started + sequence / float(rate) - time.monotonic())):
        device, row = devices[sequence % len(devices)], sequence % len(payloads)
        line = {"id": f"{model}/{sequence}", "row": row, "sent_ns": time.monotonic_ns()}
        device.publish(topic.replace("{device}", device.name), payloads[row], line)
        sequence += 1
    for device in devices:
        device.stop()


if __name__ == "__main__":
    main()
