"""The same recipe in two processes, for every framework."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.converters.twice import hold_twice, write_recipe

FILES = {
    "torch": "torch.pt2",
    "tensorflow": "keras.keras",
    "sklearn": "sklearn.joblib",
    "xgboost": "xgboost.json",
    "lightgbm": "lightgbm.txt",
    "catboost": "catboost.cbm",
}
NEEDED = {"torch": "onnxscript", "tensorflow": "tf2onnx", "xgboost": "onnxmltools",
          "lightgbm": "onnxmltools"}  # fmt: skip


@pytest.mark.frameworks
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_framework(tmp_path):
    there = [
        name
        for name in FILES
        if importlib.util.find_spec(name) and importlib.util.find_spec(NEEDED.get(name, name))
    ]
    made = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("make_models.py")), str(tmp_path), *there],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    recipes = [
        write_recipe(
            tmp_path, name, source=str(tmp_path / FILES[name]), samples=str(tmp_path / "rows.npz")
        )
        for name in there
    ]
    assert "sklearn" in there
    hold_twice(recipes, tmp_path)
