"""The device's side: the C generator, and paho for the floor it is held against."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from benchmarks.stand import BenchError, Stand

IN_FLIGHT = 32


def open_client(
    port: int, on_message: Any, topic: str, qos: int, *, manual_ack: bool = False
) -> paho.Client:
    """A connected client that is subscribed; its network loop is the caller's to run."""
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, manual_ack=manual_ack
    )
    client.max_inflight_messages = 0
    client.on_message = on_message
    client.on_socket_open = lambda _c, _u, sock: sock.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )
    ready: list[bool] = []
    client.on_subscribe = lambda *_: ready.append(True)
    client.on_connect = lambda *_: client.subscribe(topic, qos)
    client.connect("127.0.0.1", port)
    until = time.monotonic() + 10
    while not ready:
        client.loop(0.1)
        if time.monotonic() > until:
            raise TimeoutError("the broker did not take a subscription")
    return client


def ask(
    stand: Stand,
    ports: tuple[int, int],
    name: str,
    payload: Path,
    *,
    qos: int = 1,
    in_flight: int = IN_FLIGHT,
    seconds: float,
) -> dict[str, Any]:
    """Ask on ``in/NAME`` of the first port, hear on ``out/NAME`` of the second; a closed loop.

    Raises:
        BenchError: an answer was an error, refused, or never came.
    """
    program = stand.load.with_name("mqtt_load")
    topics = (f"in/{name}", f"out/{name}")
    numbers = (qos, in_flight, seconds)
    command = [program, *map(str, ports), *topics, payload, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise BenchError(f"on out/{name}, QoS {qos}: {done.stdout}{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report
