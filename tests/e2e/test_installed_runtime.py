"""The example package of docs/examples, installed by pip, as the runtime of a real daemon."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edged.errors import EdgedError
from tests import models
from tests.bundles import make_bundle
from tests.e2e.process import running, wait_for
from tests.fakes.packages import ROOT, write_package

EXAMPLE = ROOT / "docs/examples/runtime"
BODY = """\
trust: {require_signatures: false}
models:
  inside: {bundle: inside.edgb, runtime: [numpy]}
  apart: {bundle: apart.edgb, runtime: [numpy], isolation: model}
  other: {bundle: other.edgb, runtime: [numpy, onnxruntime]}
"""
HOSTILE = """\
trust: {require_signatures: false}
models:
  plain: {bundle: plain.edgb}
  after: {bundle: after.edgb, runtime: [crash, onnxruntime]}
  only: {bundle: only.edgb, runtime: [crash], required: false}
"""
X = np.array([[1, -2, 3, 4]], np.float32)
needs_setuptools = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None,
    reason="setuptools is not installed, which builds the example",
)


def _edged(*words: object, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edged", *map(str, words)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
@needs_setuptools
def test_the_example(tmp_path: Path):
    target, source = tmp_path / "packages", tmp_path / "runtime"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__py*"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--target", target, source],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    for name in ("inside", "apart"):
        make_bundle(tmp_path / f"{name}.edgb", models.classifier(), name=name)
    # It has no convolution: the next of the list takes that one.
    make_bundle(tmp_path / "other.edgb", models.image(), name="other")
    path = f"{target}:{ROOT}"
    with running(tmp_path, BODY, PYTHONPATH=path) as daemon:
        inputs, wanted = models.classifier().golden(3)
        with daemon.client() as client:
            for name in ("inside", "apart"):
                got = client.infer(name, inputs)
                np.testing.assert_allclose(got["probabilities"], wanted["probabilities"], atol=1e-5)
            rows = {one["name"]: one["releases"][0]["runtime"] for one in client.models()}
        assert rows == {"inside": "numpy", "apart": "numpy", "other": "onnxruntime"}
        done = _edged("check", "--config", daemon.config, path=path)
        assert done.returncode == 0, done.stderr
        shown = json.loads(_edged("device", "--json", path=path).stdout)["runtimes"]
        own = next(one for one in shown if one["name"] == "numpy")
        assert own["version"] == np.__version__
        assert own["package"] == "edged-example-runtime 1.0"
    done = _edged("check", "--config", daemon.config, path=str(ROOT))
    assert 'models.inside.runtime[0]: no runtime is called "numpy"' in done.stderr


@pytest.mark.slow
def test_a_package_that_crashes_where_it_is_imported_harms_nobody(tmp_path: Path):
    target = tmp_path / "packages"
    write_package(target, "crash", "import os; os.abort()", {"crash": "crash:R"})
    for name in ("plain", "after", "only"):
        make_bundle(tmp_path / f"{name}.edgb", models.double(), name=name)
    with running(tmp_path, HOSTILE, PYTHONPATH=f"{target}:{ROOT}") as daemon:
        wait_for(lambda: daemon.status()["ready"])
        with daemon.client() as client:
            for name in ("plain", "after"):
                np.testing.assert_array_equal(client.infer(name, {"x": X})["y"], X * 2)
            with pytest.raises(EdgedError, match=r"crash 1.0: importing it ended the process \(SI"):
                client.infer("only", {"x": X})
            client.infer("plain", {"x": X})
        status = daemon.status()
    assert "crash 1.0: importing it ended the process" in json.dumps(status)
