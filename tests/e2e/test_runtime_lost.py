"""A runtime that goes away under a real daemon and comes back.

A device that a file switches off, and OpenVINO's own library, renamed.
"""

from __future__ import annotations

import os
import signal
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.commands.rendering import render_status
from edged.errors import BusyError, Code, EdgedError
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.packages import ROOT, write_package
from tests.models import double

pytestmark = pytest.mark.slow

# A GPU that is there while a file is not. A session that lost it stays lost, as CUDA's do.
FAKE_GPU = """
import os
import pathlib
from edged.errors import LoadError
from edged.runtimes.base import RuntimeInfo
from edged.runtimes.onnxruntime import OnnxRuntime
DEAD = pathlib.Path({dead!r})

class Gpu:
    name, kinds, device = "fakegpu", ("onnx",), "cuda"
    def __init__(self, *, threads):
        self.inner = OnnxRuntime(threads=1)
    def info(self):
        return RuntimeInfo("fakegpu", "1", ("cuda:0",), "no GPU is visible" if DEAD.exists() else "")
    def estimate_bytes(self, artefact):
        return self.inner.estimate_bytes(artefact)
    def load(self, artefact):
        if DEAD.exists():
            raise LoadError("no GPU is visible")
        return Session(self.inner.load(artefact))

class Session:
    def __init__(self, inner):
        self.inner, self.inputs, self.outputs = inner, inner.inputs, inner.outputs
        self.is_lost = False
    def run(self, inputs):
        self.is_lost = self.is_lost or DEAD.exists()
        if self.is_lost:
            raise RuntimeError("CUDA failure 719: unspecified launch failure ; GPU=0 ; line=3")
        return self.inner.run(inputs)
    def close(self):
        self.inner.close()
    def __del__(self):
        if self.is_lost:
            os.abort()  # as destructors of CUDA libraries have done
"""
BODY = """\
trust: {require_signatures: false}
models:
  gate: {bundle: gate.edgb, runtime: [FIRST, onnxruntime], isolation: none}
"""
X = np.array([[1, -2, 3, 4]], np.float32)


class Asking:
    """One client that asks all the time, and keeps what went wrong."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.errors: list[EdgedError] = []
        self.wrong: list[Any] = []
        self.answers = 0
        self._daemon = daemon
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with self._daemon.client(timeout=60) as client:
            while not self._is_over.is_set():
                try:
                    found = client.infer("gate", {"x": X})["y"]
                except EdgedError as exc:
                    self.errors.append(exc)
                    self._is_over.wait(0.05)
                else:
                    self.answers += 1
                    if not np.array_equal(found, 2 * X):
                        self.wrong.append(found)

    def more(self) -> bool:
        """Whether something was answered since this was asked first."""
        before = self.answers
        wait_for(lambda: self.answers > before + 5, 60)
        return True

    @contextmanager
    def going_on(self) -> Iterator[Asking]:
        self._thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            self._thread.join(70)
            assert self.wrong == []


def release_of(daemon: DaemonProcess) -> dict[str, Any]:
    return daemon.status()["releases"][0]


def serves_on(daemon: DaemonProcess, runtime: str) -> dict[str, Any]:
    """Wait until the release does; gives it as the status has it."""

    def found() -> dict[str, Any] | None:
        release = release_of(daemon)
        is_so = (release["runtime"], release["state"]) == (runtime, "ready")
        return release if is_so else None

    return wait_for(found, 90, every=0.1)


def hang_up(daemon: DaemonProcess) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """The file; the package lies beside the daemon's own things."""
    make_bundle(tmp_path / "gate.edgb", double())
    path = tmp_path / "dead"
    source = FAKE_GPU.replace("{dead!r}", repr(str(path)))
    write_package(tmp_path / "packages", "fakegpu", source, {"fakegpu": "fakegpu:Gpu"})
    return path


def path_of(dead: Path) -> str:
    return f"{dead.parent / 'packages'}:{ROOT}"


@pytest.mark.parametrize("isolation", ["none", "model"])
def test_the_next_runtime_takes_over_and_the_first_comes_back(dead: Path, isolation: str):
    body = BODY.replace("FIRST", "fakegpu").replace("none", isolation)
    with (
        running(dead.parent, body, PYTHONPATH=path_of(dead)) as daemon,
        Asking(daemon).going_on() as asking,
    ):
        assert serves_on(daemon, "fakegpu")["runtime_fallback"] is None
        asking.more()
        assert asking.errors == []
        dead.touch()
        found = serves_on(daemon, "onnxruntime")["runtime_fallback"]
        assert (found["wanted"], found["serves_on"]) == ("fakegpu", "onnxruntime")
        asking.more()
        # Those of one run, asked to come again; who waits is answered after the load.
        assert 1 <= len(asking.errors) <= 2
        for error in asking.errors:
            assert isinstance(error, BusyError)
            assert error.code is Code.UNAVAILABLE
            assert error.retry_after_ns > 0
        with daemon.client() as client:
            figures = client.call("metrics")
        assert 'edged_device_losses_total{model="gate",release="1",runtime="fakegpu"} 1' in figures
        text = render_status(daemon.status())
        assert "runtime.gate (for " in text
        assert "release 1 serves on onnxruntime instead of fakegpu: " in text
        assert "its device was lost while running" in daemon.log.read_text()
        del asking.errors[:]
        dead.unlink()
        hang_up(daemon)
        assert serves_on(daemon, "fakegpu")["runtime_fallback"] is None
        asking.more()
        assert asking.errors == []
        assert "runtime.gate" not in daemon.status()["degradations"]
        assert daemon.process.poll() is None
    assert daemon.process.returncode == 0


