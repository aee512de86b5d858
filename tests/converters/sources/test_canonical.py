"""The same graph under other counted names gives the same bytes and the same numbers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import graph
from converters.session import open_session
from converters.sources.canonical import settle_form


def build(count, kept, *, reverse=False):
    """``y = If(flag, x + 1, x + w) + 1``, as a process that has counted to ``count`` names it."""
    one, hidden = f"{kept}__{count}", f"layer/sum__{count + 3}"
    weights = [
        numpy_helper.from_array(np.array([1], "f4"), one),
        numpy_helper.from_array(np.arange(100, dtype="f4"), "layer/weight"),
        numpy_helper.from_array(np.array(False), f"flag__{count + 1}"),
    ]

    def branch(weight, name):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 100])
        return helper.make_graph([helper.make_node("Add", ["x", weight], [name])], "b", [], [value])

    nodes = [
        helper.make_node(
            "If",
            [f"flag__{count + 1}"],
            [hidden],
            then_branch=branch(one, f"then__{count}"),
            else_branch=branch("layer/weight", f"else__{count}"),
        ),
        helper.make_node("Add", [hidden, one], ["y"]),
    ]
    inside, outside = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 100]) for name in "xy"
    )
    weights = weights[::-1] if reverse else weights
    made = helper.make_graph(nodes, "g", [inside], [outside], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(("count", "kept", "reverse"), [(9, "axes", True), (77, "starts", False)])
def test_counted_names_do_not_reach_the_bytes(count, kept, reverse):
    first, other = build(5, "axes"), build(count, kept, reverse=reverse)
    assert graph.serialize(first) != graph.serialize(other)
    settle_form(first)
    settle_form(other)
    assert graph.serialize(first) == graph.serialize(other)
    assert "layer/weight" in [tensor.name for tensor in first.graph.initializer]


def parallel(first, second, *, joined):
    """``y = -x * 2 + |x| * 2`` with its branches in one order or the other, and one 2 or two."""
    two = np.array([2], "f4")
    weights = [numpy_helper.from_array(two, "two"), numpy_helper.from_array(two, "zwei")]
    other = "two" if joined else "zwei"
    branches = {
        "neg": [
            helper.make_node("Neg", ["x"], ["n"]),
            helper.make_node("Mul", ["n", "two"], ["a"]),
        ],
        "abs": [
            helper.make_node("Abs", ["x"], ["p"]),
            helper.make_node("Mul", ["p", other], ["b"]),
        ],
    }
    nodes = [*branches[first], *branches[second], helper.make_node("Add", ["a", "b"], ["y"])]
    inside, outside = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "xy")
    made = helper.make_graph(nodes, "g", [inside], [outside], weights[: 1 if joined else 2])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_order_and_doubled_constants_do_not_reach_the_bytes():
    models = [
        parallel("neg", "abs", joined=True),
        parallel("abs", "neg", joined=True),
        parallel("abs", "neg", joined=False),
    ]
    for model in models:
        settle_form(model)
        onnx.checker.check_model(model)
    assert len({graph.serialize(model) for model in models}) == 1
    rows = {"x": np.array([-1, 3], "f4")}
    assert open_session(graph.serialize(models[2]))(rows)["y"].tolist() == [4, 0]


def test_nothing_else_changes():
    model = build(5, "axes")
    rows = {"x": np.ones((2, 100), "f4")}
    before = open_session(graph.serialize(model))(rows)["y"]
    settle_form(model)
    onnx.checker.check_model(model)
    assert np.array_equal(open_session(graph.serialize(model))(rows)["y"], before)
