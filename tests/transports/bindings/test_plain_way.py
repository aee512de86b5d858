"""Where plain messages are decoded to: memory for so many rows, where the shapes are known."""

from edged.tensors import TensorSpec
from edged.transports.bindings.plain_way import memory_of


def test_memory_for_the_answers():
    found = memory_of(
        (TensorSpec("y", "float32", ("batch", 3)), TensorSpec("n", "int64", ("batch",))), 4
    )
    assert {name: (one.shape, one.dtype.name) for name, one in found.items()} == {
        "y": ((4, 3), "float32"),
        "n": ((4,), "int64"),
    }


def test_none_where_a_shape_is_known_only_after_a_run():
    assert memory_of((TensorSpec("y", "float32", ("batch", "n")),), 4) is None
    assert memory_of((TensorSpec("y", "float32", (3,)),), 4) is None
    assert memory_of((TensorSpec("y", "string", ("batch",)),), 4) is None
