"""One bundle with two precisions and a real daemon: which serves, and what an operator sees of it.

Neither file is quantised: the one that is called float32 has some thousand times the work, so that
no load of the machine decides who wins, and both answer so that one sees which it was.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edged.manifest import ArtefactEntry, Golden, Tolerance
from edged.store.golden import write_safetensors
from tests.bundles import ONNX, make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import TinyModel, double, onnx_bytes
from tests.runtimes.test_engine import engine
from tests.verdicts import check_config

pytestmark = pytest.mark.slow

PATIENCE_S = 90.0
"""A trial runs at the lowest priority: on a busy machine it takes a long time."""
BODY = """trust: {require_signatures: false}
models: {gate: {bundle: gate.edgb, precision: PRECISION}}
"""
WIDE = 1024
INT8_OFF = np.float32(0.25)


def heavy() -> TinyModel:
    """``y = 2x``, after three products whose outcome is nothing."""
    plain = double()
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("MatMul", ["x", "widen"], ["wide"]),
        helper.make_node("MatMul", ["wide", "mix"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "nothing"], ["none"]),
        helper.make_node("Add", ["doubled", "none"], ["y"]),
    ]
    rng = np.random.default_rng(1)
    constants = {
        "two": np.array(2, np.float32),
        "widen": rng.random((4, WIDE), np.float32),
        "mix": rng.random((WIDE, WIDE), np.float32),
        "nothing": np.zeros((WIDE, 4), np.float32),
    }
    data = onnx_bytes(nodes, plain.inputs, plain.outputs, constants)
    return TinyModel("heavy", data, plain.inputs, plain.outputs, plain.reference, plain.sample)


def light() -> bytes:
    """``y = 2x + 0.25``."""
    plain = double()
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "off"], ["y"]),
    ]
    constants = {"two": np.array(2, np.float32), "off": INT8_OFF.reshape(1)}
    return onnx_bytes(nodes, plain.inputs, plain.outputs, constants)


def put(folder: Path, *, promise: np.float32 = INT8_OFF, release: int = 1) -> None:
    model = heavy()
    inputs, _ = model.golden(4)
    own = Golden("golden-int8.safetensors", 4, {"y": Tolerance()})
    entry = ArtefactEntry("onnx", "model-int8.onnx", "int8", golden=own)
    extra = {
        "model-int8.onnx": ("onnx", light()),
        own.file: ("safetensors", write_safetensors({"out.y": inputs["x"] * 2 + promise})),
    }
    make_bundle(folder / "gate.edgb", model, extra=extra, artefacts=(ONNX, entry), release=release)


def answering(daemon: DaemonProcess) -> str:
    """The precision that answers, told from its answer."""
    with daemon.client(timeout=30) as client:
        off = float(client.infer("gate", x=np.ones((1, 4), np.float32))["y"][0, 0]) - 2
    return "int8" if off == INT8_OFF else "float32"


def served(daemon: DaemonProcess) -> tuple[str, str]:
    """The same, and why as the status says it."""
    wait_for(lambda: len(daemon.status()["releases"]) == 1, PATIENCE_S)
    (release,) = daemon.status()["releases"]
    assert release["precision"] == answering(daemon)
    return release["precision"], release["choice"]


def test_the_faster_serves_and_is_remembered(tmp_path: Path):
    put(tmp_path)
    with running(tmp_path, BODY.replace("PRECISION", "auto")) as daemon:
        wait_for(lambda: daemon.status()["ready"], PATIENCE_S)
        precision, why = served(daemon)
        assert precision == "int8"
        assert why.startswith("int8 won on this device: int8 0.")
        (noted,) = (tmp_path / "state/contests").iterdir()
        (held,) = json.loads(noted.read_bytes()).values()
        assert [name for _, name, _ in held["raced"]] == ["float32", "int8"]
        # A machine that never let one of them run has to ask again, as it says.
        is_known = held["tries"] == 0
        assert is_known is ("asked again at the next start" not in why)
        assert daemon.stop() == 0
        daemon.log.write_text("")
        daemon.start()
        wait_for(lambda: daemon.status()["ready"], PATIENCE_S)
        again = served(daemon)
        assert again[0] == "int8"
        assert again[1] == why or not is_known, "the figures are those of the first race"
        before = noted.read_bytes()
        daemon.write(BODY.replace("PRECISION", "float32"))
        wait_for(lambda: answering(daemon) == "float32", PATIENCE_S)
        assert served(daemon) == ("float32", "the configuration says so")
        daemon.write(BODY.replace("PRECISION", "auto"))
        wait_for(lambda: answering(daemon) == "int8", PATIENCE_S)
        assert noted.read_bytes() == before


def test_a_broken_promise_of_one_leaves_the_other(tmp_path: Path):
    put(tmp_path, promise=np.float32(1))
    with running(tmp_path, BODY.replace("PRECISION", "auto")) as daemon:
        wait_for(lambda: daemon.status()["ready"], PATIENCE_S)
        precision, why = served(daemon)
        assert precision == "float32"
        assert "int8 is out: " in why
        assert "does not reproduce the golden samples" in why
        assert "serves in float32" in daemon.tail()


def test_a_bundle_with_an_engine_is_served_by_its_onnx_file_and_says_so(tmp_path: Path):
    """Here there is no TensorRT: the bundle passes the check, a reload takes it, the file serves."""
    entries = (
        ONNX,
        ArtefactEntry("tensorrt", "model-int8-tensorrt.onnx", "int8"),
        ArtefactEntry("tensorrt", "model-float32-sm87.engine", "float32"),
    )
    extra = {
        "model-int8-tensorrt.onnx": ("onnx", light()),
        "model-float32-sm87.engine": ("tensorrt", engine().encode()),
    }
    make_bundle(tmp_path / "gate.edgb", double())
    body = BODY.replace("PRECISION", "auto")
    with running(tmp_path, body) as daemon:
        wait_for(lambda: daemon.status()["ready"], PATIENCE_S)
        make_bundle(tmp_path / "two.edgb", double(), extra=extra, artefacts=entries, release=2)
        daemon.write(body.replace("gate.edgb", "two.edgb"))
        assert check_config(tmp_path / "edged.yaml", with_files=True)[0] == []
        wait_for(lambda: [r["release"] for r in daemon.status()["releases"]] == [2], PATIENCE_S)
        wait_for(lambda: daemon.status()["releases"][0]["state"] == "ready", PATIENCE_S)
        precision, why = served(daemon)
        assert precision == "float32"
        assert why.startswith("not used: model-float32-sm87.engine, because")
        assert why in daemon.log.read_text()
