"""The demo as ``make demo`` runs it, and proof that its judge is not asleep."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

DEMO = Path(__file__).resolve().parents[2] / "docs/demo"
NETWORK = (
    Path(sys.prefix)
    / "share/edged-demo/rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
)


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(240)
def test_demo(tmp_path: Path):
    assert NETWORK.is_file(), "the demo's network is not installed: make demo, or make test-all"
    command = [sys.executable, str(DEMO / "run.py"), "--dir", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every check passed" in done.stdout
    assert "FAIL" not in done.stdout


@pytest.fixture
def tally_module(tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_tally", DEMO / "tally.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tally(tally_module: ModuleType, tmp_path: Path) -> Any:
    path = tmp_path / "reference.npz"
    np.savez(path, probabilities=np.array([[0.25, 0.75]]), labels=np.array(["a", "b"]))
    tally = tally_module.Tally()
    tally.add_model("m", 1, path)
    return tally


def sent(number: int) -> dict[str, Any]:
    return {"id": f"m/{number}", "row": 0, "sent_ns": 0}


def result(number: int, b: float = 0.75, **changes: Any) -> dict[str, Any]:
    label = "b" if b > 0.5 else "a"
    top = [{"label": "a", "score": 1 - b}, {"label": "b", "score": b}]
    return {
        "id": f"m/{number}",
        "received_ns": 2_000_000,
        "topic": "out",
        "properties": {"edged-release": "1", "edged-generation": "4"},
        "payload": {"label": label, "top": top},
        **changes,
    }


def test_one_right_result_in_either_order(tally: Any):
    tally.on_sent(sent(0))
    tally.on_result(result(0))
    tally.on_result(result(1))
    tally.on_sent(sent(1))
    model = tally.models["m"]
    assert (model.sent, model.answered, model.labels_equal) == (2, 2, 2)
    assert (tally.problems, tally.missing, tally.strangers) == ([], [], [])
    assert model.worst == 0
    assert model.percentile_ms(0.99) == 2.0
    assert (model.releases, tally.generations) == ({1: 2}, {4: 2})


def test_missing_twice_and_unasked_are_seen(tally: Any):
    tally.on_sent(sent(0))
    assert tally.missing == ["m/0"]
    tally.on_result(result(0))
    tally.on_result(result(0))
    assert "2 results" in tally.problems[0]
    tally.on_result(result(9))
    assert tally.strangers == ["m/9"]


def test_wrong_label_and_far_probability_are_seen(tally: Any):
    tally.on_sent(sent(0))
    tally.on_result(result(0, b=0.4))
    assert tally.models["m"].labels_equal == 0
    assert tally.models["m"].worst == pytest.approx(0.35)
    tally.on_sent(sent(1))
    tally.on_result(result(1, b=0.75 + 2e-5))
    assert tally.models["m"].labels_equal == 1
    assert tally.models["m"].worst > 1e-5


def test_dead_letter_is_no_answer(tally: Any):
    tally.on_sent(sent(0))
    tally.on_result(result(0, topic="edged/demo/error/m", payload={"error": {"code": "INTERNAL"}}))
    assert "error/m" in tally.problems[0]
    assert tally.models["m"].labels_equal == 0
