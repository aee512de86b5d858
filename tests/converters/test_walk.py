"""Nodes and graphs at every depth: a check that goes through the top alone sees nothing of a branch."""

from onnx import TensorProto, helper

from converters.walk import graphs, inner_graphs, nodes


def graph_of(name, *inside):
    return helper.make_graph(list(inside), name, [], [])


def nested():
    """If → then: Loop → body: Erfc; else: Neg."""
    body = graph_of("body", helper.make_node("Erfc", ["a"], ["b"]))
    then = graph_of("then", helper.make_node("Loop", ["n"], ["c"], body=body))
    other = graph_of("other", helper.make_node("Neg", ["a"], ["d"]))
    branch = helper.make_node("If", ["on"], ["e"], then_branch=then, else_branch=other)
    return graph_of("top", helper.make_node("Relu", ["x"], ["a"]), branch)


def test_every_node_of_every_depth_once():
    assert [node.op_type for node in nodes(nested())] == ["Relu", "If", "Neg", "Loop", "Erfc"]


def test_every_graph_and_its_own():
    top = nested()
    assert [graph.name for graph in graphs(top)] == ["top", "other", "then", "body"]
    assert [graph.name for graph in inner_graphs(top.node[1])] == ["other", "then"]
    assert not list(inner_graphs(top.node[0]))


def test_graphs_in_a_list_of_them_count_too():
    node = helper.make_node("Custom", [], [])
    node.attribute.add(name="parts", type=10).graphs.extend([graph_of("one"), graph_of("two")])
    assert [graph.name for graph in inner_graphs(node)] == ["one", "two"]


def test_what_is_found_is_the_graphs_own_and_may_be_changed():
    top = nested()
    for node in nodes(top):
        node.name = node.op_type.lower()
    assert top.node[1].attribute[1].g.node[0].attribute[0].g.node[0].name == "erfc"
    assert helper.make_tensor_value_info("x", TensorProto.FLOAT, []).name == "x"
