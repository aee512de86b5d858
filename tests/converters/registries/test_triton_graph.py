"""dims, reshape and the batch axis: the graph has the client's view and gives the same numbers."""

import numpy as np
import onnx
import pytest

from converters.errors import ConversionError, UnsupportedModelError
from converters.registries.triton_graph import could_batch, fit, load_graph, metadata
from converters.registries.triton_model import read_model
from converters.session import open_session


def described(repository, config, rows=8):
    repository("m", f'backend: "onnxruntime" max_batch_size: {rows} {config}')
    return read_model(repository.root, "m")


def tensor(kind, name, dims, rest="", dtype="TYPE_FP32"):
    return f'{kind} {{ name: "{name}" data_type: {dtype} dims: [ {dims} ] {rest} }} '


PLAIN = tensor("input", "x", "4") + tensor("output", "y", "3")


def test_dims_have_no_batch_axis(repository, dense):
    graph = dense()
    fit(described(repository, PLAIN), graph, 8)
    assert graph.SerializeToString() == dense().SerializeToString()
    assert could_batch(graph)


@pytest.mark.parametrize(
    ("seen", "inner", "shape"),
    [("2, 2", "4", (2, 2)), ("4, 1", "4", (4, 1)), ("1, 2, 2", "4", (1, 2, 2))],
)
def test_reshape_is_built_in_at_both_ends(repository, dense, seen, inner, shape):
    rows = np.random.default_rng(1).normal(size=(5, 4)).astype("f4")
    want = open_session(dense().SerializeToString())({"x": rows})["y"]
    config = tensor("input", "x", seen, f"reshape {{ shape: [ {inner} ] }}")
    config += tensor("output", "y", "3, 1", "reshape { shape: [ 3 ] }")
    graph = dense()
    fit(described(repository, config), graph, 8)
    onnx.checker.check_model(graph, full_check=True)
    got = open_session(graph.SerializeToString())({"x": rows.reshape(5, *shape)})["y"]
    np.testing.assert_array_equal(got, want.reshape(5, 3, 1))
    assert metadata(graph)["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": [-1, *shape]}
    ]  # fmt: skip


def test_reshape_without_batching(repository, dense):
    config = tensor("input", "x", "2, 2", "reshape { shape: [ 4 ] }") + tensor("output", "y", "3")
    graph = dense(batch=None)
    fit(described(repository, config, rows=0), graph, 0)
    row = np.arange(4, dtype="f4").reshape(2, 2)
    want = open_session(dense(batch=None).SerializeToString())({"x": row.reshape(4)})["y"]
    got = open_session(graph.SerializeToString())({"x": row})["y"]
    np.testing.assert_array_equal(got, want)


def test_an_empty_reshape_takes_the_last_axis_away(repository):
    node = onnx.helper.make_node("Neg", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, 1, ["N"]) for name in "xy"]
    graph = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", values[:1], values[1:]),
        opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9,
    )  # fmt: skip
    config = tensor("input", "x", "1", "reshape { shape: [ ] }")
    config += tensor("output", "y", "1", "reshape { shape: [ ] }")
    fit(described(repository, config), graph, 8)
    got = open_session(graph.SerializeToString())({"x": np.ones((3, 1), "f4")})["y"]
    assert got.tolist() == [[-1.0]] * 3


@pytest.mark.parametrize(
    ("config", "rows", "words"),
    [
        (tensor("input", "x", "5") + tensor("output", "y", "3"), 8, r"means \[-1, 5\]"),
        (tensor("input", "x", "-1, 4") + tensor("output", "y", "3"), 8, r"means \[-1, -1, 4\]"),
        (PLAIN, 0, r"means \[4\] .*the model file has \[-1, 4\]"),
        (tensor("input", "z", "4"), 8, 'input "z" is not in the model file, which has x'),
        (tensor("output", "z", "3"), 8, 'output "z" is not in the model file'),
        (tensor("input", "x", "4", dtype="TYPE_INT64"), 8, "data_type is int64, .* float32"),
        (tensor("input", "x", "2, 3", "reshape { shape: [ 4 ] }"), 8, "cannot be reshaped"),
        (tensor("input", "x", "-1, -1", "reshape { shape: [ -1 ] }"), 8, "cannot be reshaped"),
        (tensor("input", "x", ""), 8, "dims is empty"),
    ],
)
def test_what_contradicts_the_file_is_refused_with_both(repository, dense, config, rows, words):
    with pytest.raises(UnsupportedModelError, match=words):
        fit(described(repository, config, rows), dense(), rows)


def test_a_frozen_batch_axis_is_not_batched(repository, dense):
    with pytest.raises(UnsupportedModelError, match=r"the model file has \[1, 4\]"):
        fit(described(repository, PLAIN), dense(batch=1), 8)
    assert not could_batch(dense(batch=1))


def test_an_input_that_is_not_described(repository, dense):
    graph = dense()
    graph.graph.input.append(onnx.helper.make_tensor_value_info("u", 1, ["N", 1]))
    with pytest.raises(UnsupportedModelError, match='"u" of the model file is not in the config'):
        fit(described(repository, PLAIN), graph, 8)


def test_outputs_come_in_the_order_of_the_configuration(repository, dense):
    graph = dense()
    graph.graph.node.append(onnx.helper.make_node("Neg", ["y"], ["z"]))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("z", 1, ["N", 3]))
    model = described(repository, tensor("input", "x", "4") + tensor("output", "z", "3"))
    fit(model, graph, 8)
    assert [value.name for value in graph.graph.output] == ["z", "y"]
    assert any("y are not in the configuration" in text for text in model.differences)


def test_files_that_are_no_onnx_or_name_other_files(tmp_path, dense):
    for content in (b"", b"text", bytes(range(256)) * 8):
        (tmp_path / "model.onnx").write_bytes(content)
        if content:
            with pytest.raises(ConversionError, match="not an ONNX file"):
                load_graph(tmp_path / "model.onnx")
    graph = dense()
    weight = graph.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ConversionError, match="leaves the folder"):
        load_graph(tmp_path / "model.onnx")
