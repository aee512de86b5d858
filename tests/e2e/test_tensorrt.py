"""A daemon that runs engines in its real worker processes, over a GPU that is played.

The package, the driver and CUDA are those of ``tests/fakes``: their members are those of the real
bindings, and what an engine computes is what ONNX Runtime computes of the model it was built from.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import EdgedError
from edged.manifest import canonical_json
from tests.bundles import write_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.engines import ELSEWHERE, Site, build, with_engines
from tests.models import classifier

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BODY = """trust: {require_signatures: false}
models: {gate: {bundle: gate.edgb, runtime: [RUNTIME], isolation: none}}
"""
RUNTIMES = [
    "onnxruntime",
    pytest.param("openvino", marks=pytest.mark.frameworks),
    "tensorrt",
]


class Box:
    """A directory with a bundle, and the GPU that daemons in it find."""

    def __init__(self, directory: Path, *hosts: Any) -> None:
        self.directory = directory
        self.site = Site(directory / "site")
        self.model = classifier()
        engines = [build(self.model, *host, exact=(1,)) for host in hosts]
        manifest, members = with_engines(self.model, engines)
        write_bundle(directory / "gate.edgb", canonical_json(manifest), members)

    def running(self, runtime: str) -> Any:
        body = BODY.replace("RUNTIME", runtime)
        paths = os.pathsep.join(map(str, (self.site.path, ROOT)))
        return running(self.directory, body, PYTHONPATH=paths)


def release(daemon: DaemonProcess) -> dict[str, Any]:
    return daemon.status()["releases"][0]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_same_bundle_answers_the_same(tmp_path: Path, runtime: str):
    """Each is held against what the model itself was written to compute."""
    box = Box(tmp_path, (ELSEWHERE,), ())
    with box.running(runtime) as daemon, daemon.client() as client:
        for rows in (1, 2, 8, 3, 21):
            inputs, expected = box.model.golden(rows)
            for _ in range(3):  # the third one is a graph
                result = client.infer("gate", inputs)
                for name, array in expected.items():
                    np.testing.assert_allclose(result[name], array, rtol=1e-4, atol=1e-5)
        told = release(daemon)
        metrics = client.call("metrics")
        assert daemon.process is not None
        assert daemon.process.pid not in box.site.deserialised
    assert told["runtime"] == runtime
    assert bool(box.site.deserialised) == (runtime == "tensorrt")
    if runtime == "tensorrt":
        assert 'edged_batches_total{model="gate",release="1",where="worker"}' in metrics
        assert told["worker_pid"] in box.site.deserialised, "although isolation is none"


def test_one_from_elsewhere_leaves_the_next_and_says_why(tmp_path: Path):
    box = Box(tmp_path, (ELSEWHERE,))
    with box.running("tensorrt, onnxruntime") as daemon, daemon.client() as client:
        inputs, expected = box.model.golden(2)
        result = client.infer("gate", inputs)
        for name, array in expected.items():
            np.testing.assert_allclose(result[name], array, rtol=1e-4, atol=1e-5)
        told = release(daemon)
        log = daemon.tail(200)
    assert told["runtime"] == "onnxruntime"
    assert "was built for compute capability 7.2 (here: 8.7)" in told["choice"]
    assert "not used: model-float32-sm72-" in log
    assert box.site.is_clean()


def test_an_engine_that_takes_its_process_along_leaves_the_daemon(tmp_path: Path):
    box = Box(tmp_path, ())
    inputs, expected = box.model.golden(2)
    with box.running("tensorrt") as daemon, daemon.client() as client:
        client.infer("gate", inputs)
        before = release(daemon)["worker_pid"]
        os.kill(before, signal.SIGSEGV)

        def answers() -> bool:
            try:
                result = client.infer("gate", inputs)
            except EdgedError:
                return False
            return all(np.allclose(result[name], expected[name], 1e-4, 1e-5) for name in expected)

        # On a busy machine the process may answer once more before the signal reaches it.
        wait_for(lambda: release(daemon)["worker_pid"] not in (0, before), 60)
        wait_for(answers, 60)
        told = release(daemon)
    assert told["runtime"] == "tensorrt"
    assert told["worker_pid"] in box.site.deserialised
