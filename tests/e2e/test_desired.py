"""Configuration over MQTT, with a real broker and a real daemon: taken, refused, gone back, removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.store.keys import generate_key
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.fakes.fleet import DESIRED, Fleet, message
from tests.models import double

pytestmark = [pytest.mark.broker, pytest.mark.slow]

X = np.ones((1, 4), np.float32)
FILES = "models:\n  m: {bundle: m-1.edgb}\n"
OTHER = "models:\n  o: {bundle: o-1.edgb}\n"
NEW = "models:\n  n: {bundle: n-1.edgb}\n"


@dataclass
class World:
    directory: Path
    broker: Mosquitto
    daemon: DaemonProcess
    fleet: Fleet
    keys: dict[str, Path]
    versions: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def version(self) -> int:
        self.versions += 1
        return self.versions

    def body(self, files: str = FILES, window: str = "300ms", reconnect: str = "1min") -> str:
        return (
            "trust: {keys: [release.pub]}\n"
            f"reload: {{settle: 20ms, poll: 1s, confirm: {{window: {window}}}}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {self.broker.port}, longest_pause: 1s,\n"
            f"  desired: {{keys: [fleet.pub], reconnect: {reconnect}, max_size: 16KiB}}}}\n{files}"
        )

    def models(self) -> set[str]:
        return {one["name"] for one in self.daemon.status()["models"] if one["ready"]}

    def infer(self, model: str) -> float:
        with self.daemon.client() as client:
            return float(client.infer(model, x=X)["y"][0, 0])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("desired")
    keys = {name: generate_key(directory / name)[0] for name in ("release", "fleet", "other")}
    for name, factor in {"m": 2, "n": 3, "o": 4}.items():
        make_bundle(
            directory / f"{name}-1.edgb", double(factor=factor), name=name, key=keys["release"]
        )
    daemon = DaemonProcess(directory)
    with Mosquitto(directory) as broker, Fleet(broker, [keys["fleet"]]) as fleet:
        made = World(directory, broker, daemon, fleet, keys)
        daemon.write(made.body())
        try:
            daemon.start()
            yield made
        finally:
            daemon.stop()


def test_what_is_in_effect_is_reported_before_anything_comes(world: World) -> None:
    report = world.fleet.until(lambda one: one["confirmed"])
    assert (report["version"], report["desired"], report["applied"]) == (None, None, True)
    assert report["digest"] == world.daemon.status()["config"]["digest"]


def test_a_document_takes_effect_and_proves_good(world: World) -> None:
    report = world.fleet.last
    version = world.version()
    world.extra["payload"] = payload = world.fleet.want(version, NEW)
    done = world.fleet.verdict(version, "accepted")
    assert (done["version"], done["confirmed"], done["applied"]) == (version, True, True)
    assert done["generation"] == report["generation"] + 1
    assert (world.infer("m"), world.infer("n")) == (2.0, 3.0)
    newest = history(world)[0]
    assert (newest["origin"], newest["state"]) == ("desired", "confirmed")
    assert edged(world, "desired", "show").startswith(
        f"configuration over MQTT: version {version} in effect; version {version} accepted"
    )
    assert "no difference" in edged(world, "diff", "--config", str(world.daemon.config))
    # Retained, it comes again with each connection; sent again, it comes twice.
    count = len(world.fleet.reports)
    world.fleet.send(payload)
    world.fleet.send(payload)
    wait_for(lambda: received(world) >= 3)
    assert world.fleet.verdict(version, "accepted") == done
    assert len(world.fleet.reports) == count


def test_made_against_something_else(world: World) -> None:
    """optimistic: whoever did not see the last change does not undo it."""
    for against in ("0" * 64, 1):
        version = world.version()
        world.fleet.want(version, "", against)
        report = world.fleet.verdict(version, "rejected")
        (problem,) = report["desired"]["problems"]
        assert f"was made against {against}; in effect is generation" in problem
        assert report["digest"] in problem
    assert world.models() == {"m", "n"}


def test_every_problem_with_its_place(world: World) -> None:
    version = world.version()
    document = (
        "mqtt: {host: evil.example.com}\naccess: {}\nmodels:\n  n:\n    bundel: n-1.edgb\n"
        "    bundle: /etc/shadow\n  p: {bundle: '${HOME}/p.edgb'}\n  m: {bundle: m-1.edgb}\n"
    )
    world.fleet.want(version, document)
    problems = world.fleet.verdict(version, "rejected")["desired"]["problems"]
    name = f"{DESIRED.removeprefix('edged/test/')}/version-{version:08d}.yaml"
    said = "\n".join(problems)
    for place in (
        "1:1: mqtt: is not for",
        "2:1: access: is not for",
        "6:13: models.n.bundle: must",
    ):
        assert f"{name}:{place}" in said
    assert f"{name}:5:5: models.n.bundel: " in said
    assert 'did you mean "bundle"?' in said
    assert "${NAME}" in said
    assert f"{name}:8:3: models.m: is already set at edged.yaml:" in said
    assert str(world.directory) not in said
    # A bundle that is not there is found when it is built.
    version = world.version()
    world.fleet.want(version, "models:\n  q: {bundle: q-1.edgb}\n")
    problems = world.fleet.verdict(version, "rejected")["desired"]["problems"]
    assert problems[0].startswith(
        f"config/desired/version-{version:08d}.yaml:2:15: models.q.bundle"
    )
    assert world.models() == {"m", "n"}


def test_who_may_send_and_what_is_used_up(world: World) -> None:
    fleet, used = world.fleet, world.versions
    digest = fleet.last["digest"]
    good = message(used + 1, NEW, digest, world.keys["fleet"])
    forged = json.loads(good) | {"document": "models: {}\n"}
    cases = {
        "signed by 0 of 1": message(used + 1, "", digest),
        "signed by 0 of 1 required": message(used + 1, "", digest, world.keys["other"]),
        "signed by 0 of 1 required trusted": message(used + 1, "", digest, world.keys["release"]),
        "the document was changed after it was signed": json.dumps(forged).encode(),
        'is for node "elsewhere"': message(
            used + 1, "", digest, world.keys["fleet"], node="elsewhere"
        ),
        f"version {used} was used": message(used, "models: {}\n", digest, world.keys["fleet"]),
        "version 1 was used": message(1, NEW + "\n", digest, world.keys["fleet"]),
        "mqtt.desired.max_size allows 16384": b"x" * 17000,
        "is not one that": b'{"version": 1e99, "\xff',
        "not one that `edged desired sign` makes": b"[" * 10_000,
    }
    for words, payload in cases.items():
        fleet.send(payload, retain=False)
        report = fleet.until(lambda one, said=words: one["refused"] and said in str(one["refused"]))
        assert report["desired"]["version"] == used
        assert (report["version"], report["digest"]) == (1, digest)
    assert world.models() == {"m", "n"}


def test_an_operators_edit_wins_and_says_so(world: World) -> None:
    both = FILES + "  n: {bundle: o-1.edgb, required: false}\n"
    world.daemon.write(world.body(both.replace("o-1", "n-1")))
    report = world.fleet.until(lambda one: one["left_out"] and one["confirmed"])
    assert (report["version"], report["applied"]) == (None, True)
    assert "models.n: is already set at edged.yaml" in report["left_out"][0]
    assert "does not agree with the files" in world.daemon.status()["degradations"]["desired"]
    assert "warning: " in edged(world, "check", "--config", str(world.daemon.config))
    world.daemon.write(world.body())
    report = world.fleet.until(lambda one: one["version"] == 1 and one["confirmed"])
    assert report["left_out"] == []
    assert "desired" not in world.daemon.status()["degradations"]


def test_a_restart_and_a_kill_change_nothing(world: World) -> None:
    before = world.fleet.last
    again = message(world.versions, NEW, before["digest"], world.keys["fleet"])
    for end in (world.daemon.stop, world.daemon.kill):
        end()
        world.daemon.start()
        report = world.fleet.until(lambda one: one["confirmed"])
        assert (report["digest"], report["version"]) == (before["digest"], 1)
        assert world.infer("n") == 3.0
    # Another document under a version that was used, by somebody who kept or changed it.
    world.fleet.send(again)
    world.fleet.until(lambda one: one["refused"] and "was used" in one["refused"]["problems"][0])
    assert world.fleet.last["desired"] == before["desired"]


def test_a_document_that_breaks_what_serves_goes_back(world: World) -> None:
    """A model that it brings serves for a moment and then answers no more than errors."""
    version = world.version()
    before = world.fleet.until(lambda one: one["confirmed"])
    world.daemon.write(world.body(window="1h"))
    world.fleet.until(lambda one: not one["confirmed"])
    world.daemon.write(world.body(window="2s", reconnect="1s"))
    report = world.fleet.until(lambda one: one["confirmed"] and one["digest"] != before["digest"])
    world.fleet.want(version, OTHER)
    world.fleet.verdict(version, "trying")
    world.broker.stop()
    wait_for(lambda: world.daemon.status()["desired"]["desired"]["state"] == "returned", 60)
    assert world.models() == {"m", "n"}
    world.broker.start()
    back = world.fleet.verdict(version, "returned")
    assert "the broker that it came over is out of reach" in back["desired"]["problems"][0]
    assert (back["version"], back["digest"], back["applied"]) == (1, report["digest"], True)
    assert [one["state"] for one in history(world)][1] == "set aside"
    assert "config" not in world.daemon.status()["degradations"]
    world.fleet.until(lambda one: one["confirmed"])


def test_rollback_takes_the_document_along(world: World) -> None:
    version = world.version()
    before = world.fleet.last
    world.fleet.want(version, OTHER)
    world.fleet.verdict(version, "accepted")
    assert world.models() == {"m", "o"}
    edged(world, "rollback", "--config", str(world.daemon.config))
    report = world.fleet.until(lambda one: one["version"] == 1 and one["applied"])
    assert report["digest"] == before["digest"]
    assert world.models() == {"m", "n"}
    assert report["desired"]["version"] == version


def test_what_was_sent_while_nobody_was_there(world: World) -> None:
    """Retained, a document also reaches a device whose session the broker has forgotten."""
    world.daemon.stop()
    world.broker.restart()  # it keeps no sessions
    version = world.version()
    payload = message(version, OTHER, world.fleet.last["digest"], world.keys["fleet"])
    with Device(world.broker) as sender:
        sender.publish(DESIRED, payload, retain=True)
    world.daemon.start()
    world.fleet.verdict(version, "accepted")
    assert world.models() == {"m", "o"}


def test_removing_it(world: World) -> None:
    said = edged(world, "desired", "remove", "--config", str(world.daemon.config))
    assert said.startswith("removed")
    report = world.fleet.until(lambda one: one["version"] is None and one["confirmed"])
    assert world.models() == {"m"}
    # What was used does not come again by itself, also not after a restart.
    world.daemon.stop()
    world.daemon.start()
    count = received(world)
    world.fleet.send(world.extra["payload"])
    wait_for(lambda: received(world) > count)
    report = world.fleet.until(lambda one: one["refused"] and one["confirmed"])
    assert "version 1 was used" in report["refused"]["problems"][0]
    assert world.models() == {"m"}
    version = world.version()
    world.fleet.want(version, NEW, report["generation"])
    world.fleet.verdict(version, "accepted")
    version = world.version()
    world.fleet.want(version, "", world.fleet.last["generation"])
    assert world.fleet.verdict(version, "accepted")["version"] is None
    assert world.models() == {"m"}


def test_off_by_default(world: World) -> None:
    version = world.version()
    world.fleet.want(version, NEW)
    world.fleet.verdict(version, "accepted")
    with_it = world.body()
    start, end = with_it.index(",\n  desired:"), with_it.index("}}\nmodels") + 1
    world.daemon.write(with_it[:start] + with_it[end:])
    wait_for(lambda: world.models() == {"m"})
    assert world.daemon.status()["desired"] is None
    world.daemon.write(with_it)
    wait_for(lambda: world.models() == {"m", "n"})


def received(world: World) -> int:
    mqtt = world.daemon.status()["mqtt"]
    return int(mqtt["desired"]["received"]) if mqtt and mqtt["desired"] else 0


def edged(world: World, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edged", *words], capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, "EDGED_SOCKET": str(world.daemon.socket)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def history(world: World) -> list[dict[str, Any]]:
    found = json.loads(edged(world, "history", "--json", "--config", str(world.daemon.config)))
    assert isinstance(found, list)
    return found
