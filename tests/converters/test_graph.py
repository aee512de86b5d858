import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import graph
from converters.errors import ConversionError, UnsupportedModelError
from converters.session import open_session

ROWS = np.arange(6, dtype="f4").reshape(2, 3)


def expected():
    return ROWS @ np.array([[1, 2], [3, 4], [5, 6]], "f4") + np.array([0.5, -0.5], "f4")


def test_a_clean_graph_computes_the_same_and_tells_nothing_of_its_maker(build_linear):
    model = build_linear(ir=13)
    model.graph.node[0].name = "/home/someone/layer"
    model.graph.node[0].metadata_props.add(key="trace", value="/home/someone/net.py")
    model.graph.node.append(helper.make_node("Relu", ["h"], ["unused"]))
    model.opset_import.append(helper.make_opsetid("ai.onnx", 18))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    clean = graph.clean(model, 18)
    data = graph.serialize(clean)
    assert b"someone" not in data
    assert [node.op_type for node in clean.graph.node] == ["MatMul", "Add"]
    assert [(entry.domain, entry.version) for entry in clean.opset_import] == [("", 18)]
    assert clean.ir_version == 10
    np.testing.assert_allclose(open_session(data)({"x": ROWS})["y"], expected())


def test_another_opset_than_asked_is_refused(build_linear):
    with pytest.raises(
        ConversionError, match="opset 17 was asked for, the exporter wrote opset 18"
    ):
        graph.clean(build_linear(), 17)
    with pytest.raises(UnsupportedModelError, match="opset 24 is above 23"):
        graph.clean(build_linear(opset=24), None)


@pytest.mark.parametrize(
    ("op", "domain", "words"),
    [("Erfc", "", r'Erfc \(at "odd"\)'), ("Foo", "my.ops", r'my\.ops:Foo \(at "odd"\)')],
)
def test_operators_that_are_not_onnx_are_named(op, domain, words, build_linear):
    model = build_linear()
    model.graph.node[0].CopyFrom(helper.make_node(op, ["x"], ["h"], name="odd", domain=domain))
    model.opset_import.append(helper.make_opsetid("my.ops", 1))
    with pytest.raises(UnsupportedModelError, match=words):
        graph.clean(model, None)


def test_dropout_left_on_is_refused(build_linear):
    model = build_linear()
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, "f4"), "ratio"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "train"))
    model.graph.node[1].input[0] = "d"
    model.graph.node.insert(1, helper.make_node("Dropout", ["h", "ratio", "train"], ["d"]))
    with pytest.raises(UnsupportedModelError, match=r"eval\(\)"):
        graph.clean(model, None)


def test_what_is_no_tensor_or_of_no_type_that_clients_send_is_refused(build_linear):
    model = build_linear()
    model.graph.output[0].type.CopyFrom(
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    )
    with pytest.raises(UnsupportedModelError, match='output "y" is a sequence'):
        graph.clean(model, None)
    model = build_linear()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.COMPLEX64
    with pytest.raises(UnsupportedModelError, match=r"COMPLEX64.*bfloat16, string"):
        graph.clean(model, None)


@pytest.mark.parametrize(
    ("code", "dtype"),
    [
        (TensorProto.STRING, "string"),
        (TensorProto.BFLOAT16, "bfloat16"),
        (TensorProto.FLOAT16, "float16"),
    ],
)
def test_strings_and_halves_have_their_names(code, dtype):
    assert graph.dtype_of(helper.make_tensor_value_info("x", code, ["n"])) == dtype


def test_weights_listed_as_inputs_stay_weights(build_linear):
    model = build_linear()
    model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [3, 2]))
    assert [value.name for value in graph.clean(model, None).graph.input] == ["x"]


def test_no_onnx_file():
    with pytest.raises(ConversionError, match="not an ONNX file"):
        graph.parse(b"hello")
    with pytest.raises(ConversionError, match="not an ONNX file"):
        graph.parse(onnx.ModelProto().SerializeToString())


def _calls(count, nodes_of):
    """A model with functions F0, F1, …; ``nodes_of(i)`` is the body of each."""
    functions = [
        helper.make_function(
            "d", f"F{i}", ["a"], ["b"], nodes_of(i),
            [helper.make_opsetid("d", 1), helper.make_opsetid("", 18)],
        )
        for i in range(count)
    ]  # fmt: skip
    made = helper.make_graph(
        [helper.make_node(f"F{count - 1}", ["x"], ["y"], domain="d")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    opsets = [helper.make_opsetid("d", 1), helper.make_opsetid("", 18)]
    return helper.make_model(made, functions=functions, opset_imports=opsets, ir_version=9)


def test_functions_that_stand_for_too_many_nodes():
    def twice(i):
        if i == 0:
            return [helper.make_node("Abs", ["a"], ["b"])]
        first = helper.make_node(f"F{i - 1}", ["a"], ["t"], domain="d")
        return [first, helper.make_node(f"F{i - 1}", ["t"], ["b"], domain="d")]

    with pytest.raises(UnsupportedModelError, match="stand for over 200000 nodes"):
        graph.inline(_calls(40, twice))
    assert len(graph.inline(_calls(4, twice)).graph.node) == 8
    ring = _calls(2, lambda i: [helper.make_node(f"F{1 - i}", ["a"], ["b"], domain="d")])
    with pytest.raises(UnsupportedModelError, match="calls itself"):
        graph.inline(ring)
    with pytest.raises(UnsupportedModelError, match="over 100 deep"):
        graph.inline(_calls(1500, twice))
