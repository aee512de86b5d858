"""``isolation: device`` in the whole daemon: one process, and what a crash in it comes to.

The models are real, and so are the crashes: a division that the processor refuses, signals.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import EdgedError, RuntimeFailureError
from tests.bundles import make_bundle
from tests.e2e import harmful
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.e2e.test_isolation import children, is_back, needs_trap, release
from tests.models import double

OPEN = "trust: {require_signatures: false}\nruntime: {threads: 1}\n"
X = np.ones((2, 4), np.float32)


def config(trial: str = "trial: {enabled: false}\n", **isolations: str) -> str:
    lines = [
        f"  {name}: {{bundle: '{name}-*.edgb', isolation: {how}, required: false}}"
        for name, how in isolations.items()
    ]
    return OPEN + trial + "models:\n" + "\n".join(lines) + "\n"


def pids(daemon: DaemonProcess) -> dict[str, int]:
    return {
        one["model"]: one["worker_pid"]
        for one in daemon.status()["releases"]
        if one["state"] == "ready"
    }


def doubles(daemon: DaemonProcess, *models: str) -> None:
    with daemon.client(timeout=30) as client:
        for model in models:
            np.testing.assert_array_equal(client.infer(model, x=X)["y"], X * 2)


@needs_trap
def test_one_process_whose_crash_harms_nobody_beyond_it(tmp_path: Path) -> None:
    """The others of the device are back; whoever lives elsewhere never notices."""
    for name in ("a", "b", "own", "inside"):
        make_bundle(tmp_path / f"{name}-1.edgb", double(), name=name)
    make_bundle(tmp_path / "bad-1.edgb", harmful.crasher(7), name="bad")
    body = config(a="device", b="device", bad="device", own="model", inside="none")
    with running(tmp_path, body) as daemon, daemon.client(timeout=30) as client:
        before = pids(daemon)
        assert before["a"] == before["b"] == before["bad"] != before["own"]
        assert before["inside"] == 0
        shared, own = sorted(daemon.status()["workers"], key=lambda one: -len(one["releases"]))
        assert [one["model"] for one in shared["releases"]] == ["a", "b", "bad"]
        assert sum(one["bytes"] for one in shared["releases"]) == shared["private_bytes"]
        assert own["private_bytes"] > 1 << 20
        assert len(children(daemon.status()["pid"])) == 2
        doubles(daemon, *"ab", "own", "inside")
        with pytest.raises(RuntimeFailureError, match='model "bad" died of SIGFPE'):
            client.infer("bad", n=np.array([-1]))
        doubles(daemon, "own", "inside")
        for model in ("a", "b"):
            wait_for(lambda name=model: np.array_equal(_try(client, name), X * 2), 30)
        wait_for(lambda: is_back(client, "bad", 7), 30)
        after = pids(daemon)
        assert after["a"] == after["b"] == after["bad"] != before["a"]
        assert after["own"] == before["own"]
        assert "it hosted a, b, bad" in daemon.tail(300)


def _try(client: Any, model: str) -> Any:
    try:
        return client.infer(model, x=X)["y"]
    except EdgedError:
        return None


@needs_trap
@pytest.mark.slow
def test_one_that_crashes_on_and_on_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    make_bundle(tmp_path / "a-1.edgb", double(), name="a")
    make_bundle(tmp_path / "bad-1.edgb", harmful.crasher(7), name="bad")
    with running(tmp_path, config("", a="device", bad="device")) as daemon:
        with daemon.client(timeout=30) as client:
            for _ in range(5):
                wait_for(lambda: is_back(client, "bad", 7), 30)
                wait_for(lambda: np.array_equal(_try(client, "a"), X * 2), 30)
                with pytest.raises(RuntimeFailureError):
                    client.infer("bad", n=np.array([-1]))
            wait_for(lambda: release(daemon, "bad")["state"] == "failed", 30)
            wait_for(lambda: np.array_equal(_try(client, "a"), X * 2), 30)
        degraded = daemon.status()["degradations"]
        assert "died 5 times" in degraded["model.bad"]
        assert "model.a" not in degraded
        command = [sys.executable, "-m", "edged", "quarantine", "--config", str(daemon.config)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "bad release 1" in shown
        assert "a release" not in shown
        worker = pids(daemon)["a"]
        doubles(daemon, "a")
        assert pids(daemon)["a"] == worker


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killed_from_outside_while_all_are_asked(tmp_path: Path, number: signal.Signals) -> None:
    """Every request gets an answer or an error that says why; then all are back together."""
    names = ["a", "b", "c"]
    for name in names:
        make_bundle(tmp_path / f"{name}-1.edgb", double(), name=name)
    stop = threading.Event()
    wrong: list[object] = []
    counts = dict.fromkeys(names, 0)

    def ask(daemon: DaemonProcess, model: str) -> None:
        with daemon.client(timeout=30) as client:
            while not stop.is_set():
                try:
                    y = client.infer(model, x=X)["y"]
                except EdgedError as exc:
                    if "worker process" not in exc.message and "ready" not in exc.message:
                        wrong.append(exc)
                    stop.wait(0.02)
                    continue
                if not np.array_equal(y, X * 2):
                    wrong.append(y)
                counts[model] += 1

    with running(tmp_path, config(a="device", b="device", c="device")) as daemon:
        threads = [threading.Thread(target=ask, args=(daemon, name)) for name in names]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                wait_for(lambda: len(pids(daemon)) == 3, 60)
                seen = dict(counts)
                wait_for(lambda seen=seen: all(counts[n] > seen[n] + 10 for n in names), 60)
                killed = pids(daemon)["a"]
                os.kill(killed, number)
                wait_for(lambda killed=killed: killed not in pids(daemon).values(), 60)
            wait_for(lambda: len(pids(daemon)) == 3, 60)
            seen = dict(counts)
            wait_for(lambda: all(counts[n] > seen[n] for n in names), 60)
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
    assert not wrong, wrong[:3]


@pytest.mark.slow
def test_a_swap_and_other_isolations_by_reload(tmp_path: Path) -> None:
    """A new release comes into the same process; a change moves one model and no other."""
    for name in ("a", "b"):
        make_bundle(tmp_path / f"{name}-1.edgb", double(), name=name)
    with running(tmp_path, config(a="none", b="device")) as daemon:
        first = pids(daemon)
        assert first["a"] == 0
        daemon.write(config(a="device", b="device"))
        wait_for(lambda: pids(daemon).get("a") == first["b"], 30)
        assert pids(daemon)["b"] == first["b"]
        doubles(daemon, "a", "b")
        make_bundle(tmp_path / "a-2.edgb", double(factor=3), name="a", release=2)
        wait_for(lambda: any(one["serving"] == 2 for one in daemon.status()["models"]), 30)
        assert pids(daemon) == {"a": first["b"], "b": first["b"]}
        doubles(daemon, "b")
        (tmp_path / "a-2.edgb").unlink()
        daemon.write(config(a="model", b="none"))
        wait_for(lambda: pids(daemon).get("b") == 0, 30)
        wait_for(lambda: pids(daemon).get("a") not in (None, first["b"]), 30)
        # Its last model has gone, and so has it.
        wait_for(lambda: not Path(f"/proc/{first['b']}").exists(), 30)
        doubles(daemon, "a", "b")
        assert children(daemon.status()["pid"]) == [pids(daemon)["a"]]


@pytest.mark.parametrize("isolation", ["device", "model"])
def test_instances_run_at_once(tmp_path: Path, isolation: str) -> None:
    """One run without end, and the others go on; when its time is over it ends them all."""
    make_bundle(tmp_path / "d-1.edgb", harmful.looper(), name="d")
    body = (
        f"{OPEN}trial: {{enabled: false}}\nscheduling: {{slots: 3}}\nmodels:\n"
        f"  d: {{bundle: 'd-*.edgb', isolation: {isolation}, batching: {{instances: 2}}, "
        "worker: {run_timeout: 100s}}\n"
    )
    with running(tmp_path, body) as daemon:
        assert release(daemon, "d")["instances"] == 2
        worker = pids(daemon)["d"]
        failed: list[EdgedError] = []

        def hang() -> None:
            with daemon.client(timeout=60) as client:
                try:
                    client.infer("d", n=np.array([2**62]))
                except EdgedError as exc:
                    failed.append(exc)

        thread = threading.Thread(target=hang)
        thread.start()
        wait_for(lambda: release(daemon, "d")["in_flight"] == 1)
        with daemon.client(timeout=30) as client:
            for n in range(1, 20):
                assert client.infer("d", n=np.array([n]))["y"] == [n]
            assert release(daemon, "d")["in_flight"] == 1
            os.kill(worker, signal.SIGKILL)
            thread.join(30)
            assert "died of SIGKILL" in failed[0].message
            wait_for(lambda: is_back(client, "d", 3), 30)


def test_it_goes_with_the_daemon(tmp_path: Path) -> None:
    make_bundle(tmp_path / "a-1.edgb", double(), name="a")
    daemon = DaemonProcess(tmp_path)
    daemon.write(config(a="device"))
    try:
        daemon.start()
        worker = pids(daemon)["a"]
        assert worker
        daemon.kill()
        wait_for(lambda: not Path(f"/proc/{worker}").exists())
        daemon.start()
        worker = pids(daemon)["a"]
        assert daemon.stop() == 0
        wait_for(lambda: not Path(f"/proc/{worker}").exists())
    finally:
        daemon.stop()
