"""Answers with QoS 2, by a real daemon, over restarts: each comes, and no copy without a mark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import double

pytestmark = pytest.mark.broker


def body(broker: Mosquitto, client: str) -> str:
    return (
        "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
        f"mqtt: {{host: 127.0.0.1, port: {broker.port}, client: {client}}}\n"
        "models:\n  m: {bundle: m-1.edgb}\nbindings:\n"
        "  - {name: b, from: 'in/{id}', to: 'out/{id}', model: m, answer_qos: 2}\n"
    )


def is_up(daemon: DaemonProcess) -> bool:
    found = daemon.status()["mqtt"]["brokers"].get("mqtt to mqtt by disk")
    return bool(found) and found["state"] == found["results"]["state"] == "connected"


def entries(daemon: DaemonProcess) -> int:
    found = daemon.status()["mqtt"]["brokers"]["mqtt to mqtt by disk"]["results"]["outbox"]
    return int(found["entries"])


@pytest.mark.parametrize("client", ["native", "paho"])
def test_answers_come_once_through_restarts(tmp_path: Path, client: str) -> None:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    (tmp_path / "broker").mkdir()
    broker = Mosquitto(tmp_path / "broker", persistent=True)
    with broker, running(tmp_path, body(broker, client)) as daemon:
        wait_for(lambda: is_up(daemon))
        heard: list[tuple[str, int, bool]] = []

        def ask(numbers: range, disturb: str) -> None:
            with Device(broker, "out/#", qos=2) as device:
                for number in numbers:
                    device.publish(f"in/{number}", json.dumps([[number, 1, 2, 3]]))
                if disturb == "daemon":
                    daemon.kill()
                    daemon.start()
                    wait_for(lambda: is_up(daemon))
                missing = {f"out/{number}" for number in numbers}
                while missing:
                    message = device.one(60)
                    marks = dict(getattr(message.properties, "UserProperty", ()))
                    heard.append((message.topic, message.qos, "edged-dup" in marks))
                    missing.discard(message.topic)

        ask(range(100), "")
        ask(range(100, 300), "daemon")
        broker.restart()
        wait_for(lambda: is_up(daemon))
        ask(range(300, 400), "")
        wait_for(lambda: entries(daemon) == 0)
    assert {qos for _, qos, _ in heard} == {2}
    plain = [topic for topic, _, is_marked in heard if not is_marked]
    assert len(plain) == len({*plain}), "a copy without a mark"
    assert {topic for topic, _, _ in heard} == {f"out/{number}" for number in range(400)}
