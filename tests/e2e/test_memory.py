"""More models than memory in a real daemon: every way to ask is answered, across evictions."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.client import Client
from edged.commands.rendering import render_status
from edged.manifest import Tolerance
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import TinyModel, heavy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NAMES = [f"m{number}" for number in range(4)]
CLOSE = Tolerance(atol=1e-3, rtol=1e-3)


@contextmanager
def serving(
    tmp_path: Path, models: dict[str, TinyModel], more: str = ""
) -> Iterator[DaemonProcess]:
    """All of them lazy, in a budget that holds two or three."""
    for name, model in models.items():
        make_bundle(tmp_path / f"{name}.edgb", model, name=name, tolerance=CLOSE)
    body = "trust: {require_signatures: false}\nmemory: {budget: 48MiB}\nmodels:\n"
    body += "".join(f"  {n}: {{bundle: {n}.edgb, memory: {{load: lazy}}}}\n" for n in models)
    with running(tmp_path, body + more) as daemon:
        yield daemon


def check(model: TinyModel, x: np.ndarray, y: np.ndarray) -> None:
    np.testing.assert_allclose(y, model.reference({"x": x})["y"], atol=1e-3, rtol=1e-3)


def memory_of(daemon: DaemonProcess) -> tuple[dict[str, int], int]:
    status = daemon.status()
    releases = [release["memory"] for release in status["releases"]]
    assert sum(one["resident"] for one in releases) < len(NAMES)
    return status["memory"]["cpu"], sum(one["evictions"] for one in releases)


def test_every_way_to_ask_survives_evictions(tmp_path: Path):
    models = {name: heavy(seed) for seed, name in enumerate(NAMES)}
    with Mosquitto(tmp_path) as broker:
        bindings = "".join(
            f"  - {{name: {n}, from: in/{n}, to: out/{n}, model: {n}, codec: json}}\n"
            for n in NAMES
        )
        more = f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\nbindings:\n{bindings}"
        with serving(tmp_path, models, more) as daemon, daemon.client(timeout=60) as client:
            status = client.status()
            assert status["ready"], "one that sleeps would be answered"
            assert {r["state"] for r in status["releases"]} == {"asleep"}
            assert not status["degradations"]
            wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
            failures: list[BaseException] = []
            threads = [
                threading.Thread(target=ask_prepared, args=(daemon, models, seed, failures))
                for seed in range(2)
            ]
            with Device(broker, "out/#") as device:
                for thread in threads:
                    thread.start()
                ask_over_mqtt(device, models)
                for name, model in models.items():
                    x = model.sample(3)["x"]
                    check(model, x, client.infer(name, {"x": x})["y"])
                for thread in threads:
                    thread.join(60)
            assert not failures
            memory, evictions = memory_of(daemon)
            assert evictions > 3
            assert memory["promised_bytes"] <= memory["budget_bytes"] == 48 << 20
            assert "not in memory: made room for" in render_status(daemon.status())


def ask_prepared(
    daemon: DaemonProcess, models: dict[str, TinyModel], seed: int, failures: list[BaseException]
) -> None:
    """Prepared once, asked many times: enough of them in a row to go the shortest way."""
    try:
        with Client(daemon.socket, timeout=60) as client:
            calls = {name: client.prepare(name, {"x": ((1, 16), "float32")}) for name in models}
            chance = random.Random(seed)
            for _ in range(8):
                name = chance.choice(NAMES)
                for _ in range(15):
                    x = np.full((1, 16), chance.random(), np.float32)
                    check(models[name], x, calls[name](x)["y"])
    except BaseException as exc:
        failures.append(exc)


def ask_over_mqtt(device: Device, models: dict[str, TinyModel]) -> None:
    for name, model in models.items():
        x = model.sample(1)["x"]
        device.publish(f"in/{name}", json.dumps(x[0].tolist()))
        answer = json.loads(device.one().payload)
        check(model, x, np.array([answer["y"]], np.float32))


def test_processes_of_their_own_go_and_come_too(tmp_path: Path):
    models = {name: heavy(seed) for seed, name in enumerate(NAMES[:3])}
    for name, model in models.items():
        make_bundle(tmp_path / f"{name}.edgb", model, name=name, tolerance=CLOSE)
    body = "trust: {require_signatures: false}\nmemory: {budget: 150MiB}\nmodels:\n"
    body += "".join(
        f"  {n}: {{bundle: {n}.edgb, isolation: model, memory: {{load: lazy}}}}\n" for n in models
    )
    with running(tmp_path, body) as daemon, daemon.client(timeout=60) as client:
        seen: set[int] = set()
        for name in [*models, *models]:
            x = models[name].sample(2)["x"]
            check(models[name], x, client.infer(name, {"x": x})["y"])
            status = client.status()
            pids = {r["worker_pid"] for r in status["releases"]} - {0}
            seen |= pids
            assert len(pids) == sum(r["memory"]["resident"] for r in status["releases"])
            memory = status["memory"]["cpu"]
            assert memory["promised_bytes"] <= memory["budget_bytes"]
        assert len(seen) > len(models), "none was sent away"
        wait_for(lambda: not [pid for pid in seen - pids if Path(f"/proc/{pid}").exists()])


def test_replacing_where_both_have_no_room(tmp_path: Path):
    """The budget holds one: the old one goes, requests wait, and nobody is refused."""
    old, new = heavy(1), heavy(2)
    make_bundle(tmp_path / "m-1.edgb", old, name="m", tolerance=CLOSE)
    body = "trust: {require_signatures: false}\nmemory: {budget: 24MiB}\n"
    body += "models: {m: {bundle: m-*.edgb, memory: {pinned: true, swap: replace}}}\n"
    with running(tmp_path, body) as daemon, daemon.client(timeout=60) as client:
        x = old.sample(1)["x"]
        check(old, x, client.infer("m", {"x": x})["y"])
        (tmp_path / "m-1.edgb").unlink()
        make_bundle(tmp_path / "m-2.edgb", new, name="m", release=2, tolerance=CLOSE)
        answered: set[int] = set()

        def asks() -> bool:
            result = client.infer("m", {"x": x})
            answered.add(result.release)
            check(new if result.release == 2 else old, x, result["y"])
            return result.release == 2

        wait_for(asks, 60)
        assert answered == {1, 2}

        def settled() -> Any:
            """Between the two files there was none, which was refused; and the new one may answer
            before its reload is over."""
            status = daemon.status()
            return status["config"]["applied"] and len(status["releases"]) == 1 and status

        status = wait_for(settled, 60)
        assert status["memory"]["cpu"]["promised_bytes"] <= 24 << 20
        assert not status["degradations"]
        # A second pinned one cannot be there too: refused with file and line, and all serves on.
        make_bundle(tmp_path / "n.edgb", old, name="n", tolerance=CLOSE)
        more = body.replace("24MiB", "6MiB").replace(
            "models: {", "models: {n: {bundle: n.edgb, memory: {pinned: true}}, "
        )
        daemon.write(more)
        problems = wait_for(lambda: daemon.status()["config"]["problems"])
        assert "edged.yaml:" in problems[0]
        assert "pinned models have" in problems[0]
        check(new, x, client.infer("m", {"x": x})["y"])
