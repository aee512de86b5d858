import pytest
from onnx import TensorProto, helper

from converters.errors import UnsupportedModelError
from converters.gate.names import refuse_leftovers, refuse_names


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])


def graph_of(*nodes, inputs=("x",), outputs=("y",)):
    return helper.make_graph(
        list(nodes), "g", [value(n) for n in inputs], [value(n) for n in outputs]
    )


def node(inputs, outputs, op="Abs", **attributes):
    return helper.make_node(op, inputs, outputs, name=f"make_{outputs[0]}", **attributes)


def test_an_ordinary_graph_passes():
    refuse_names(graph_of(node(["x"], ["h"]), node(["h"], ["y"])))
    refuse_names(graph_of(node(["x", "", ""], ["y"], "Clip")))  # an input left out has no name


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (
            graph_of(node(["x"], ["e"]), node(["e"], ["e"]), outputs=("e",)),
            '"e" is given twice, by Abs "make_e" and by Abs "make_e"',
        ),
        (graph_of(node(["x"], ["x"]), outputs=("x",)), '"x" is given twice, by an input and by'),
        (graph_of(node(["x"], ["h"])), 'output "y" is given by nothing'),
        (graph_of(node(["gone"], ["y"])), 'reads "gone", which nothing before it gives'),
        (graph_of(node(["h"], ["y"]), node(["x"], ["h"])), 'reads "h", which nothing before'),
        (graph_of(node(["x"], ["y"]), outputs=("y", "y")), 'outputs: "y" occurs twice'),
    ],
)
def test_a_graph_that_no_runtime_loads_is_refused_by_name(graph, words):
    with pytest.raises(UnsupportedModelError) as error:
        refuse_names(graph)
    assert words in str(error.value)


def test_a_branch_sees_what_is_outside_and_may_not_give_it_again():
    def branch(name, out):
        inner = helper.make_graph([node([name], [out])], out, [], [value(out)])
        return graph_of(
            node(["x"], ["h"]), node(["x"], ["y"], "If", then_branch=inner, else_branch=inner)
        )

    refuse_names(branch("h", "z"))
    with pytest.raises(UnsupportedModelError, match='"h" is given twice'):
        refuse_names(branch("x", "h"))
    with pytest.raises(UnsupportedModelError, match='reads "w"'):
        refuse_names(branch("w", "z"))


def test_inputs_that_the_framework_does_not_have_are_refused():
    model = helper.make_model(graph_of(node(["x"], ["y"]), inputs=("x", "mean", "variance")))
    with pytest.raises(UnsupportedModelError, match=r"3 inputs \(x, mean, variance\).*Normaliz"):
        refuse_leftovers(model, ["x"], ["y"])
    with pytest.raises(UnsupportedModelError, match=r"1 outputs \(y\), the framework's 2 \(y, z\)"):
        refuse_leftovers(model, ["x", "mean", "variance"], ["y", "z"])
    refuse_leftovers(model, ["x", "mean", "variance"], ["y"])
