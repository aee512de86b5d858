"""Canaries under load in a daemon: worse ones are taken back, good ones promoted, kills survived."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.client import Client
from edged.errors import EdgedError
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.e2e.rollout_models import HARMLESS, POISON, dawdling, fragile, steady, wrong

pytestmark = pytest.mark.slow

GUARD = "window: 1s, minimum: 60, latency: 1000"
LONG = "window: 100h, minimum: 60, latency: 1000"
CANDIDATES = {
    "good": (steady, "shadow: {release: 2, cost: 50}", GUARD),
    "errors": (fragile, "", GUARD),
    "latency": (dawdling, "", "window: 1s, minimum: 60"),
    "disagreement": (wrong, "shadow: {release: 2, cost: 50}", GUARD),
    "drift": (steady, "", f"{GUARD}, drift: 3.0"),
    "patient": (steady, "", f"{GUARD}, promote: false"),
    "open": (steady, "", LONG),
    "keyed": (steady, "", LONG),
}
KEYS = {"keyed": ", key: device"}
VALUES = {"errors": (HARMLESS, POISON), "drift": (9.0, 9.5)}


class Answers:
    """Asks every model in turn, over one plain and one prepared way."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.calls = {name: client.prepare(name, x=((None, 4), "float32")) for name in CANDIDATES}
        self.failed: dict[str, int] = dict.fromkeys(CANDIDATES, 0)
        self.turn = itertools.count()

    def ask(self, name: str) -> None:
        turn = next(self.turn)
        values = VALUES.get(name, (HARMLESS,))
        x = np.full((1, 4), values[turn % len(values)], np.float32)
        try:
            given = self.client.infer(name, x=x) if turn % 2 else self.calls[name](x)
        except EdgedError:
            self.failed[name] += 1
            return
        if name != "disagreement":
            np.testing.assert_array_equal(given["y"], x * 2)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("rollouts")
    lines = [
        f"  http: {{path: {folder}/http.sock}}\n  admin: {{path: {folder}/admin.sock}}",
        "trust: {require_signatures: false}",
        "trial: {enabled: false}",
        "models:",
    ]
    for name, (model, shadow, guard) in CANDIDATES.items():
        make_bundle(folder / f"{name}-1.edgb", steady(), name=name, release=1)
        make_bundle(folder / f"{name}-2.edgb", model(), name=name, release=2)
        beside = f", {shadow}" if shadow else ""
        canary = f"canary: {{release: 2, trafficPercent: 50{KEYS.get(name, '')}}}"
        lines.append(
            f"  {name}: {{bundle: {name}-*.edgb, rollout: "
            f"{{stable: 1, {canary}{beside}, guard: {{{guard}}}}}}}"
        )
    body = "\n".join(lines) + "\n"
    with running_with_listen(folder, body) as made:
        yield made


class Listening(DaemonProcess):
    """With listeners whose lines begin the body."""

    def head(self) -> str:
        return (
            f"node: test\nstate_dir: {self.directory}/state\n"
            f"listen:\n  socket: {{path: {self.socket}}}\n"
        )


def running_with_listen(folder: Path, body: str) -> Any:
    daemon = Listening(folder)
    daemon.write(body)

    class Run:
        def __enter__(self) -> DaemonProcess:
            return daemon.start()

        def __exit__(self, *_: object) -> None:
            daemon.stop()

    return Run()


def rollouts(daemon: DaemonProcess) -> dict[str, dict[str, Any]]:
    return {one["model"]: one for one in daemon.status()["rollouts"]}


def edged(daemon: DaemonProcess, *words: str) -> subprocess.CompletedProcess[str]:
    where = "edged.sock" if words[1] == "status" else "admin.sock"
    return subprocess.run(
        [sys.executable, "-m", "edged", *words, "--socket", str(daemon.directory / where)],
        capture_output=True,
        text=True,
        check=False,
    )


