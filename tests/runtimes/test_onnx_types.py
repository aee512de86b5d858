"""Types of weights, as the real package writes them; and files that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.runtimes.onnx_types import FLOAT16, weight_types
from tests.models import all_models, double

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("model", [*all_models(), double("float16")], ids=lambda m: m.name)
def test_as_the_package_reads_it(model):
    graph = onnx.load_from_string(model.data).graph
    assert weight_types(model.data) == {weight.data_type for weight in graph.initializer}


def test_halves():
    assert weight_types(double("float16").data) == {FLOAT16} == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("data", [b"", b"hello", bytes(1000), b"\x3a\xff\xff\xff\xff\x7f", b"\x80"])
def test_what_is_no_model_has_none(data: bytes):
    assert weight_types(data) == set()


@given(st.integers(0, len(double().data)), st.binary(max_size=20))
def test_broken_ones_are_read_to_their_end(cut: int, more: bytes):
    data = double().data
    assert weight_types(data[:cut] + more) is not None
    assert weight_types(data[:cut] + more + data[cut:]) is not None
