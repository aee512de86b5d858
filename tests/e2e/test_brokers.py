"""Three brokers and one daemon: who reads where, where answers go, and what a reload moves."""

from __future__ import annotations

import json
import time
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


def test_lines_come_and_go_while_messages_flow_and_none_is_lost(box: Path) -> None:
    """A reload ends one way with work in hand and opens another, again and again."""
    for name in ("first", "plant", "cloud"):
        (box / name).mkdir()
    with (
        Mosquitto(box / "first") as first,
        Mosquitto(box / "plant") as plant,
        Mosquitto(box / "cloud") as cloud,
        Device(first, "+/out") as at_first,
        Device(plant, "+/out") as at_plant,
        Device(cloud, "+/out") as at_cloud,
    ):
        brokers = {"first": first, "plant": plant, "cloud": cloud}
        kept = binding("a")
        ways = (
            (binding("b", broker="plant"), {"plant"}),
            (binding("b", broker="plant", results="cloud"), {"plant", "plant to cloud"}),
            ("", set[str]()),
        )
        answers: dict[str, set[str]] = {"a": set(), "b": set()}

        def collect() -> None:
            for device in (at_first, at_plant, at_cloud):
                while not device.inbox.empty():
                    (message,) = device.get()
                    answers[message.topic[0]].add(json.dumps(json.loads(message.payload)["y"]))

        with running(box, body(brokers, kept, ways[0][0])) as daemon:
            wait_for(lambda: is_up(daemon, "plant"))
            number = 0
            for lines, names in (*ways[1:], *ways, *ways[:2]):
                daemon.write(body(brokers, kept, lines))
                until = time.monotonic() + 20
                while {*links(daemon)["brokers"]} != names:
                    assert time.monotonic() < until
                    for _ in range(10):
                        number += 1
                        row = json.dumps([[number, 0, 0, 0]])
                        at_first.publish("a/in", row)
                        at_plant.publish("b/in", row)
            wait_for(lambda: is_up(daemon, "plant", "plant to cloud"))
            wanted = {json.dumps([2.0 * one, 0.0, 0.0, 0.0]) for one in range(1, number + 1)}
            wait_for(lambda: collect() or answers["a"] == wanted)
            wait_for(lambda: collect() or answers["b"] == wanted)
