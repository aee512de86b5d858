"""Times are looked at for their form alone: how fast a shared machine is proves nothing."""

import platform
from pathlib import Path

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.report.measure import describe_machine, measure_artefact, measure_latency
from edged.manifest import ArtefactEntry, Manifest, TensorEntry

ROWS = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")


def measured(data, expected, **options):
    entry = ArtefactEntry(runtime="onnx", file="m.onnx")
    manifest = Manifest(
        format="edged-bundle-v1", name="m", release=1, version="1", members=(),
        inputs=(TensorEntry("x", "float32", ("batch", 3)),),
        outputs=(TensorEntry("y", "float32", ("batch", 2)),),
        artefacts=(entry,),
    )  # fmt: skip
    return measure_artefact(entry, data, {"x": ROWS}, expected, manifest, **options)


def test_a_file_is_counted_run_and_compared(build_linear):
    data = build_linear().SerializeToString()
    weight = np.array([[1, 2], [3, 4], [5, 6]], "f4")
    expected = {"y": ROWS @ weight + np.array([0.5, -0.5], "f4")}
    expected["y"][3, 1] += 0.25
    found = measured(data, expected, budget_s=0)
    assert (found.size_bytes, found.nodes) == (len(data), {"MatMul": 1, "Add": 1})
    assert found.weights_bytes == weight.nbytes + 2 * 4
    assert found.max_abs == pytest.approx(0.25, abs=1e-5)
    assert found.latency == ()


def test_an_answer_that_cannot_be_compared_gives_no_number(build_linear):
    found = measured(build_linear().SerializeToString(), {"y": np.ones((5, 9), "f4")}, budget_s=0)
    assert (found.max_abs, found.label_agreement) == (None, None)


def test_a_file_that_does_not_load_is_told():
    with pytest.raises(ConversionError):
        measured(b"\x08\x07", {})


def test_latency_stops_before_it_overdraws():
    calls = []

    def slow(rows):
        calls.append(len(rows["x"]))
        return {}

    points = measure_latency(slow, {"x": np.ones((3, 2), "f4")}, is_row_wise=True, budget_s=0.0)
    assert [point.rows for point in points] == [1]
    assert calls == [1, 1]
    assert len(measure_latency(slow, {"x": np.ones((3, 2))}, is_row_wise=False)) == 1
    assert calls[-1] == 3


def test_the_machine_is_told_without_its_name_or_its_user():
    said = describe_machine()
    assert set(said) == {"processor", "cores", "system", "python", "onnxruntime"}
    assert int(said["cores"]) >= 1
    words = " ".join(said.values()).split()
    assert platform.node() not in words
    assert Path.home().name not in words
