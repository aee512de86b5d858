"""Types of values."""

from __future__ import annotations

import pytest

from edged.errors import FieldError
from edged.pipelines.types import ValueType, bind_call, own_axis, parse_type, result_shape, type_of
from edged.tensors import TensorSpec


def test_types_are_read_and_shown():
    assert str(parse_type(" float32[ batch, 4 ] ", "p")) == "float32[batch,4]"
    assert parse_type("int64[]", "p").shape == ()
    assert type_of(TensorSpec("x", "uint8", (2, "n"))) == ValueType("uint8", (2, "n"))
    for text, wanted in {
        "float32": "expected a dtype and a shape",
        "float31[1]": '"float31" is no dtype',
        "float32[0]": '"0" is no axis',
        "float32[Batch]": "expected a dtype and a shape",
        "float32[1,1,1,1,1,1,1,1,1]": "has 9 axes; the limit is 8",
    }.items():
        with pytest.raises(FieldError) as caught:
            parse_type(text, "p")
        assert wanted in caught.value.reason


def test_axes_are_bound_by_name():
    wanted = [TensorSpec("a", "float32", ("batch", "n")), TensorSpec("b", "int64", ("n",))]
    given = {"a": ValueType("float32", ("rows", 7)), "b": ValueType("int64", (7,))}
    bound = bind_call("m", wanted, given)
    assert bound == {"batch": "rows", "n": 7}
    assert result_shape(("batch", 2, "n", "k", "*n"), bound, "s") == ("rows", 2, 7, "s_k", "s_n")
    assert len(own_axis("s" * 32, "axis")) == 32
    with pytest.raises(FieldError, match=r'axis "n" of m is 7 elsewhere'):
        bind_call("m", wanted, given | {"b": ValueType("int64", (8,))})
    with pytest.raises(FieldError, match=r'must be known to be 4: write it where "k" comes from'):
        bind_call("m", [TensorSpec("a", "int8", (4,))], {"a": ValueType("int8", ("k",))})
    assert str(ValueType("int8", (1,), "cut")) == 'int8[1] for each item of "cut"'
