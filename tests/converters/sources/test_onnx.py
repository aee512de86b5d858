"""ONNX files as other tools leave them."""

import numpy as np
import pytest

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