def test_where_none_may_stand_in_it_is_refused_until_it_is_back(dead: Path):
    body = BODY.replace("FIRST", "fakegpu").replace("none", "model, fallback: deny")
    with running(dead.parent, body, PYTHONPATH=path_of(dead)) as daemon:
        with daemon.client() as client:
            assert np.array_equal(client.infer("gate", {"x": X})["y"], 2 * X)
            dead.touch()
            with pytest.raises(BusyError, match="lost its device while running, ask again"):
                client.infer("gate", {"x": X})
            release = wait_for(lambda: (r := release_of(daemon))["state"] == "failed" and r, 30)
            assert "fallback: deny" in release["reason"]
            with pytest.raises(BusyError, match="no GPU is visible"):
                client.infer("gate", {"x": X})
        status = daemon.status()
        assert (status["ready"], "model.gate" in status["degradations"]) == (False, True)
        dead.unlink()
        serves_on(daemon, "fakegpu")
        # The only configuration there is failed meanwhile, and has to prove itself anew.
        wait_for(lambda: daemon.status()["degradations"] == {}, 60)


def test_who_shares_the_process_is_carried_over_as_well(dead: Path):
    """Who lost a device cannot mend that from inside: the process goes, with all that are in it."""
    make_bundle(dead.parent / "side.edgb", double(), name="side")
    body = BODY.replace("FIRST", "fakegpu").replace("none", "device")
    side = "  side: {bundle: side.edgb, runtime: [fakegpu, onnxruntime], isolation: device}\n"
    with running(dead.parent, body + side, PYTHONPATH=path_of(dead)) as daemon:
        before = {one["model"]: one for one in daemon.status()["releases"]}
        assert {one["runtime"] for one in before.values()} == {"fakegpu"}
        assert len({one["worker_pid"] for one in before.values()}) == 1
        dead.touch()
        with daemon.client() as client, pytest.raises(BusyError, match="lost its device"):
            client.infer("gate", {"x": X})

        def carried() -> bool:
            return all(
                (one["runtime"], one["state"]) == ("onnxruntime", "ready")
                and one["worker_pid"] != before["side"]["worker_pid"]
                for one in daemon.status()["releases"]
            )

        wait_for(carried, 60, every=0.1)
        with daemon.client() as client:
            for name in ("gate", "side"):
                assert np.array_equal(client.infer(name, {"x": X})["y"], 2 * X)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """OpenVINO of one's own: links to every file, in a folder that comes first. Gives its library."""
    package = next(
        (
            Path(folder) / "openvino"
            for folder in (sysconfig.get_path("purelib"), *os.sys.path)
            if (Path(folder) / "openvino/__init__.py").is_file()
        ),
        None,
    )
    if package is None:
        pytest.skip("openvino is not installed")
    for source in package.rglob("*"):
        if source.is_file() and "__pycache__" not in source.parts:
            link = tmp_path / "packages/openvino" / source.relative_to(package)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
    make_bundle(tmp_path / "gate.edgb", double())
    (found,) = (tmp_path / "packages/openvino/libs").glob("libopenvino.so.*")
    return found


@pytest.mark.frameworks
def test_openvinos_library_is_renamed_and_renamed_back(tmp_path: Path, library: Path):
    """A worker that has to be started again finds it gone; what runs already goes on."""
    away = library.with_name("renamed")
    library.rename(away)
    body = BODY.replace("FIRST", "openvino").replace("none", "model")
    with running(tmp_path, body, PYTHONPATH=f"{tmp_path / 'packages'}:{ROOT}") as daemon:
        with Asking(daemon).going_on() as asking:
            found = serves_on(daemon, "onnxruntime")["runtime_fallback"]
            assert found["wanted"] == "openvino"
            assert library.name in found["why"]
            asking.more()
            away.rename(library)
            hang_up(daemon)
            release = serves_on(daemon, "openvino")
            assert release["runtime_fallback"] is None
            library.rename(away)
            asking.more()
            assert asking.errors == []
        os.kill(release["worker_pid"], signal.SIGKILL)
        found = serves_on(daemon, "onnxruntime")["runtime_fallback"]
        assert library.name in found["why"]
        with daemon.client() as client:
            assert np.array_equal(client.infer("gate", {"x": X})["y"], 2 * X)
        assert "runtime.gate" in daemon.status()["degradations"]
