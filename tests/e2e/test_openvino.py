"""A daemon that is told to use OpenVINO: what it answers, and what it says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.commands.rendering import render_status
from edged.manifest import ArtefactEntry
from tests.bundles import ONNX, make_bundle
from tests.e2e.process import running
from tests.models import classifier, double, with_function
from tests.runtimes.test_openvino import IR, WEIGHTS

pytestmark = pytest.mark.frameworks

BODY = """trust: {require_signatures: false}
models: {gate: {bundle: gate.edgb, runtime: [openvino, onnxruntime], isolation: ISOLATION}}
"""


@pytest.mark.parametrize("isolation", ["none", "model"])
def test_answers_over_the_socket(tmp_path: Path, isolation: str):
    model = classifier()
    make_bundle(tmp_path / "gate.edgb", model)
    body = BODY.replace("ISOLATION", isolation)
    with running(tmp_path, body) as daemon, daemon.client() as client:
        for rows in (1, 2, 3, 32):
            inputs, expected = model.golden(rows)
            for _ in range(3):  # the second and later ones go the shorter way
                result = client.infer("gate", inputs)
                for name, array in expected.items():
                    np.testing.assert_allclose(result[name], array, rtol=1e-4, atol=1e-5)
        document = daemon.status()
    release = document["releases"][0]
    assert (release["runtime"], release["computes_in"]) == ("openvino", "float32")
    assert "gate release 1: openvino computes floats in float32" in render_status(document)


def test_what_it_does_not_take_goes_to_the_next_runtime(tmp_path: Path):
    model = with_function()
    make_bundle(tmp_path / "gate.edgb", model)
    with running(tmp_path, BODY.replace("ISOLATION", "none")) as daemon, daemon.client() as client:
        inputs, expected = model.golden(2)
        np.testing.assert_allclose(client.infer("gate", inputs)["y"], expected["y"], rtol=1e-4)
        release = daemon.status()["releases"][0]
    assert (release["runtime"], release["computes_in"]) == ("onnxruntime", "")


def test_its_own_form_is_served_where_the_bundle_has_one(tmp_path: Path):
    # The ONNX file beside it would be refused: it has a factor that the samples do not have.
    model = double(factor=3)
    inputs, expected = double().golden(4)
    ir = ArtefactEntry("openvino", "gate.xml")
    make_bundle(
        tmp_path / "gate.edgb",
        _Promising(model, double()),
        artefacts=(ONNX, ir),
        extra={"gate.xml": ("openvino", IR), "gate.bin": ("openvino", WEIGHTS)},
    )
    with running(tmp_path, BODY.replace("ISOLATION", "none")) as daemon, daemon.client() as client:
        np.testing.assert_allclose(client.infer("gate", inputs)["y"], expected["y"])
        release = daemon.status()["releases"][0]
    assert release["runtime"] == "openvino"


class _Promising:
    """One model's file under another's promise."""

    def __init__(self, model, promise) -> None:
        self.data, self.inputs, self.outputs = model.data, promise.inputs, promise.outputs
        self.golden = promise.golden
