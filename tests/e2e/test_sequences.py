"""Models that keep state in a real daemon: across reloads, releases, refusals, sleep and workers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edged.client import Client, Sequence
from edged.errors import SequenceNotFoundError
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import double, remembering

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HEAD = "trust: {require_signatures: false}\nreload: {settle: 10ms}\nmodels:\n"
ONE = np.ones((1, 3), np.float32)


def model(section: str = "", more: str = "") -> str:
    return (
        f"{HEAD}  gate:\n    bundle: gate-*.edgb\n{more}"
        f"    sequence: {{state: {{h: hN}}{section}}}\n"
    )


def count(sequence: Sequence) -> float:
    """Asks, and says how many the model had seen before."""
    return float(sequence.infer(x=ONE)["y"][0, 3])


def edged(daemon: DaemonProcess, *words: str) -> dict:
    command = [
        sys.executable,
        "-m",
        "edged",
        "infer",
        "--socket",
        str(daemon.socket),
        "--raw",
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def change(daemon: DaemonProcess, body: str, is_applied: Callable[[dict], bool]) -> None:
    daemon.write(body)
    wait_for(lambda: is_applied(daemon.status()))


def test_across_releases_and_refusals(tmp_path: Path):
    make_bundle(tmp_path / "gate-1.edgb", remembering(), release=1)
    with running(tmp_path, model()) as daemon, daemon.client() as client:
        (shown,) = client.models()
        assert [entry["name"] for entry in shown["inputs"] + shown["outputs"]] == ["x", "y"]
        sequences = [client.sequence("gate") for _ in range(3)]
        for sequence in sequences:
            assert count(sequence) == 0
        # A refused configuration changes nothing.
        change(daemon, model(", max_sequences: 0"), lambda status: not status["config"]["applied"])
        assert [count(sequence) for sequence in sequences] == [1, 1, 1]
        wide = make_bundle(tmp_path / "other.edgb", remembering(4), release=3)
        change(
            daemon,
            model().replace("gate-*.edgb", "[gate-*.edgb, other.edgb]").replace("h: hN", "h: y"),
            lambda status: "gives float32[batch,6]" in str(status["config"]["problems"]),
        )
        wide.unlink()
        assert [count(sequence) for sequence in sequences] == [2, 2, 2]
        # Another limit, and a new release while requests are on their way.
        make_bundle(tmp_path / "gate-2.edgb", remembering(), release=2)
        seen = [[], [], []]
        done = threading.Event()

        def ask(at: int) -> None:
            with daemon.client() as own:
                mine = own.sequence("gate", sequences[at].id)
                mine.is_open = True
                while not done.is_set():
                    result = mine.infer(x=ONE)
                    seen[at].append((float(result["y"][0, 3]), result.release))

        threads = [threading.Thread(target=ask, args=(at,)) for at in range(3)]
        for thread in threads:
            thread.start()
        change(
            daemon, model(", max_sequences: 3"),
            lambda status: status["models"][0]["serving"] == 2,
        )  # fmt: skip
        wait_for(lambda: all(len(one) > 3 and one[-3][1] == 2 for one in seen))
        done.set()
        for thread in threads:
            thread.join(30)
        for one in seen:
            assert [number for number, _ in one] == list(range(3, 3 + len(one)))
        found = daemon.status()["sequences"]["gate"]
        assert (found["open"], found["begun"], found["lost"]) == (3, 3, 0)
        assert found["state_bytes"] == 3 * 24


def test_a_release_with_other_states_drains(tmp_path: Path):
    make_bundle(tmp_path / "gate-1.edgb", remembering(), release=1)
    with running(tmp_path, model(", drain_timeout: 30s")) as daemon, daemon.client() as client:
        old, given_up = client.sequence("gate"), client.sequence("gate")
        assert count(old) == count(given_up) == 0
        (tmp_path / "gate-1.edgb").unlink()
        make_bundle(tmp_path / "gate-2.edgb", remembering(4), release=2)
        wait_for(lambda: daemon.status()["models"][0]["serving"] == 2)
        assert count(old) == 1
        new = client.sequence("gate").infer(x=np.ones((1, 4), np.float32))
        assert (old.infer(x=ONE).release, new.release) == (1, 2)
        states = {one["release"]: one["state"] for one in daemon.status()["releases"]}
        assert states == {1: "draining", 2: "ready"}
        old.end()
        given_up.end()
        wait_for(lambda: len(daemon.status()["releases"]) == 1)


def test_from_a_terminal_in_a_worker(tmp_path: Path):
    make_bundle(tmp_path / "gate-1.edgb", remembering(), release=1)
    body = model(more="    isolation: model\n")
    with running(tmp_path, body) as daemon:
        words = ("gate", "[[1, 1, 1]]", "--sequence", "mic")
        assert edged(daemon, *words, "--start")["outputs"]["y"] == [[0, 0, 0, 0, 0, 0]]
        assert edged(daemon, *words)["outputs"]["y"] == [[1, 1, 1, 1, 1, 1]]
        assert "outputs" not in edged(daemon, "gate", "--sequence", "mic", "--end")
        with daemon.client() as client:
            # The state is ours, not the worker's: another one goes on with it.
            sequences = [client.sequence("gate") for _ in range(4)]
            for step in range(3):
                pending = [sequence.submit(x=ONE) for sequence in sequences]
                assert [float(one.result()["y"][0, 3]) for one in pending] == [step] * 4
            (line,) = client.status()["releases"]
            subprocess.run(["kill", "-9", str(line["worker_pid"])], check=True)
            wait_for(lambda: is_back(client, line["worker_pid"]))
            assert [count(sequence) for sequence in sequences] == [3] * 4
            ended = client.sequence("gate", "mic")
            ended.is_open = True
            with pytest.raises(SequenceNotFoundError):
                count(ended)


def is_back(client: Client, before: int) -> bool:
    (line,) = client.status()["releases"]
    return line["state"] == "ready" and line["worker_pid"] not in (0, before)


def test_check_says_where(tmp_path: Path):
    make_bundle(tmp_path / "gate-1.edgb", double(), release=1)
    daemon = DaemonProcess(tmp_path)
    daemon.write(model())
    done = subprocess.run(
        [sys.executable, "-m", "edged", "check", "--config", str(daemon.config)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "edged.yaml:9:27: models.gate.sequence.state.h: release 1:" in done.stdout + done.stderr


@pytest.mark.broker
def test_by_mqtt_each_device_has_its_state(tmp_path: Path):
    make_bundle(tmp_path / "gate-1.edgb", remembering(), release=1)
    (tmp_path / "broker").mkdir()
    with (
        Mosquitto(tmp_path / "broker") as broker,
        Device(broker, "out/#") as device,
        running(
            tmp_path,
            f"{model()}mqtt: {{host: 127.0.0.1, port: {broker.port}}}\nbindings:\n"
            "  - {name: b, from: 'in/{id}', to: 'out/{id}', model: gate, sequence: {key: '{id}'}}\n",
        ) as daemon,
    ):
        wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
        seen: dict[str, list[float]] = {"a": [], "b": []}
        for number in range(12):
            device.publish(f"in/{'ab'[number % 2]}", b"[[1, 1, 1]]")
        for _ in range(12):
            answer = device.one()
            seen[answer.topic[-1]].append(json.loads(answer.payload)["y"][3])
        assert seen == {"a": [0, 1, 2, 3, 4, 5], "b": [0, 1, 2, 3, 4, 5]}
        assert daemon.status()["sequences"]["gate"]["open"] == 2
