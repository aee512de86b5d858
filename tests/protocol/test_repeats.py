"""Frames that repeat: what the short way makes and reads is what the long way does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst

from edged.messages import InferRequest, InferResponse
from edged.protocol import native
from edged.protocol.frames import Frame, FrameReader, Kind, Limits
from edged.protocol.repeats import Repeats
from edged.tensors import DTYPES
from tests.fakes.wire import joined

LIMITS = Limits()
X = np.arange(6, dtype=np.float32).reshape(2, 3)
SEVEN = np.arange(7, dtype=np.uint8)


def one(data: bytes) -> Frame:
    (frame,) = FrameReader(LIMITS).feed(data)
    return frame


def request(number: int, tensors: dict[str, Any]) -> bytes:
    return joined(native.encode_infer(number, InferRequest("m", tensors)))


def taught(tensors: dict[str, Any]) -> Repeats:
    repeats = Repeats()
    repeats.learn(tensors, native.encode_infer(1, InferRequest("m", tensors)))
    return repeats


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": X},
        {"x": SEVEN},
        {"x": X, "n": SEVEN, "z": np.float64(3)},
        {"x": np.empty((0, 4), np.int64)},
        {"x": X.T},
    ],
    ids=["one", "padded", "three", "empty", "transposed"],
)
def test_the_same_bytes(tensors: dict[str, Any]) -> None:
    buffers = taught(tensors).encode(Kind.INFER, 77, tensors)
    assert buffers is not None
    assert joined(buffers) == request(77, tensors)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_tensors(data: st.DataObject) -> None:
    dtype = st.sampled_from([entry.numpy for entry in DTYPES.values()])
    array = nst.arrays(dtype, nst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    tensors = data.draw(st.dictionaries(st.text(min_size=1, max_size=8), array, max_size=3))
    repeats = taught(tensors)
    frame = one(request(5, tensors))
    assert joined(repeats.encode(Kind.INFER, 5, tensors) or []) == request(5, tensors)
    known, _ = native.decode_infer(frame, LIMITS)
    repeats.learn_layout(frame, dict(known.inputs))
    again = repeats.decode(one(request(6, tensors)))
    if again is not None:
        assert list(again) == list(tensors)
        for name, array_ in tensors.items():
            assert again[name].dtype == array_.dtype
            assert np.array_equal(again[name], array_, equal_nan=array_.dtype.kind == "f")


def test_results_too() -> None:
    repeats = Repeats()
    outputs = {"y": X}
    long_way = native.encode_response(1, InferResponse("", 0, 0, outputs))
    repeats.learn(outputs, long_way)
    short = repeats.encode(Kind.RESULT, 1, {"y": X * 2})
    assert short is not None
    answer = native.decode_response(one(joined(short)), "m", LIMITS)
    assert np.array_equal(answer.outputs["y"], X * 2)


def test_what_was_not_learnt_takes_the_long_way() -> None:
    repeats = taught({"x": X})
    for other in ({"y": X}, {"x": X.astype(np.float64)}, {"x": X[:1]}, {"x": X, "n": SEVEN}):
        assert repeats.encode(Kind.INFER, 1, other) is None
    assert repeats.decode(one(request(1, {"x": X}))) is None


def test_another_body_under_a_known_head() -> None:
    """A head says how long the body is; one that lies goes the long way, and is refused there."""
    repeats = Repeats()
    frame = one(request(1, {"x": X}))
    repeats.learn_layout(frame, {"x": X})
    assert repeats.decode(frame) is not None
    assert repeats.decode(frame._replace(data=frame.data[:-8])) is None


def test_bools_are_looked_at_each_time() -> None:
    repeats = Repeats()
    tensors = {"x": np.array([True, False])}
    frame = one(request(1, tensors))
    repeats.learn_layout(frame, tensors)
    assert repeats.decode(frame) is None


def test_large_frames_are_not_joined() -> None:
    large = {"x": np.zeros(1 << 20, np.uint8)}
    assert taught(large).encode(Kind.INFER, 1, large) is None


def test_what_is_remembered_is_bounded() -> None:
    repeats = Repeats()
    for rows in range(1, 200):
        tensors = {"x": np.zeros((rows, 2), np.float32)}
        repeats.learn(tensors, native.encode_infer(1, InferRequest("m", tensors)))
        frame = one(request(1, tensors))
        repeats.learn_layout(frame, tensors)
        assert repeats.decode(frame) is not None
    assert len(repeats._heads) <= 64
    assert len(repeats._layouts) <= 64
