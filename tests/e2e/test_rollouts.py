"""Canaries under load in a daemon: worse ones are taken back, good ones promoted, kills survived."""

from __future__ import annotations

import asyncio
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

from converters.statistics import gather_statistics
from edged import aio
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
    "spread": (steady, "", f"{GUARD}, psi: 0.25"),
    "usual": (steady, "", f"{GUARD}, psi: 0.25, drift: 3.0"),
    "patient": (steady, "", f"{GUARD}, promote: false"),
    "open": (steady, "", LONG),
    "keyed": (steady, "", LONG),
}
KEYS = {"keyed": ", key: device"}
VALUES = {"errors": (HARMLESS, POISON), "drift": (9.0, 9.5), "spread": (0.01, 0.99)}
SAMPLES = np.random.default_rng(5).random((500, 4), dtype=np.float32)
"""What ``spread`` and ``usual`` were made of: the first is asked the same on average, at the ends."""
STATISTICS = gather_statistics({"x": SAMPLES}, {"y": SAMPLES * 2})


class Answers:
    """Asks every model in turn, over one plain and one prepared way."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.calls = {name: client.prepare(name, x=((None, 4), "float32")) for name in CANDIDATES}
        self.failed: dict[str, int] = dict.fromkeys(CANDIDATES, 0)
        self.turn = itertools.count()
        self.chance = np.random.default_rng(11)

    def ask(self, name: str) -> None:
        turn = next(self.turn)
        values = VALUES.get(name, (HARMLESS,))
        x = np.full((1, 4), values[turn % len(values)], np.float32)
        if name == "usual":
            x = self.chance.random((1, 4), dtype=np.float32)
        elif name == "spread":
            x = self.chance.choice(np.array(values, np.float32), (1, 4))
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
        more = {"statistics": STATISTICS} if name in {"spread", "usual"} else {}
        make_bundle(folder / f"{name}-2.edgb", model(), name=name, release=2, **more)
        beside = f", {shadow}" if shadow else ""
        canary = f"canary: {{release: 2, trafficPercent: 50{KEYS.get(name, '')}}}"
        lines.append(
            f"  {name}: {{bundle: {name}-*.edgb, rollout: "
            f"{{stable: 1, {canary}{beside}, guard: {{{guard}}}}}}}"
        )
    for release in (1, 2):
        make_bundle(folder / f"ab-{release}.edgb", steady(), name="ab", release=release)
    lines.append(
        "  ab: {bundle: ab-*.edgb, rollout: {stable: 1, ab: {weights: {1: 70, 2: 30}, key: device}}}"
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
        **dict.fromkeys(["errors", "latency", "disagreement", "drift", "spread"], "rolled back"),
        **dict.fromkeys(["good", "usual"], "promoted"),
        "patient": "passed", "open": "running", "keyed": "running", "ab": "running",
    }  # fmt: skip
    for name in ("errors", "latency", "disagreement", "drift"):
        assert found[name]["reason"].startswith(f"{name}: "), found[name]
        assert f"rollout.{name}" in daemon.status()["degradations"]
    assert "is spread otherwise than in the bundle's samples" in found["spread"]["reason"]
    assert found["spread"]["drift"]["in.x"] < 1
    assert found["usual"]["psi"]["in.x"] < 0.25
    assert found["good"]["compared"] >= 60
    assert found["good"]["differing"] == 0
    serving = {one["name"]: one["serving"] for one in daemon.status()["models"]}
    assert serving == {name: 2 if name in {"good", "usual"} else 1 for name in (*CANDIDATES, "ab")}
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


KEYS_ASKED = 10_000


def sides_of_keys(daemon: DaemonProcess) -> dict[str, int]:
    """Who answers so many keys, over a prepared call, asked one by one: the shortest way."""
    x = np.ones((1, 4), np.float32)
    with daemon.client(timeout=60) as client:
        call = client.prepare("ab", x=((None, 4), "float32"))
        return {f"device-{n}": call(x, key=f"device-{n}").release for n in range(KEYS_ASKED)}


def test_an_ab_of_30_to_70_over_10_000_keys(daemon: DaemonProcess):
    """Within 1 point, and no key changes its side after a restart, whichever way it asks."""
    before = sides_of_keys(daemon)
    share = 100 * sum(number == 2 for number in before.values()) / KEYS_ASKED
    asked = {name: one["answers"] for name, one in rollouts(daemon)["ab"]["sides"].items()}
    daemon.kill()
    daemon.start()
    after = sides_of_keys(daemon)
    moved = sum(after[key] != number for key, number in before.items())
    print(f"{KEYS_ASKED} keys: {share:.2f} % of 30, {moved} on another side after a restart")
    assert abs(share - 30) < 1
    assert moved == 0
    assert sum(asked.values()) == KEYS_ASKED
    x = np.ones((1, 4), np.float32)
    large = np.ones((8192, 4), np.float32)  # goes by memory
    some = list(before.items())[:40]
    with daemon.client(timeout=60) as client:
        call = client.prepare("ab", x=((None, 4), "float32"))
        with call.place(1) as memory:
            memory.inputs["x"][...] = x
            for key, number in some:
                assert client.infer("ab", x=x, key=key).release == number
                assert client.submit("ab", x=x, key=key).result().release == number
                assert client.infer("ab", x=large, key=key).release == number
                assert call.submit(x=x, key=key).result().release == number
                assert memory.run(key=key).release == number
                assert [one.release for one in client.stream("ab", x=x, key=key)] == [number]
        (key, number) = some[0]
        assert over_http(daemon, "ab", key) == str(number)
    asyncio.run(same_over_asyncio(daemon, some))


async def same_over_asyncio(daemon: DaemonProcess, some: list[tuple[str, int]]) -> None:
    x, large = np.ones((1, 4), np.float32), np.ones((8192, 4), np.float32)
    async with aio.Client(daemon.socket, timeout=60) as client:
        call = await client.prepare("ab", x=((None, 4), "float32"))
        async with await call.place(1) as memory:
            memory.inputs["x"][...] = x
            for key, number in some:
                assert (await call(x, key=key)).release == number
                assert (await client.infer("ab", x=large, key=key)).release == number
                assert (await memory.run(key=key)).release == number
                assert [a.release async for a in client.stream("ab", x=x, key=key)] == [number]


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
    assert again.returncode == 78
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
