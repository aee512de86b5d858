"""Every artefact that MLflow and BentoML write, written by them, through to a proven bundle.

One test a group of frameworks: importing the tools takes longer than all that follows.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from converters import cli
from edged.store.bundle import read_manifest

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.timeout(900)]

WITH_EXAMPLE = "checked"  # proven on what came along
WITH_ROWS = "verified"  # proven on the samples given here
GROUPS = {
    "plain": {
        "sklearn-skops": WITH_EXAMPLE,
        "sklearn-cloudpickle": WITH_EXAMPLE,
        "sklearn-pickle": WITH_EXAMPLE,
        "xgboost": WITH_EXAMPLE,
        "xgboost-booster": WITH_ROWS,
        "lightgbm": WITH_EXAMPLE,
        "lightgbm-booster": WITH_ROWS,
        "catboost": WITH_EXAMPLE,
        "onnx": WITH_EXAMPLE,
        "onnx-wide": WITH_EXAMPLE,
        "pyfunc": "python_function",
        "from-code": '"scorer.py"',
        "bentoml:/sklearn:latest": WITH_ROWS,
        "bentoml:/picklable": WITH_ROWS,
        "bentoml:/onnx": WITH_ROWS,
        "bentoml:/xgboost": WITH_ROWS,
        "bentoml:/lightgbm": WITH_ROWS,
        "bentoml:/catboost": WITH_ROWS,
        "bentoml:/raw": WITH_ROWS,
        "bentoml:/mlflow": WITH_ROWS,
        "bentoml:/scorer": WITH_ROWS,  # a Bento, by way of its model's tag
        "scorer.bento": WITH_ROWS,
        "sklearn.bentomodel": WITH_ROWS,
    },
    "torch": {
        "pt2": WITH_EXAMPLE,
        "pth": WITH_ROWS,
        "script": WITH_ROWS,
        "lightning": WITH_ROWS,
        "bentoml:/pytorch": WITH_ROWS,
        "bentoml:/torchscript": WITH_ROWS,
        "bentoml:/lightning": WITH_ROWS,
    },
    "tf": {
        "keras": WITH_ROWS,
        "keras-exported": WITH_ROWS,
        "tensorflow-h5": WITH_ROWS,
        "tensorflow-tf": WITH_ROWS,
        "tf2-module": WITH_ROWS,
        "bentoml:/keras": WITH_ROWS,
        "bentoml:/tensorflow": WITH_ROWS,
    },
}
"""Artefact → the grade of its bundle, or the word in its refusal."""
NEEDED = {"plain": "mlflow", "torch": "lightning", "tf": "tensorflow"}


@pytest.mark.parametrize("group", GROUPS)
def test_every_artefact_of_the_tools_becomes_a_bundle(group, tmp_path, capsys, monkeypatch):
    for name in ("mlflow", "bentoml", NEEDED[group]):
        _need(name)
    script = Path(__file__).with_name("produce.py")
    words = [sys.executable, "-W", "ignore", str(script), group, str(tmp_path)]
    made = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert made.returncode == 0, made.stderr[-3000:]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    wrong = {}
    for number, (source, wanted) in enumerate(GROUPS[group].items()):
        bundle = tmp_path / f"{number}.edgb"
        got = _convert(source, wanted, bundle, capsys)
        if wanted not in got:
            wrong[source] = got
    assert not wrong


def _need(name):
    import importlib.util

    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed on this Python")


def _convert(source, wanted, bundle, capsys):
    """The grade of the bundle, or what was said instead."""
    words = [source, "-o", str(bundle), "--name", "m", "--release", "1", "--trust"]
    if wanted == WITH_ROWS:
        words += ["--samples", "rows.npz"]
    status = cli.main(words)
    said = capsys.readouterr()
    if status != 0:
        assert not bundle.exists()
        return said.err.strip().splitlines()[-1]
    manifest = read_manifest(bundle)[1]
    origin = manifest.provenance["origin"]
    assert origin["tool"] == ("bentoml" if "bento" in source else "mlflow")
    return manifest.parity["grade"]
