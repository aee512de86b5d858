"""Kept answers in a real daemon: found again by every way of asking, and never those of another release."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TRUST = "trust: {require_signatures: false}\n"
BODY = """\
trust: {{require_signatures: false}}
models:
  m:
    bundle: [{bundles}]
    cache: {cache}
pipelines:
  p:
    inputs: {{x: "float32[batch,4]"}}
    steps:
      - {{name: one, model: m, inputs: x}}
      - {{name: more, compute: one + 1}}
    outputs: {{y: more}}
    cache: {{size: 1MiB}}
"""


def body(*bundles: str, cache: str = "{size: 1MiB}") -> str:
    return BODY.format(bundles=", ".join(bundles), cache=cache)


def cache_of(daemon: DaemonProcess, name: str = "m") -> dict[str, Any]:
    return daemon.status()["caches"][name]


def batches(daemon: DaemonProcess, release: int) -> int:
    found = [r for r in daemon.status()["releases"] if (r["model"], r["release"]) == ("m", release)]
    return sum(one["batches"] for one in found)


def test_answers_are_found_again_and_a_new_release_begins_anew(tmp_path: Path):
    old, new = double(), double(factor=5)
    make_bundle(tmp_path / "m-1.edgb", old, name="m", release=1)
    make_bundle(tmp_path / "m-2.edgb", new, name="m", release=2)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)

    with running(tmp_path, body("m-1.edgb")) as daemon, daemon.client() as client:
        call = client.prepare("m", x=((None, 4), "float32"))
        before = batches(daemon, 1)
        for _ in range(3):
            np.testing.assert_allclose(client.infer("m", x=x)["y"], old.reference({"x": x})["y"])
            np.testing.assert_allclose(call(x)["y"], old.reference({"x": x})["y"])
        assert batches(daemon, 1) == before + 1, "asked six times, run once"
        found = cache_of(daemon)
        assert (found["hits"], found["misses"], found["answers"]) == (5, 1, 1)
        assert 0 < found["bytes"] <= found["size_bytes"] == 1 << 20

        for _ in range(2):
            wanted = old.reference({"x": x})["y"] + 1
            np.testing.assert_allclose(client.infer("p", x=x)["y"], wanted)
        assert cache_of(daemon, "p")["hits"] == 1
        assert batches(daemon, 1) == before + 1, "the pipeline's model had the answer, too"

        daemon.write(body("m-2.edgb"))
        wait_for(lambda: daemon.status()["models"][0]["serving"] == 2)
        for _ in range(2):
            np.testing.assert_allclose(client.infer("m", x=x)["y"], new.reference({"x": x})["y"])
            wanted = new.reference({"x": x})["y"] + 1
            np.testing.assert_allclose(client.infer("p", x=x)["y"], wanted)
        assert cache_of(daemon)["answers"] == cache_of(daemon, "p")["answers"] == 1

        daemon.write(TRUST + "models: {m: {bundle: m-2.edgb}}\n")
        wait_for(lambda: not daemon.status()["caches"])
        np.testing.assert_allclose(client.infer("m", x=x)["y"], new.reference({"x": x})["y"])


def test_never_more_than_its_bytes_and_never_a_wrong_answer(tmp_path: Path):
    """Many clients, more questions than fit, releases that change meanwhile."""
    models = {1: double(), 2: double(factor=5)}
    for number, model in models.items():
        make_bundle(tmp_path / f"m-{number}.edgb", model, name="m", release=number)
    cache = "{size: 64KiB, ttl: 10s}"
    wrong: list[str] = []
    asked: list[int] = []
    stop = threading.Event()

    def ask_on(daemon: DaemonProcess, seed: int) -> None:
        dice = np.random.default_rng(seed)
        count = 0
        with daemon.client(timeout=60) as client:
            while not stop.is_set():
                value = float(dice.integers(200) if dice.random() < 0.5 else dice.integers(5))
                x = np.full((1, 4), value, np.float32)
                result = client.infer("m", x=x)
                want = models[result.release].reference({"x": x})["y"]
                if not np.allclose(result["y"], want):
                    wrong.append(f"{value} of release {result.release}: {result['y']}")
                count += 1
        asked.append(count)

    with running(tmp_path, body("m-1.edgb", cache=cache)) as daemon:
        threads = [threading.Thread(target=ask_on, args=(daemon, seed)) for seed in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in (2, 1, 2):
                daemon.write(body(f"m-{number}.edgb", cache=cache))
                wait_for(lambda n=number: daemon.status()["models"][0]["serving"] == n, 60)
                found = cache_of(daemon)
                assert found["bytes"] <= found["size_bytes"] == 64 << 10
            wait_for(lambda: cache_of(daemon)["evicted"] and cache_of(daemon)["hits"])
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert not wrong
        assert len(asked) == 3
        assert all(asked)
