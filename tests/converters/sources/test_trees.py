"""Graphs of trees, mended: each function alone, on a graph as the boosters' converters leave it."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from converters.errors import UnsupportedModelError
from converters.session import open_session
from converters.sources.trees import (
    append_operator,
    cut_zipmap,
    label_last,
    set_post_transform,
    to_opset,
    tree_node,
)

ROWS = np.array([[-1.0], [2.0]], "f4")


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes, outputs, imports=(("ai.onnx.ml", 1),)):
    graph = helper.make_graph(nodes, "g", [value("x", ["n", 1])], outputs)
    opsets = [helper.make_opsetid(domain, version) for domain, version in imports]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def stump(low=1.0, high=3.0, output="y"):
    """One split at 0."""
    return helper.make_node(
        "TreeEnsembleRegressor", ["x"], [output], domain="ai.onnx.ml", post_transform="NONE",
        nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0],
        nodes_values=[0.0] * 3, nodes_modes=["BRANCH_LT", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0],
        target_weights=[low, high], n_targets=1,
    )  # fmt: skip


def answers(model):
    return open_session(model.SerializeToString())({"x": ROWS})


def test_a_graph_of_trees_alone_gets_an_opset_that_devices_read():
    model = to_opset(model_of([stump()], [value("y", ["n", 1])]), None)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    assert versions == {"": 18, "ai.onnx.ml": 1}
    np.testing.assert_array_equal(answers(model)["y"], [[1.0], [3.0]])


def test_a_domain_imported_twice_is_imported_once():
    model = model_of(
        [stump()], [value("y", ["n", 1])], (("", 9), ("ai.onnx", 15), ("ai.onnx.ml", 1))
    )
    versions = [(e.domain, e.version) for e in to_opset(model, 17).opset_import]
    assert sorted(versions) == [("", 17), ("ai.onnx.ml", 1)]


def test_operators_that_devices_do_not_read_are_refused():
    model = model_of([stump()], [value("y", ["n", 1])], (("", 18), ("ai.onnx.ml", 5)))
    with pytest.raises(UnsupportedModelError, match=r"ai\.onnx\.ml 5; devices read up to 3"):
        to_opset(model, None)


def test_an_operator_behind_the_first_output_keeps_its_name():
    model = to_opset(model_of([stump(-2.0, 4.0)], [value("y", ["n", 1])]), None)
    append_operator(model, "Exp")
    np.testing.assert_allclose(answers(model)["y"], np.exp([[-2.0], [4.0]]), rtol=1e-6)


def test_what_the_sums_go_through_is_one_attribute_of_the_trees():
    model = model_of([stump()], [value("y", ["n", 1])])
    before = tree_node(model).SerializeToString()
    set_post_transform(model, "SOFTMAX")
    (found,) = [a for a in tree_node(model).attribute if a.name == "post_transform"]
    assert found.s == b"SOFTMAX"
    set_post_transform(model, "NONE")
    assert tree_node(model).SerializeToString() == before


def test_dictionaries_of_probabilities_become_a_tensor():
    zipmap = helper.make_node(
        "ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0]
    )
    mapped = value("probabilities", None)
    model = to_opset(model_of([stump(output="p"), zipmap], [mapped]), None)
    cut_zipmap(model, 1)
    assert [node.op_type for node in model.graph.node] == ["TreeEnsembleRegressor"]
    np.testing.assert_array_equal(answers(model)["p"], [[1.0], [3.0]])


@pytest.mark.parametrize("has_label", [True, False])
def test_the_label_comes_last_as_long_as_the_rows_or_not_at_all(has_label):
    cast = helper.make_node("Cast", ["flat"], ["label"], to=TensorProto.INT64)
    flat = helper.make_node("ArgMax", ["y"], ["flat"], axis=1, keepdims=0)
    outputs = [value("label", [1], TensorProto.INT64), value("y", ["n", 1])]
    model = to_opset(model_of([stump(), flat, cast], outputs, (("", 13), ("ai.onnx.ml", 1))), None)
    label_last(model, has_label)
    assert [output.name for output in model.graph.output] == ["y", "label"][: 1 + has_label]
    got = answers(model)
    if has_label:
        assert model.graph.output[1].type.tensor_type.shape.dim[0].dim_param == "batch"
        assert got["label"].shape == (2,)
