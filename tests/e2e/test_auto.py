"""A daemon that chooses: one bundle in three precisions, on every runtime that is here.

Which of them wins is the machine's own matter; that it was proven, is told and is remembered is not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edged.commands.rendering import render_status
from edged.manifest import ArtefactEntry, Golden, Tolerance
from edged.store.golden import write_safetensors
from tests.bundles import make_bundle
from tests.e2e.process import running
from tests.models import TinyModel, double, onnx_bytes

pytestmark = pytest.mark.frameworks

STEP = 0.5
PRECISIONS = ("float32", "float16", "int8")
BODY = """trust: {require_signatures: false}
models: {gate: {bundle: gate.edgb, runtime: auto, isolation: ISOLATION}}
"""


def answers(x: np.ndarray[Any, Any], precision: str) -> np.ndarray[Any, Any]:
    if precision == "float16":
        return (x.astype(np.float16) * np.float16(2)).astype(np.float32)
    if precision == "int8":
        return (np.clip(np.rint(x / STEP), 0, 255) * STEP * 2).astype(np.float32)
    return x * 2


def files() -> dict[str, bytes]:
    """The same model thrice: as it is, in float16, and with its input in steps of ``STEP``."""
    tiny, node = double(), helper.make_node
    two = np.array(2, np.float32)
    half = [
        node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        node("Mul", ["h", "k"], ["d"]),
        node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    steps = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["f"]),
        node("Mul", ["f", "k"], ["y"]),
    ]
    constants = {"s": np.array(STEP, np.float32), "z": np.array(0, np.uint8), "k": two}
    return {
        "float32": tiny.data,
        "float16": onnx_bytes(half, tiny.inputs, tiny.outputs, {"k": two.astype(np.float16)}),
        "int8": onnx_bytes(steps, tiny.inputs, tiny.outputs, constants),
    }


def three_precisions(path: Path, *, lies: str = "") -> TinyModel:
    """A bundle of them, each with golden answers of its own; those of ``lies`` are false."""
    tiny, made = double(), files()
    inputs, _ = tiny.golden(4)
    extra, entries = {}, [ArtefactEntry("onnx", "model.onnx")]
    for precision in PRECISIONS[1:]:
        expected = answers(inputs["x"], precision) + np.float32(precision == lies)
        golden = f"golden-{precision}.safetensors"
        extra[f"model-{precision}.onnx"] = ("onnx", made[precision])
        extra[golden] = ("safetensors", write_safetensors({"out.y": expected}))
        own = Golden(golden, 4, {"y": Tolerance(atol=1e-3, rtol=1e-3)})
        entries.append(ArtefactEntry("onnx", f"model-{precision}.onnx", precision, golden=own))
    make_bundle(path, tiny, artefacts=tuple(entries), extra=extra)
    return tiny


def check(root: Path) -> str:
    command = [sys.executable, "-m", "edged", "check", "--config", str(root / "edged.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_what_won_is_proven_told_and_remembered(tmp_path: Path):
    tiny = three_precisions(tmp_path / "gate.edgb")
    told = []
    for isolation in ("none", "model"):  # where it serves is no matter to the contest
        with (
            running(tmp_path, BODY.replace("ISOLATION", isolation)) as daemon,
            daemon.client() as client,
        ):
            document = daemon.status()
            release = document["releases"][0]
            assert release["runtime"] in ("onnxruntime", "openvino")
            for rows in (1, 4):
                inputs = tiny.sample(rows)
                wanted = answers(inputs["x"], release["precision"])
                got = client.infer("gate", inputs)["y"]
                np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)
            told.append(release["choice"])
    # A machine that never let one of them run has to ask again, as it says.
    assert told[0] == told[1] or "asked again at the next start" in told[0]
    won = f"{release['precision']} on {release['runtime']} won on this device: "
    assert told[1].startswith(won)
    for runtime in ("onnxruntime", "openvino"):
        for precision in PRECISIONS:
            assert f"{precision} on {runtime} " in told[0]
    assert f"gate release 1 in {release['precision']}: {won}" in render_status(document)
    (note,) = (tmp_path / "state/contests").iterdir()
    (held,) = json.loads(note.read_bytes()).values()
    assert len(held["raced"]) == 6
    assert f"models.gate.runtime: auto, release 1: {won}" in check(tmp_path)


def test_what_breaks_its_promise_serves_on_no_runtime(tmp_path: Path):
    three_precisions(tmp_path / "gate.edgb", lies="int8")
    with running(tmp_path, BODY.replace("ISOLATION", "none")) as daemon:
        release = daemon.status()["releases"][0]
        log = daemon.log.read_text()
    assert release["precision"] != "int8"
    for runtime in ("onnxruntime", "openvino"):
        assert f"int8 on {runtime} is out: " in release["choice"]
    assert "does not reproduce the golden samples" in release["choice"]
    assert "release 1 serves in" in log


def test_before_anything_was_measured_check_says_among_what(tmp_path: Path):
    three_precisions(tmp_path / "gate.edgb")
    text = f"state_dir: {tmp_path}/state\n" + BODY.replace("ISOLATION", "none")
    (tmp_path / "edged.yaml").write_text(text)
    said = check(tmp_path)
    assert (
        "auto, release 1: to be found out when it is loaded, among float32 on onnxruntime" in said
    )
    (tmp_path / "edged.yaml").write_text(f"{text}trial: {{enabled: false}}\n")
    assert "float32 on onnxruntime comes first; without trials nothing is compared" in check(
        tmp_path
    )
