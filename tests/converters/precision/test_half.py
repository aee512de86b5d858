import re

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from converters import graph
from converters.errors import UnsupportedModelError
from converters.gate.precision import has_float16
from converters.precision import half
from converters.precision.half import halve
from converters.session import open_session

RNG = np.random.default_rng(4)
ROWS = {"x": RNG.normal(size=(20, 6)).astype("f4")}


def build(nodes, weights, outputs=("y",)):
    """A model on float32[batch,6]; weights by name."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", None]) for n in outputs],
        [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in weights.items()],
    )
    for index, node in enumerate(made.node):
        node.name = f"{node.op_type}_{index}"
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def node(operator, *names, **attributes):
    *reads, gives = names
    return helper.make_node(operator, reads, [gives], **attributes)


A, B = RNG.normal(size=(6, 8)), RNG.normal(size=(8, 3))


def two_layers(between=(), **more):
    """x → MatMul → Relu → … → MatMul → Softmax."""
    last = between[-1].output[0] if between else "r"
    return build(
        [
            node("MatMul", "x", "A", "h"),
            node("Relu", "h", "r"),
            *between,
            node("MatMul", last, "B", "z"),
            node("Softmax", "z", "y"),
        ],
        {"A": A, "B": B, **more},
    )


def kinds(model):
    """Operator of each node, with the type of its first output."""
    typed = shape_inference.infer_shapes(model, strict_mode=True)
    values = (*typed.graph.value_info, *typed.graph.output)
    of = {v.name: v.type.tensor_type.elem_type for v in values}
    return [(n.op_type, of[n.output[0]] == TensorProto.FLOAT16) for n in typed.graph.node]


def answers(model, rows=ROWS):
    return open_session(graph.serialize(model))(rows)["y"]


def test_layers_go_to_float16_and_the_outside_stays():
    plain = two_layers()
    made = halve(plain, ROWS)
    assert kinds(made.model) == [
        ("Cast", True),
        ("MatMul", True),
        ("Relu", True),
        ("MatMul", True),
        ("Cast", False),
        ("Softmax", False),
    ]
    assert (made.half, made.nodes) == (3, 4)
    (island,) = made.islands
    assert island == half.Island("Softmax_3", "Softmax", "operator that loses in float16")
    assert made.model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    np.testing.assert_allclose(answers(made.model), answers(plain), atol=2e-3)
    assert not has_float16(plain)


def test_an_output_from_inside_is_float32_and_read_on():
    plain = two_layers()
    plain.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    made = halve(plain, ROWS).model
    got = open_session(graph.serialize(made))(ROWS)
    assert got["r"].dtype == got["y"].dtype == np.float32


def test_what_comes_before_the_first_layer_stays():
    """A pressure of 1013.25 is 1013.0 in float16, and normalising makes that a tenth."""
    plain = build(
        [
            node("Sub", "x", "mean", "c"),
            node("Div", "c", "std", "n"),
            node("MatMul", "n", "A", "y"),
        ],
        {"A": A, "mean": [1013.0] * 6, "std": [2.5] * 6},
    )
    rows = {"x": (RNG.normal(size=(20, 6)) * 2.5 + 1013).astype("f4")}
    made = halve(plain, rows)
    assert [kind for kind in kinds(made.model) if kind[1]] == [("Cast", True), ("MatMul", True)]
    assert made.islands == ()
    np.testing.assert_allclose(answers(made.rounded, rows), answers(plain, rows), atol=0.02)


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(1e5, "reaches .* float16 ends at 65504"), (1e-7, "float16 is coarse below 6.1e-05")],
)
def test_values_that_float16_does_not_hold_stay(factor, reason, monkeypatch):
    steps = [node("Mul", "r", "up", "u"), node("Div", "u", "up", "v")]
    plain = two_layers(steps, up=[factor])
    made = halve(plain, ROWS)
    found = {island.operator: island.reason for island in made.islands}
    assert set(found) == {"Mul", "Div", "Softmax"}
    assert re.search(reason, found["Mul"])
    np.testing.assert_allclose(answers(made.rounded), answers(plain), atol=5e-3)
    # The control: with no look at ranges they go to float16, and the emulation shows the loss.
    monkeypatch.setattr(half, "_measure", lambda *_: {})
    monkeypatch.setattr(half, "FLOAT16_MAX", 1e30)
    monkeypatch.setattr(half, "SMALLEST", 0.0)
    assert {island.operator for island in halve(plain, ROWS).islands} == {"Softmax"}


def test_the_emulation_rounds_as_float16_does():
    """A CPU leaves the casts out, so that a graph in float16 seems more exact than it is."""
    exact = build([node("MatMul", "x", "A", "y")], {"A": np.eye(6)})
    rounded = answers(halve(exact, ROWS).rounded)
    np.testing.assert_array_equal(rounded, ROWS["x"].astype(np.float16).astype("f4"))
    assert (rounded != ROWS["x"]).mean() > 0.9


def test_a_weight_of_both_kinds_and_inner_graphs():
    inner = helper.make_graph(
        [node("Exp", "r", "t")],
        "a",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [node("Exp", "A", "q"), node("Identity", "r", "e")],
        "b",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    plain = build(
        [
            node("MatMul", "x", "A", "h"),
            node("Relu", "h", "r"),
            helper.make_node("Constant", [], ["c"], value=yes),
            helper.make_node("If", ["c"], ["i"], then_branch=inner, else_branch=other),
            node("MatMul", "i", "B", "y"),
        ],
        {"A": A, "B": B},
    )
    made = halve(plain, ROWS)
    np.testing.assert_allclose(answers(made.model), answers(plain), rtol=0.02, atol=0.05)
    np.testing.assert_allclose(answers(made.rounded), answers(plain), rtol=0.02, atol=0.05)


def test_a_model_without_layers_gains_nothing():
    with pytest.raises(UnsupportedModelError, match="convert it with precision float32"):
        halve(build([node("Relu", "x", "y")], {}), ROWS)
    with pytest.raises(UnsupportedModelError, match="none that fits"):
        halve(build([node("MatMul", "x", "A", "y")], {"A": A * 1e6}), ROWS)
