"""Three brokers and one daemon: who reads where, where answers go, and what a reload moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import double

pytestmark = pytest.mark.broker
ROW = json.dumps([[1, 2, 3, 4]])


def body(brokers: dict[str, Mosquitto], *bindings: str, model: str = "m-1.edgb") -> str:
    first, plant, cloud = (one.port for one in brokers.values())
    return (
        "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
        f"mqtt: {{host: 127.0.0.1, port: {first}}}\n"
        f"brokers:\n  plant: {{host: 127.0.0.1, port: {plant}}}\n"
        f"  cloud: {{host: 127.0.0.1, port: {cloud}}}\n"
        f"models:\n  m: {{bundle: {model}}}\nbindings:\n" + "".join(bindings)
    )


def binding(name: str, **words: str) -> str:
    more = "".join(f", {key}: {value}" for key, value in words.items())
    return f"  - {{name: {name}, from: '{name}/in', to: '{name}/out', model: m{more}}}\n"


def links(daemon: DaemonProcess) -> dict[str, Any]:
    found: dict[str, Any] = daemon.status()["mqtt"]
    return found


def is_up(daemon: DaemonProcess, *names: str) -> bool:
    found = links(daemon)
    others = found["brokers"]
    states = [found["state"], *(one["state"] for one in others.values())]
    ways = [one["results"]["state"] for one in others.values() if one["results"]]
    return {*others} == {*names} and {*states, *ways} == {"connected"}


@pytest.fixture
def box(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    return tmp_path


def answered(daemon: DaemonProcess) -> dict[str, int]:
    """By binding."""
    status = links(daemon)
    lines = (status, *status["brokers"].values())
    return {name: one["answered"] for line in lines for name, one in line["bindings"].items()}


def test_each_binding_reads_and_answers_where_it_says(box: Path) -> None:
    for name in ("first", "plant", "cloud"):
        (box / name).mkdir()
    with (
        Mosquitto(box / "first") as first,
        Mosquitto(box / "plant") as plant,
        Mosquitto(box / "cloud") as cloud,
        Device(first, "+/out", "+/status", "edged/+/status") as at_first,
        Device(plant, "+/out", "edged/test/status") as at_plant,
        Device(cloud, "+/out") as at_cloud,
    ):
        brokers = {"first": first, "plant": plant, "cloud": cloud}
        bindings = (
            binding("a"),
            binding("b", broker="plant"),
            binding("c", broker="plant", results="cloud"),
            binding("d", results="cloud"),
        )
        with running(box, body(brokers, *bindings)) as daemon:
            wait_for(lambda: is_up(daemon, "plant", "plant to cloud", "mqtt to cloud"))
            assert at_plant.one().payload == b"online"
            assert at_first.one().payload == b"online"
            for device in (at_first, at_plant):
                for name in "abcd":
                    device.publish(f"{name}/in", ROW)
            assert at_first.one().topic == "a/out"
            assert at_plant.one().topic == "b/out"
            assert {message.topic for message in at_cloud.get(2)} == {"c/out", "d/out"}
            # The broker's word for an answer comes after whoever subscribes has it.
            wait_for(lambda: answered(daemon) == {"a": 1, "b": 1, "c": 1, "d": 1})

            # The way to the cloud is cut: the outbox keeps, and delivers when it is back.
            cloud.stop()
            wait_for(lambda: "brokers.plant to cloud.results" in daemon.status()["degradations"])
            at_plant.publish("c/in", ROW)
            line = "plant to cloud"
            wait_for(lambda: links(daemon)["brokers"][line]["results"]["outbox"]["entries"] == 1)

            # A reload takes a line away and moves a binding to another broker.
            daemon.write(body(brokers, binding("a", broker="plant"), bindings[2]))
            wait_for(lambda: {*links(daemon)["brokers"]} == {"plant", line})
            cloud.start()
            wait_for(lambda: is_up(daemon, "plant", line))
            wait_for(lambda: links(daemon)["brokers"][line]["results"]["outbox"]["entries"] == 0)
            at_plant.publish("a/in", ROW)
            assert at_plant.one().topic == "a/out"
            assert daemon.status()["degradations"] == {}
        assert at_plant.get(2)[-1].payload == b"offline"
