"""ONNX files as other tools leave them."""

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.sources import onnx as source
from converters.sources.base import SourceJob
from tests.converters.sources.gate import check


@pytest.fixture
def export(build_linear, tmp_path):
    """``export(change) -> Exported`` of ``y = x @ W + b`` that was changed before it was saved."""

    def run(change):
        model = build_linear()
        change(model)
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        rows = np.random.default_rng(0).normal(size=(20, 3)).astype("f4")
        return source.export(SourceJob(framework="onnx", source=str(path)), {"x": rows})

    return run


def test_an_output_declared_without_axes_gets_those_it_has(export):
    """As paddle2onnx leaves its outputs: an empty shape, which says a single number."""

    def forget(model):
        del model.graph.output[0].type.tensor_type.shape.dim[:]

    exported = export(forget)
    assert [(entry.trap, entry.where) for entry in exported.remedies] == [("no-axes", "y")]
    assert not exported.model.graph.output[0].type.tensor_type.HasField("shape")
    assert check(exported)["y"].shape == (20, 2)


def test_what_is_declared_rightly_is_left_alone(export):
    exported = export(lambda _model: None)
    assert not exported.remedies
    assert exported.model.graph.output[0].type.tensor_type.HasField("shape")


@pytest.mark.parametrize("rows", [{}, {"x": np.zeros((4, 16), "f4")}])
def test_rows_that_it_does_not_take(build_linear, tmp_path, rows):
    """Three columns are left free: made rows have sixteen, and then it is said what to bring."""
    model = build_linear()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "columns"
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match=r"does not run the model on x") as caught:
        source.export(SourceJob(framework="onnx", source=str(path), generate=4), rows)
    assert ("bring rows that it takes: --samples" in caught.value.message) == (not rows)
