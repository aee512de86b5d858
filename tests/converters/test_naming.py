import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import graph, naming
from converters.errors import ConversionError
from converters.session import open_session

ROWS = np.arange(6, dtype="f4").reshape(2, 3)


def expected():
    return ROWS @ np.array([[1, 2], [3, 4], [5, 6]], "f4") + np.array([0.5, -0.5], "f4")


def test_names_may_clash_with_inner_ones(build_linear):
    model = graph.clean(build_linear(), None)
    naming.rename(model, ["h"], ["W"])
    np.testing.assert_allclose(open_session(graph.serialize(model))({"h": ROWS})["W"], expected())


def test_a_name_used_inside_a_branch_is_renamed_too():
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["z"])],
        "b",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z2"])],
        "c",
        [],
        [helper.make_tensor_value_info("z2", TensorProto.FLOAT, None)],
    )
    g = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=other)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(True), "c")],
    )
    model = graph.clean(helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)]), None)
    naming.rename(model, ["signal"], ["z"])
    out = open_session(graph.serialize(model))({"signal": np.ones(3, "f4")})
    np.testing.assert_array_equal(out["z"], [-1, -1, -1])


def test_an_input_passed_through_gets_a_node_of_its_own(build_linear):
    model = build_linear()
    model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]))
    naming.rename(model, ["x"], ["y", "same"])
    out = open_session(graph.serialize(graph.clean(model, None)))({"x": ROWS})
    np.testing.assert_array_equal(out["same"], ROWS)


@pytest.mark.parametrize(
    ("inputs", "outputs"), [(["x"], ["x"]), (["x", "y"], ["z"]), (["a b"], ["y"]), (["x"], [])]
)
def test_names_that_cannot_be_are_refused(inputs, outputs, build_linear):
    with pytest.raises(ConversionError, match="names"):
        naming.rename(build_linear(), inputs, outputs)


def counted(start, build_linear):
    """The linear model under names as an exporter counts them in its process."""
    model = build_linear()
    table = {"h": f"val_{start}", "W": f"const__{start + 1}", "b": "dense.bias"}
    for node in model.graph.node:
        node.input[:] = [table.get(name, name) for name in node.input]
        node.output[:] = [table.get(name, name) for name in node.output]
        node.name = f"node_{start}_{node.op_type}"
    for tensor in model.graph.initializer:
        tensor.name = table[tensor.name]
    model = graph.clean(model, None)
    naming.rename(model, ["x"], ["y"])
    naming.name_inner_values(model)
    return model


def test_two_exports_of_one_model_give_the_same_bytes(build_linear):
    one, other = counted(12, build_linear), counted(398, build_linear)
    assert graph.serialize(one) == graph.serialize(other)
    assert [node.output[0] for node in one.graph.node] == ["MatMul_0", "y"]
    assert [tensor.name for tensor in one.graph.initializer] == ["weight_0", "dense.bias"]
    np.testing.assert_allclose(open_session(graph.serialize(one))({"x": ROWS})["y"], expected())


def test_inner_names_give_way_to_the_users_and_to_weights(build_linear):
    model = build_linear()
    model.graph.initializer[1].name = "MatMul_0"
    model.graph.node[1].input[1] = "MatMul_0"
    model = graph.clean(model, None)
    naming.rename(model, ["x"], ["Add_0"])
    naming.name_inner_values(model)
    assert [node.output[0] for node in model.graph.node] == ["MatMul_0~1", "Add_0"]
    out = open_session(graph.serialize(model))({"x": ROWS})
    np.testing.assert_allclose(out["Add_0"], expected())


def test_values_of_branches_and_loops_keep_apart():
    def branch(op):
        return helper.make_graph(
            [helper.make_node(op, ["h"], ["t_7"]), helper.make_node("Abs", ["t_7"], ["r_8"])],
            op, [], [helper.make_tensor_value_info("r_8", TensorProto.FLOAT, None)],
        )  # fmt: skip

    g = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["h"]),
            helper.make_node(
                "If", ["c"], ["z"], then_branch=branch("Neg"), else_branch=branch("Exp")
            ),
            helper.make_node("Add", ["z", "h"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(True), "c")],
    )
    model = graph.clean(helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)]), None)
    naming.rename(model, ["x"], ["y"])
    naming.name_inner_values(model)
    out = open_session(graph.serialize(model))({"x": np.ones(3, "f4")})
    np.testing.assert_array_equal(out["y"], [0, 0, 0])