def over_http(daemon: DaemonProcess, model: str, device: str) -> str:
    """The release that answered a device, over the Open Inference Protocol."""
    connection = http.client.HTTPConnection("x")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(daemon.directory / "http.sock"))
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    body = json.dumps({"inputs": [tensor], "parameters": {"device": device}})
    connection.request("POST", f"/v2/models/{model}/infer", body)
    version: str = json.loads(connection.getresponse().read())["model_version"]
    connection.close()
    return version


def test_each_ends_as_it_deserves(daemon: DaemonProcess):
    """Real models under load: the record says why."""
    with daemon.client() as client:
        asks = Answers(client)

        def is_over() -> bool:
            for name in CANDIDATES:
                for _ in range(10):
                    asks.ask(name)
            phases = {name: one["phase"] for name, one in rollouts(daemon).items()}
            return "running" not in {phases[name] for name in CANDIDATES if name not in WAITING}

        wait_for(is_over, 120, every=0.001)
    found = rollouts(daemon)
    assert {name: one["phase"] for name, one in found.items()} == {
        **dict.fromkeys(["errors", "latency", "disagreement", "drift"], "rolled back"),
        "good": "promoted", "patient": "passed", "open": "running", "keyed": "running",
    }  # fmt: skip
    for name in ("errors", "latency", "disagreement", "drift"):
        assert found[name]["reason"].startswith(f"{name}: "), found[name]
        assert f"rollout.{name}" in daemon.status()["degradations"]
    assert found["good"]["compared"] >= 60
    assert found["good"]["differing"] == 0
    serving = {one["name"]: one["serving"] for one in daemon.status()["models"]}
    assert serving == {name: 2 if name == "good" else 1 for name in CANDIDATES}
    assert not any(count for name, count in asks.failed.items() if name != "errors")


WAITING = ("open", "keyed")


def test_keys_have_their_sides_and_keep_them_when_the_daemon_is_killed(daemon: DaemonProcess):
    before = {name: one["phase"] for name, one in rollouts(daemon).items()}
    sides = {str(n): over_http(daemon, "keyed", str(n)) for n in range(60)}
    assert {*sides.values()} == {"1", "2"}
    saved = daemon.directory / "state" / "rollouts" / "open.json"
    answers = rollouts(daemon)["open"]["sides"]["2"]["answers"]
    assert answers
    wait_for(lambda: json.loads(saved.read_text())["now"]["tally"]["sides"]["2"]["answers"])
    kept = json.loads(saved.read_text())["now"]["tally"]["sides"]["2"]["answers"]
    daemon.kill()
    daemon.start()
    after = rollouts(daemon)
    assert {name: one["phase"] for name, one in after.items()} == before
    assert after["open"]["sides"]["2"]["answers"] == kept
    assert {str(n): over_http(daemon, "keyed", str(n)) for n in range(60)} == sides


def test_an_operator_ends_one(daemon: DaemonProcess):
    shown = edged(daemon, "rollout", "status", "open")
    assert shown.returncode == 0
    assert shown.stdout.startswith("open: running (release 2: 50, release 1: 50)\n")
    ended = edged(daemon, "rollout", "promote", "open")
    assert (ended.returncode, ended.stdout.splitlines()[:2]) == (
        0, ["open: promoted", "  by an operator"],
    )  # fmt: skip
    assert edged(daemon, "rollout", "abort", "patient").stdout.startswith("patient: aborted\n")
    serving = {one["name"]: one["serving"] for one in daemon.status()["models"]}
    assert (serving["open"], serving["patient"]) == (2, 1)
    again = edged(daemon, "rollout", "abort", "open")
    assert again.returncode == 65
    assert "is over: promoted" in again.stderr
    assert edged(daemon, "rollout", "promote").returncode == 65
    found = edged(daemon, "rollout", "promote", "nobody")
    assert (found.returncode, "edged rollout status" in found.stderr) == (66, True)
    with daemon.client() as client, pytest.raises(EdgedError):
        client.call("promote", model="keyed")  # asked on the socket of everybody


def test_figures(daemon: DaemonProcess):
    with daemon.client() as client:
        text = client.call("metrics")
    assert 'edged_rollout_phase{model="good",phase="promoted"} 1.0' in text
    assert 'edged_rollout_answers_total{model="errors",release="2"}' in text
