"""A real daemon as an edge node before a real broker, over both clients: from its birth to its death."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edged.protocol.sparkplug import DataType, Metric, encode_sparkplug, parse_sparkplug
from tests.bundles import make_bundle
from tests.e2e.process import running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import double

pytestmark = pytest.mark.broker


def body(broker: Mosquitto, client: str, more: str = "") -> str:
    return (
        "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
        f"mqtt: {{host: 127.0.0.1, port: {broker.port}, client: {client}, sparkplug: {{group: g, node: n{more}}}}}\n"
        "models:\n  m: {bundle: m-1.edgb}\nbindings:\n"
        "  - {name: b, from: 'in/{id}', to: 'shown/{id}', model: m, sparkplug: {device: '{id}'}}\n"
        "  - {name: c, from: 'spBv1.0/plc/DDATA/{node}/{device}', to: 'out/{device}', model: m,\n"
        "     codec: sparkplug, fields: [a, b, c, d]}\n"
    )


class Host:
    """A host application: what it hears, by kind."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def next(self, topic: str) -> dict[str, Any]:
        while (message := self._device.one()).topic != topic:
            pass
        return parse_sparkplug(message.payload)

    def state(self, at_ms: int, *, online: bool) -> None:
        payload = json.dumps({"online": online, "timestamp": at_ms})
        self._device.publish("spBv1.0/STATE/scada", payload, retain=True)

    def command(self, topic: str) -> None:
        metric = Metric("Node Control/Rebirth", DataType.BOOLEAN, value=True)
        self._device.publish(topic, encode_sparkplug([metric], 1), qos=0)


@pytest.mark.parametrize("client", ["native", "paho"])
def test_a_node_from_birth_to_death(tmp_path: Path, client: str) -> None:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    with (
        Mosquitto(tmp_path) as broker,
        Device(broker, "spBv1.0/g/#") as device,
        running(tmp_path, body(broker, client, ", primary_host: scada")) as daemon,
    ):
        host = Host(device)
        wait_for(
            lambda: "is not online" in daemon.status()["degradations"].get("mqtt.sparkplug", "")
        )
        host.state(1000, online=True)
        born = host.next("spBv1.0/g/NBIRTH/n")
        wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
        device.publish("in/press", json.dumps([[1, 2, 3, 4]]))
        assert host.next("spBv1.0/g/DBIRTH/n/press")["b/y/0"] == 2.0
        device.publish("in/press", json.dumps([[1, 2, 3, 5]]))
        assert host.next("spBv1.0/g/DDATA/n/press").keys() == {"b/y/3", "timestamp"}
        host.command("spBv1.0/g/NCMD/n")
        assert host.next("spBv1.0/g/NBIRTH/n")["bdSeq"] == born["bdSeq"]
        assert host.next("spBv1.0/g/DBIRTH/n/press")["b/y/3"] == 10.0
        assert daemon.status()["mqtt"]["sparkplug"]["rebirths"] == 1
        # An older word changes nothing; a newer one ends the session, and the next one waits.
        host.state(999, online=False)
        device.publish("in/press", json.dumps([[1, 2, 3, 6]]))
        assert host.next("spBv1.0/g/DDATA/n/press")["b/y/3"] == 12.0
        host.state(1000, online=False)
        assert host.next("spBv1.0/g/NDEATH/n")["bdSeq"] == born["bdSeq"]
        device.publish("in/press", json.dumps([[1, 2, 3, 7]]))
        wait_for(
            lambda: "is not online" in daemon.status()["degradations"].get("mqtt.sparkplug", "")
        )
        wait_for(lambda: daemon.status()["mqtt"]["bindings"]["b"]["answered"] == 4)
        host.state(2000, online=True)
        again = host.next("spBv1.0/g/NBIRTH/n")
        assert again["bdSeq"] == (born["bdSeq"] + 1) % 256
        assert host.next("spBv1.0/g/DBIRTH/n/press")["b/y/3"] == 14.0
        daemon.kill()
        assert host.next("spBv1.0/g/NDEATH/n")["bdSeq"] == again["bdSeq"]


def test_a_stranger_is_asked_for_its_birth_and_understood_then(tmp_path: Path) -> None:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    born = [Metric(name, DataType.DOUBLE, 1.5, at) for at, name in enumerate("abcd")]
    data = encode_sparkplug([one._replace(name=None) for one in born], 2, 1)
    with (
        Mosquitto(tmp_path) as broker,
        Device(broker, "spBv1.0/plc/NCMD/#", "out/#") as device,
        running(tmp_path, body(broker, "native")) as daemon,
    ):
        wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
        device.publish("spBv1.0/plc/DDATA/old/press", data)
        Host(device).next("spBv1.0/plc/NCMD/old")
        device.publish("spBv1.0/plc/DBIRTH/old/press", encode_sparkplug(born, 1, 0))
        device.publish("spBv1.0/plc/DDATA/old/press", data)
        answer = json.loads(device.one().payload)
        assert answer["y"] == [3.0, 3.0, 3.0, 3.0]
