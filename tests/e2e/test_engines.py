"""Engines in a daemon as a process: built while the next runtime serves, and swapped to."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import EdgedError
from edged.manifest import ArtefactEntry
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.engines import Site
from tests.models import double

pytestmark = pytest.mark.slow

HALF = ArtefactEntry("onnx", "model.onnx", "float16")
X = np.ones((1, 4), np.float16)
BODY = """trust: {require_signatures: false}
engines: {quiet: 0s}
models:
  m: {bundle: m-1.edgb, runtime: [tensorrt, onnxruntime]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "m-1.edgb", double("float16", 2), name="m", artefact=HALF)
    return tmp_path


def path_of(site: Site) -> str:
    # Other tests keep the cores busy, and what runs behind everything else would not end.
    with (site.path / "sitecustomize.py").open("a") as file:
        file.write("\nimport os\nos.sched_setscheduler = lambda *_: None\n")
    return os.pathsep.join([str(site.path), os.environ.get("PYTHONPATH", "")])


def built(daemon: DaemonProcess) -> dict[str, Any]:
    builds = (daemon.status()["engines"] or {"builds": []})["builds"]
    return builds[0] if builds else {"phase": ""}


def serving(daemon: DaemonProcess) -> str:
    return str(daemon.status()["releases"][-1]["runtime"])


class Asking:
    """Requests without a pause from a thread of its own."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._daemon = daemon
        self._over = threading.Event()
        self.answered = 0
        self.wrong: list[object] = []
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        with self._daemon.client() as client:
            while not self._over.is_set():
                try:
                    y = client.infer("m", x=X)["y"]
                except EdgedError as exc:
                    self.wrong.append(exc)
                    continue
                self.answered += 1
                if not np.allclose(y, 2 * X):
                    self.wrong.append(y)


@contextlib.contextmanager
def asking_of(daemon: DaemonProcess) -> Iterator[Asking]:
    asking = Asking(daemon)
    asking.start()
    try:
        yield asking
    finally:
        asking.stop()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def test_it_serves_at_once_builds_and_swaps_and_finds_the_engine_again(folder, site):
    env = {"PYTHONPATH": path_of(site)}
    with running(folder, BODY, **env) as daemon:
        with asking_of(daemon) as asking:
            wait_for(lambda: asking.answered > 10, 60)
            wait_for(lambda: built(daemon)["phase"] == "serving", 60)
            wait_for(lambda: serving(daemon) == "tensorrt", 60)
            before = asking.answered
            wait_for(lambda: asking.answered > before + 10, 60)
        assert asking.wrong == []
        status = daemon.status()
        assert status["engines"]["ended"] == {"ready": 1}
        assert status["degradations"] == {}
        assert len(status["releases"]) == 1, "the one on onnxruntime is gone"
        own = daemon.process.pid if daemon.process else 0
        assert own not in site.deserialised, "an engine is loaded in workers only"
        loads = len(site.deserialised)
    with running(folder, BODY, **env) as daemon:
        assert serving(daemon) == "tensorrt"
        wait_for(lambda: built(daemon)["phase"] == "serving", 60)
        assert daemon.status()["engines"]["ended"] == {}, "nothing was built again"
        assert len(site.deserialised) > loads
        with daemon.client() as client:
            np.testing.assert_allclose(client.infer("m", x=X)["y"], 2 * X)


def test_replaced_in_the_cache_it_is_not_deserialised_and_built_anew(folder, site):
    env = {"PYTHONPATH": path_of(site)}
    with running(folder, BODY, **env) as daemon:
        wait_for(lambda: built(daemon)["phase"] == "serving", 60)
    [path] = (folder / "state" / "engines").glob("*.engine")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    loads = len(site.deserialised)
    never = BODY.replace("quiet: 0s", "build: manual")
    with running(folder, never, **env) as daemon:
        assert serving(daemon) == "onnxruntime"
        wait_for(lambda: built(daemon)["phase"] == "wanted", 60)
        assert daemon.status()["engines"]["refused"] == {"changed": 1}
        assert "serves on onnxruntime instead of tensorrt" in str(daemon.status()["degradations"])
        assert len(site.deserialised) == loads
        daemon.write(BODY)
        wait_for(lambda: built(daemon)["phase"] == "serving", 60)
        assert serving(daemon) == "tensorrt"


def test_killed_in_the_middle_of_a_build_it_builds_after_the_next_start(folder, tmp_path):
    gate = tmp_path / "gate"
    extra = (
        "\nimport os, time\nhonest_build = made.Builder.build_serialized_network\n"
        "def slow(self, network, config):\n"
        f"    while not os.path.exists({str(gate)!r}):\n        time.sleep(0.02)\n"
        "    return honest_build(self, network, config)\n"
        "made.Builder.build_serialized_network = slow\n"
    )
    site = Site(tmp_path / "site", extra=extra)
    env = {"PYTHONPATH": path_of(site)}
    with running(folder, BODY, **env) as daemon:
        wait_for(lambda: built(daemon).get("step") == "building", 60)
        with asking_of(daemon) as asking:
            wait_for(lambda: asking.answered > 10, 60)
        assert asking.wrong == []
        daemon.kill()
    left = list((folder / "state" / "engines").glob("build-*"))
    assert len(left) == 1
    with running(folder, BODY, **env) as daemon:
        wait_for(lambda: built(daemon).get("step") == "building", 60)
        assert built(daemon)["failures"] == 1
        gate.touch()
        wait_for(lambda: built(daemon)["phase"] == "serving", 60)
        assert not left[0].exists()
        assert built(daemon)["failures"] == 0
