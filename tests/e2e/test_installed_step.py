"""The example package of docs/examples, installed by pip, as a step of a real daemon."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edged.config.load import load
from edged.errors import DeadlineExceededError
from tests import models
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for

EXAMPLE = Path(__file__).parents[2] / "docs/examples/steps"
BODY = """\
trust: {require_signatures: false}
models: {gate: {bundle: gate.edgb}}
pipelines:
  p:
    inputs: {x: "float32[batch,4]"}
    steps:
    - {name: held, use: clamp, inputs: {values: x}, options: {low: -1, high: HIGH}}
    - {name: twice, model: gate, inputs: held.values}
    outputs: {y: twice, beyond: held.beyond}
"""
needs_setuptools = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None,
    reason="setuptools is not installed, which builds the example",
)


@pytest.mark.slow
@needs_setuptools
def test_the_example(tmp_path: Path):
    target = tmp_path / "packages"
    source = tmp_path / "steps"
    source.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--target", target, source],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    make_bundle(tmp_path / "gate.edgb", models.double(), name="gate")
    x = np.array([[-5, 0, 1, 9]], np.float32)
    with running(tmp_path, BODY.replace("HIGH", "2"), PYTHONPATH=_path(target)) as daemon:
        with daemon.client() as client:
            result = client.infer("p", {"x": x})
        np.testing.assert_array_equal(result["y"], [[-2, 0, 2, 4]])
        np.testing.assert_array_equal(result["beyond"], [[True, False, False, True]])
        daemon.write(BODY.replace("HIGH", "-3"))
        done = subprocess.run(
            [sys.executable, "-m", "edged", "check", "--config", daemon.config],
            capture_output=True, text=True, check=False, env={"PYTHONPATH": _path(target)},
        )  # fmt: skip
    assert 'steps[0].options: step "clamp" refuses them: low is -1, high -3' in done.stderr


def _path(target: Path) -> str:
    return f"{target}:{Path(__file__).parents[2]}"


HANGS = """\
import time
from edged.tensors import TensorSpec

class Hangs:
    def __init__(self, options): pass

    def outputs(self, inputs): return [TensorSpec("values", "float32", ("batch", 4))]

    def run(self, inputs):
        if inputs["values"][0, 0] == 9:
            time.sleep(10_000)
        return dict(inputs)
"""


def test_one_that_never_returns_keeps_neither_others_nor_the_daemon(tmp_path: Path):
    info = tmp_path / "packages/hangs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hangs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edged.steps]\nclamp = hangs:Hangs\n")
    (info.parent / "hangs.py").write_text(HANGS)
    make_bundle(tmp_path / "gate.edgb", models.double(), name="gate")
    body = BODY.replace("beyond: held.beyond", "held: held.values")
    with running(tmp_path, body, PYTHONPATH=_path(info.parent)) as daemon:
        with daemon.client() as client, daemon.client() as other:
            x = np.full((1, 4), 1, np.float32)
            np.testing.assert_array_equal(client.infer("p", {"x": x})["y"], x * 2)
            hung = [
                other.submit("p", {"x": x * 9}) for _ in range(8)
            ]  # more than there are threads
            wait_for(lambda: _at_work(daemon) == len(hung))
            with pytest.raises(DeadlineExceededError, match="waiting for a thread"):
                client.infer("p", {"x": x}, timeout=0.2)
        assert daemon.stop() == 0


def _at_work(daemon: DaemonProcess) -> int:
    return sum(one["in_flight"] for one in daemon.status()["releases"] if one["model"] == "p")


def test_without_the_package_the_configuration_is_refused(tmp_path: Path):
    from tests.verdicts import check_config

    make_bundle(tmp_path / "gate.edgb", models.double(), name="gate")
    (tmp_path / "edged.yaml").write_text(BODY.replace("HIGH", "2"))
    assert load(tmp_path).config.pipelines["p"].steps[0].use == "clamp"
    problems, _ = check_config(tmp_path, with_files=True)
    assert 'steps[0].use: no installed package has a step "clamp"' in problems[0]
