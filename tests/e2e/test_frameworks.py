"""Source to bundle to daemon to answer, with the real programs, for each framework."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.process import running

SUFFIXES = {"sklearn": "joblib", "onnx": "onnx", "torch": "pt2", "keras": "keras"}
MODULES = {"torch": "torch", "keras": "tensorflow"}


@pytest.mark.parametrize(
    "kind",
    [
        "sklearn",
        "onnx",
        pytest.param("torch", marks=pytest.mark.frameworks),
        pytest.param("keras", marks=pytest.mark.frameworks),
    ],
)
@pytest.mark.timeout(300)
def test_source_to_answer(kind: str, tmp_path: Path) -> None:
    module = MODULES.get(kind)
    if module is not None and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed on this Python")
    command(sys.executable, str(Path(__file__).with_name("trainers.py")), kind, str(tmp_path))
    command(sys.executable, "-m", "converters.cli", "keygen", str(tmp_path / "release"))
    command(
        sys.executable, "-m", "converters.cli", str(tmp_path / f"model.{SUFFIXES[kind]}"),
        "-o", str(tmp_path / "digits-1.edgb"), "--name", "digits", "--release", "1",
        "--samples", str(tmp_path / "samples.npz"), "--key", str(tmp_path / "release.key"),
        "--trust",
    )  # fmt: skip
    body = "trust: {keys: [release.pub]}\nmodels:\n  digits: {bundle: digits-1.edgb}\n"
    with np.load(tmp_path / "samples.npz") as samples:
        (x,) = samples.values()
    expected = np.load(tmp_path / "expected.npy")
    with running(tmp_path, body) as daemon, daemon.client() as client:
        (model,) = client.models()
        (name,) = (entry["name"] for entry in model["inputs"])
        whole = client.infer("digits", {name: x})
        single = client.infer("digits", {name: x[:1]})
    probabilities = next(a for a in whole.values() if a.ndim == 2)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert (probabilities.argmax(1) == expected.argmax(1)).all()
    first = next(a for a in single.values() if a.ndim == 2)
    np.testing.assert_allclose(first, expected[:1], atol=1e-5)


def command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
