"""kill -9 with messages in flight: what was not answered was not acknowledged, so it comes again."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.bundles import make_bundle
from tests.e2e.models import slow
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.broker import Mosquitto

pytestmark = pytest.mark.broker

MESSAGES = 100


class Counter:
    """A subscriber of its own that counts results by id."""

    def __init__(self, port: int) -> None:
        self.seen: dict[str, int] = {}
        self.ready = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, "counter", protocol=paho.MQTTv5)
        self.client.on_connect = lambda c, *_: c.subscribe("out/+", qos=1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = self._count
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.ready.wait(10)

    def _count(self, _client: Any, _userdata: Any, message: Any) -> None:
        name = message.topic.rpartition("/")[2]
        assert "y" in json.loads(message.payload)
        self.seen[name] = self.seen.get(name, 0) + 1

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


CLIENTS = pytest.mark.parametrize("client", ["paho", "native"])


def body(port: int, client: str) -> str:
    return (
        "trust: {require_signatures: false}\n"
        f"mqtt: {{host: 127.0.0.1, port: {port}, client: {client}, max_inflight: {MESSAGES}}}\n"
        "models:\n  m: {bundle: m-1.edgb, batching: {max_batch: 1}}\n"
        "bindings:\n"
        "  - {name: b, from: 'in/{id}', to: 'out/{id}', model: m, codec: json, timeout: 60s}\n"
    )


def publish(port: int) -> None:
    """A device publishes every message at QoS 1 and waits until the broker has them."""
    device = paho.Client(CallbackAPIVersion.VERSION2, "device", protocol=paho.MQTTv5)
    device.max_inflight_messages_set(MESSAGES)
    device.connect("127.0.0.1", port)
    device.loop_start()
    sent = [device.publish(f"in/{n}", json.dumps([[n, 1, 2, 3]]), qos=1) for n in range(MESSAGES)]
    for info in sent:
        info.wait_for_publish(20)
    device.disconnect()
    device.loop_stop()


def kill_and_restart(
    box: Path, client: str, *, is_lossy: bool = False, **env: str
) -> dict[str, int]:
    """Kill the daemon with all messages in its hands; returns how often each id was answered.

    Args:
        box: the daemon's directory.
        client: which MQTT client it uses.
        is_lossy: whether some are not to be answered, and are not waited for.
        env: the daemon's environment.
    """
    make_bundle(box / "m-1.edgb", slow(400), name="m", release=1)
    config = f"max_inflight_messages {MESSAGES}"
    with Mosquitto(box, config) as broker:
        counter = Counter(broker.port)
        daemon = DaemonProcess(box)
        daemon.write(body(broker.port, client))
        daemon.start(**env)
        try:
            wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
            publish(broker.port)
            in_hand = wait_for(lambda: in_flight(daemon) if len(counter.seen) > 3 else 0)
            daemon.kill()
            answered = len(counter.seen)
            assert answered < MESSAGES, "the daemon was too fast for this test"
            print(f"killed with {answered} answered and {in_hand} in flight")
            daemon.start(**env)
            wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
            wait_for(lambda: len(counter.seen) == MESSAGES or (is_lossy and is_idle(daemon)), 90)
        finally:
            daemon.stop()
            counter.stop()
    return counter.seen


def in_flight(daemon: DaemonProcess) -> int:
    return int(daemon.status()["mqtt"]["bindings"]["b"]["in_flight"])


def is_idle(daemon: DaemonProcess) -> bool:
    """Nothing more will come: the daemon had its messages again and has none left."""
    return daemon.status()["uptime_s"] > 2 and in_flight(daemon) == 0


@CLIENTS
@pytest.mark.hostile("R35 acknowledged only after the result is safe")
@pytest.mark.hostile("E3 a kill between the safe result and the PUBACK")
def test_every_message_is_answered_across_a_kill(tmp_path: Path, client: str) -> None:
    """SIGKILL between durable accept and PUBACK: never lost."""
    seen = kill_and_restart(tmp_path, client)
    assert sorted(seen, key=int) == [str(n) for n in range(MESSAGES)]


@CLIENTS
def test_acknowledging_early_loses_messages(tmp_path: Path, client: str) -> None:
    """The negative control: with the promise switched off, the same test finds the loss."""
    seen = kill_and_restart(tmp_path, client, is_lossy=True, EDGED_TEST_ACK_EARLY="1")
    assert len(seen) < MESSAGES
