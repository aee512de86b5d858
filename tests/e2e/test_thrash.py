"""A device with too little memory for what it is asked, by everybody at once: slow, never wrong."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edged.errors import BusyError
from edged.manifest import Tolerance
from tests.bundles import make_bundle
from tests.e2e.models import lying
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import TinyModel, heavy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CLOSE = Tolerance(atol=1e-3, rtol=1e-3)
BODY = """\
trust: {require_signatures: false}
memory: {budget: 24MiB}
models:
  m0: {bundle: m0.edgb, priority: PRIORITY, memory: {load: lazy}}
  m1: {bundle: m1.edgb, memory: {load: lazy}}
pipelines:
  both:
    inputs: {x: "float32[batch,16]"}
    steps:
    - {name: a, model: m0, inputs: x}
    - {name: b, model: m1, inputs: x, when: "max(a) < 1e9"}
    - {name: c, first: [b, a]}
    - {name: d, compute: a + c}
    outputs: {y: d}
"""


def body(priority: str) -> str:
    return BODY.replace("PRIORITY", priority)


def answers(models: dict[str, TinyModel], name: str, x: np.ndarray) -> np.ndarray:
    if name == "both":
        return answers(models, "m0", x) + answers(models, "m1", x)
    return models[name].reference({"x": x})["y"]


def together(jobs: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures, failures[0]
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"


def descriptors(daemon: DaemonProcess) -> int:
    assert daemon.process is not None
    return sum(1 for _ in Path(f"/proc/{daemon.process.pid}/fd").iterdir())


def test_models_that_drive_one_another_out_and_a_pipeline_over_both(tmp_path: Path):
    """The budget holds one of two, both are asked in turn, and reloads and quitters come between."""
    models = {f"m{seed}": heavy(seed) for seed in range(2)}
    for name, model in models.items():
        make_bundle(tmp_path / f"{name}.edgb", model, name=name, tolerance=CLOSE)
    with running(tmp_path, body("normal")) as daemon:

        def ask(name: str, count: int) -> None:
            chance = random.Random(f"{name}{count}")
            with daemon.client(timeout=90) as client:
                for _ in range(count):
                    x = models["m0"].sample(chance.randint(1, 3))["x"]
                    got = client.infer(name, {"x": x})["y"]
                    np.testing.assert_allclose(got, answers(models, name, x), atol=2e-3, rtol=2e-3)

        def quit_early() -> None:
            for _ in range(10):
                with contextlib.suppress(BusyError), daemon.client(timeout=0.03) as client:
                    client.infer("both", {"x": models["m0"].sample(1)["x"]})

        def reload() -> None:
            for priority in ("high", "low", "normal"):
                generation = daemon.status()["generation"]
                daemon.write(body(priority))
                wait_for(lambda before=generation: daemon.status()["generation"] > before, 90)

        ask("both", 2)
        before = descriptors(daemon)
        asks = [lambda name=name: ask(name, 8) for name in ("m0", "m1", "both", "both", "m0", "m1")]
        together([*asks, quit_early, reload])
        status = wait_for(lambda: _at_rest(daemon))
        memory = status["memory"]["cpu"]
        assert memory["promised_bytes"] <= memory["budget_bytes"]
        assert sum(one["memory"]["evictions"] for one in status["releases"] if "memory" in one) > 4
        wait_for(lambda: descriptors(daemon) <= before + 2)
        ask("both", 1)


def _at_rest(daemon: DaemonProcess) -> dict | None:
    status = daemon.status()
    is_over = not any(one["in_flight"] for one in status["releases"])
    return status if is_over and not status["memory"]["cpu"]["waiting_loads"] else None


def test_a_bad_release_that_replaces_a_good_one_gives_it_back(tmp_path: Path):
    good, bad = heavy(1), lying(heavy(2))
    make_bundle(tmp_path / "m-1.edgb", good, name="m", tolerance=CLOSE)
    config = (
        "trust: {require_signatures: false}\ntrial: {enabled: false}\nmemory: {budget: 24MiB}\n"
        "models: {m: {bundle: m-*.edgb, memory: {swap: replace}}}\n"
    )
    x = good.sample(2)["x"]
    with running(tmp_path, config) as daemon, daemon.client(timeout=60) as client:
        np.testing.assert_allclose(client.infer("m", {"x": x})["y"], good.reference({"x": x})["y"],
                                   atol=1e-3, rtol=1e-3)  # fmt: skip
        make_bundle(tmp_path / "m-2.edgb", bad, name="m", release=2, tolerance=CLOSE)
        wait_for(lambda: daemon.status()["config"]["problems"], 60)
        for _ in range(3):
            result = client.infer("m", {"x": x})
            assert result.release == 1
            np.testing.assert_allclose(result["y"], good.reference({"x": x})["y"],
                                       atol=1e-3, rtol=1e-3)  # fmt: skip
