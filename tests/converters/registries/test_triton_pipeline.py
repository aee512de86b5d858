"""Ensembles that cannot be one graph: a pipeline that gives what the steps give."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters.errors import UnsupportedModelError
from converters.registries.triton_convert import Options
from converters.registries.triton_ensemble import read_steps
from converters.registries.triton_import import import_repository
from converters.registries.triton_pipeline import pipeline_section
from tests.converters.registries.test_triton_ensemble import FIRST, SECOND, ensemble, step
from tests.converters.registries.test_triton_import import io, run
from tests.e2e.process import running
from tests.fakes.manifests import make_manifest
from tests.verdicts import check_config


def dense_manifest(taken="x", given="y", have=4, want=3):
    return make_manifest(
        [(taken, "float32", ("batch", have))], [(given, "float32", ("batch", want))]
    )


BOTH = {
    "first": {3: dense_manifest()},
    "second": {1: dense_manifest(want=9), 2: dense_manifest("a", "b", 3, 2)},
}


def test_a_section_that_the_daemon_takes(repository):
    model = ensemble(repository, SECOND, FIRST)
    section = pipeline_section(model, read_steps(model), BOTH)
    assert section == {
        "release": 1,
        "inputs": {"IN": "float32[batch,4]"},
        "steps": [
            {"name": "s0_first", "model": "first@3", "inputs": {"x": "IN"}},
            {"name": "s1_second", "model": "second", "inputs": {"a": "s0_first.y"}},
        ],
        "outputs": {"OUT": "s1_second.b"},
    }


@pytest.mark.parametrize(
    ("manifests", "words"),
    [
        ({"first": BOTH["first"]}, 'step "second" was not accepted as a model of its own'),
        (BOTH | {"first": {1: dense_manifest()}}, 'step "first": version 3 is not among those'),
        (BOTH | {"second": {2: dense_manifest("a", "b", 5, 2)}}, "wants float32"),
        (BOTH | {"second": {2: dense_manifest("a", "b", 3, 7)}}, 'output "OUT" is float32'),
        (BOTH | {"second": {2: dense_manifest("z", "b", 3, 2)}}, 'has no input "a"'),
    ],
)
def test_what_does_not_fit(repository, manifests, words):
    model = ensemble(repository, SECOND, FIRST)
    with pytest.raises(UnsupportedModelError, match=words):
        pipeline_section(model, read_steps(model), manifests)


def test_a_name_that_a_pipeline_cannot_have(repository):
    model = ensemble(repository, step("first", {"x": "1N"}, {"y": "OUT"}), inputs=("1N",))
    with pytest.raises(UnsupportedModelError, match="is no name for an input or output"):
        pipeline_section(model, read_steps(model), {"first": {1: dense_manifest(want=2)}})


@pytest.mark.frameworks
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_step_in_torchscript(repository, dense, tmp_path):
    """Imported, checked, served: as the two steps one after the other."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed on this Python")
    script = Path(__file__).with_name("produce.py")
    words = [sys.executable, "-W", "ignore", str(script), "triton", str(tmp_path)]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    head = 'backend: "pytorch" max_batch_size: 8'
    folder = repository("second", io({"INPUT__0": "dims: 4"}, {"OUTPUT__0": "dims: 2"}, head))
    (tmp_path / "model.pt").rename(folder / "1/model.pt")
    head = 'backend: "onnxruntime" max_batch_size: 8'
    repository("first", io({"x": "dims: 4"}, {"y": "dims: 4"}, head), dense(4, 4))
    ensemble(
        repository,
        step("second", {"INPUT__0": "mid"}, {"OUTPUT__0": "OUT"}),
        step("first", {"x": "IN"}, {"y": "mid"}),
    )
    out = tmp_path / "out"
    outcomes = import_repository(Options(repository.root, tmp_path, trust=True), out)
    (found,) = [outcome for outcome in outcomes if outcome.name == "e"]
    assert found.verdict == "accepted with differences"
    assert "only steps in ONNX can be joined" in found.differences[-1]
    assert check_config(out, with_files=True)[0] == []
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype("f4")
    mid = run(out / "bundles/first-1.edgb", {"x": rows})["y"]
    # Proven against TorchScript itself when it was imported.
    wanted = run(out / "bundles/second-1.edgb", {"INPUT__0": mid})["OUTPUT__0"]
    body = (out / "edged.yaml").read_text()
    with running(out, body) as daemon, daemon.client(timeout=30) as client:
        got = client.infer("e", {"IN": rows})["OUT"]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
