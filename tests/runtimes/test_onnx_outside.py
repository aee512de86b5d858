"""Weights in other files are found wherever a tensor can be."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from edged.runtimes.onnx_outside import keeps_weights_outside
from tests.models import all_models, double, external_tensor, with_external_data

OUTSIDE = external_tensor("k", TensorProto.FLOAT, [4], location="w.data")


@pytest.mark.parametrize("model", all_models(), ids=lambda model: model.name)
def test_none_of_the_tiny_models(model):
    assert not keeps_weights_outside(model.data)


def in_a_branch(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [], [OUTSIDE])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=branch))


def in_an_attribute(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["z"], value=OUTSIDE))


def in_a_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["z"], value=OUTSIDE)
    model.functions.append(helper.make_function("d", "F", [], ["z"], [node], []))


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=OUTSIDE, dims=[9]))


@pytest.mark.parametrize("where", [in_a_branch, in_an_attribute, in_a_function, sparse])
def test_wherever_it_is(where):
    model = onnx.load_model_from_string(double().data)
    where(model)
    assert keeps_weights_outside(model.SerializeToString())
    # Two files in a row are one to protobuf: the second is merged into the first.
    assert keeps_weights_outside(double().data + model.SerializeToString())


def test_an_initializer():
    assert keeps_weights_outside(with_external_data()[0].data)


@pytest.mark.parametrize(
    "data",
    [b"hello", double().data[:50], b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 50, b"\x3b", b"\x3a"],
)
def test_what_is_no_onnx_file(data: bytes):
    with pytest.raises(ValueError, match="no ONNX file"):
        keeps_weights_outside(data)


def test_a_graph_in_a_graph_without_end():
    data = b""
    for _ in range(3000):
        for field in (6, 5, 1):  # an attribute's graph, a node's attribute, a graph's node
            size, head = len(data), b""
            while size > 127:
                head += bytes([size & 127 | 128])
                size >>= 7
            data = bytes([field << 3 | 2]) + head + bytes([size]) + data
    size = len(data)
    head = b"".join(bytes([size >> shift & 127 | 128]) for shift in (0, 7)) + bytes([size >> 14])
    with pytest.raises(ValueError, match="no ONNX file"):
        keeps_weights_outside(b"\x3a" + head + data)
