"""Windows and joins of a real daemon on a real broker: killed at any moment, each row counts once."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import double

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(180)]

ROWS = 400


def body(broker: Mosquitto) -> str:
    return (
        "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
        f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
        "models:\n  m: {bundle: m-1.edgb}\nbindings:\n"
        "- {name: w, from: 'in/{id}', to: 'out/{id}', model: m, fields: [v],\n"
        "   window: {rows: 4, hop: 2}}\n"
        "- {name: j, from: 'a/{id}', to: 'joined/{id}', model: m, fields: [t, u],\n"
        "   join: [{from: 'b/{id}', fields: [h]}, {from: c, fields: [w], max_age: 1h}]}\n"
    )


def is_up(daemon: DaemonProcess) -> bool:
    return bool(daemon.status()["mqtt"]["state"] == "connected")


def test_killed_again_and_again_each_row_counts_once(tmp_path: Path) -> None:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    (tmp_path / "broker").mkdir()
    rng = random.Random(8)
    with (
        Mosquitto(tmp_path / "broker", "max_queued_messages 0") as broker,
        Device(broker, "out/#", "joined/#") as device,
        running(tmp_path, body(broker)) as daemon,
    ):
        wait_for(lambda: is_up(daemon))
        device.publish("b/k", b'{"h": 10}')
        device.publish("c", b'{"w": 20}')
        wait_for(lambda: daemon.status()["mqtt"]["bindings"]["j"]["gathered"] == 2)
        for number in range(ROWS):
            device.publish(f"in/{'xy'[number % 2]}", json.dumps({"v": number // 2}).encode())
            if number % 100 == 50:
                time.sleep(rng.uniform(0, 0.1))
                daemon.kill()
                daemon.start()
        wait_for(lambda: is_up(daemon))
        device.publish("a/k", b'{"t": 1, "u": 2}')
        wanted = [[n, n + 1, n + 2, n + 3] for n in range(0, ROWS // 2 - 3, 2)]
        seen: dict[str, list[list[float]]] = {"out/x": [], "out/y": [], "joined/k": []}
        while not (seen["joined/k"] and all(wanted[-1] in seen[one] for one in ("out/x", "out/y"))):
            answer = device.one()
            found = [value / 2 for value in json.loads(answer.payload)["y"]]
            if found in seen[answer.topic]:
                properties = dict(getattr(answer.properties, "UserProperty", []))
                assert properties.get("edged-dup") == "1", "twice is marked"
            else:
                seen[answer.topic].append(found)
        assert seen.pop("joined/k") == [[1, 2, 10, 20]], "joined over restarts"
        for windows in seen.values():
            assert [one for one in wanted if one not in windows] == [], "lost"
            assert [one for one in windows if one not in wanted] == [], "counted twice"
            assert windows == wanted, "in order"
        states = daemon.status()["mqtt"]["states"]
        assert states["w"]["keys"] == 2
