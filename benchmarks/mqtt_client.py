"""The device's side over paho: so many requests on their way, each answer lets the next one go."""

from __future__ import annotations

import socket
import time
from typing import Any

import paho.mqtt.client as paho

IN_FLIGHT = 32
WARMUP_S = 0.5
SILENCE_S = 5.0


def open_client(port: int, on_message: Any, topic: str, *, manual_ack: bool = False) -> paho.Client:
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
    client.on_connect = lambda *_: client.subscribe(topic, 1)
    client.connect("127.0.0.1", port)
    until = time.monotonic() + 10
    while not ready:
        client.loop(0.1)
        if time.monotonic() > until:
            raise TimeoutError("the broker did not take a subscription")
    return client


def requests_per_s(port: int, name: str, payload: bytes, seconds: float) -> float:
    """Answers a second on ``out/NAME`` to requests on ``in/NAME``; silence raises."""
    topic = f"in/{name}"
    count, started, last = 0, 0.0, time.monotonic()

    def on_message(client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        nonlocal count, last
        last = time.monotonic()
        if last >= started:
            count += 1
        if b'"error"' in message.payload:
            raise RuntimeError(f"an error came back: {message.payload[:200]!r}")
        client.publish(topic, payload, 1)

    client = open_client(port, on_message, f"out/{name}")
    started = time.monotonic() + WARMUP_S
    until = started + seconds
    for _ in range(IN_FLIGHT):
        client.publish(topic, payload, 1)
    while (now := time.monotonic()) < until:
        client.loop(0.1)
        if now - last > SILENCE_S:
            raise TimeoutError(f"no answer on out/{name}")
    if not count:
        raise TimeoutError(f"no answer on out/{name}")
    rate = count / (time.monotonic() - started)
    client.on_message = None  # what is still on its way is taken and not answered
    drained = time.monotonic() + 0.3
    while time.monotonic() < drained:
        client.loop(0.05)
    client.disconnect()
    return rate
