"""Frames of several answers to one request, there and back."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import InvalidRequestError, LocalProtocolError, RemoteProtocolError
from edged.flow import MOST_AHEAD
from edged.messages import InferRequest, InferResponse
from edged.protocol import native, streams
from edged.protocol.frames import Kind, Limits, encode_frame
from tests.fakes.wire import joined, only

X = np.arange(6, dtype=np.float32).reshape(2, 3)
LIMITS = Limits()
DOC = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


def block(name: str) -> bytes:
    text = re.search(rf"```hex {name}\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert text, f"docs/protocol.md has no example {name}"
    return bytes.fromhex("".join(line.partition("#")[0] for line in text[1].splitlines()))


def test_the_examples_of_the_document_are_real_bytes():
    request = InferRequest("gate", {"x": np.array([[1.0, 2.0, -0.5]], np.float32)})
    assert block("stream") == joined(streams.encode_stream(9, request, 250_000, 4))
    response = InferResponse("gate", 3, 12, {"y": np.array([0.25])})
    assert block("part") == joined(streams.encode_part(9, response, 0))
    assert block("more") == joined(streams.encode_more(9, 2))


@settings(max_examples=50)
@given(
    st.text(max_size=20),
    st.one_of(st.none(), st.integers(1, 2**53), st.text(max_size=9)),
    st.integers(0, 2**40),
    st.integers(1, MOST_AHEAD),
    st.lists(st.text(max_size=9), max_size=3),
)
def test_a_request_comes_through(model, release, timeout_us, ahead, outputs):
    request = InferRequest(model, {"x": X}, release, tuple(outputs))
    frame = only(streams.encode_stream(9, request, timeout_us, ahead))
    assert (frame.kind, frame.request_id) == (Kind.STREAM, 9)
    read, *rest = streams.decode_stream(frame, LIMITS)
    assert rest == [timeout_us, ahead]
    assert (read.model, read.release, read.outputs) == (model, release, tuple(outputs))
    np.testing.assert_array_equal(read.inputs["x"], X)


def test_an_answer_and_its_place_come_through():
    frame = only(streams.encode_part(9, InferResponse("m", 3, 12, {"y": X}), 41))
    assert frame.kind == Kind.PART
    response, index = streams.decode_part(frame, "m", LIMITS)
    assert (response.release, response.generation, index) == (3, 12, 41)
    np.testing.assert_array_equal(response.outputs["y"], X)
    assert streams.decode_more(only(streams.encode_more(9, 16))) == 16


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (["m", 0, []], "release 0: expected a number from 1"),
        (["m", None, [], [], -1], "timeout -1 us: expected 0"),
        (["m", None, [], [], 0, 0], "0 answers ahead: expected 1 to 1024"),
        (["m", None, [], [], 0, 1025], "1025 answers ahead: expected 1 to 1024"),
        (["m", None, [["x", "float32", [2]]]], '"x": float32\\[2\\] needs 8 bytes'),
        (["m"], "malformed head of a frame of kind 14"),
    ],
)
def test_what_is_no_request_is_refused(head, expected):
    frame = only(encode_frame(Kind.STREAM, 1, msgspec.msgpack.encode(head), []))
    with pytest.raises(InvalidRequestError, match=expected):
        streams.decode_stream(frame, LIMITS)


@pytest.mark.parametrize("count", [0, -1, MOST_AHEAD + 1])
def test_a_number_of_answers_has_bounds(count):
    with pytest.raises(InvalidRequestError, match=f"{count} more answers: expected 1 to 1024"):
        streams.decode_more(only(streams.encode_more(1, count)))


def test_what_is_no_answer_is_refused():
    with pytest.raises(RemoteProtocolError, match="expected a PART frame, got kind 7"):
        streams.decode_part(only(native.encode_reply(1, None)), "m", LIMITS)
    with pytest.raises(LocalProtocolError, match="dtype complex64"):
        streams.encode_part(1, InferResponse("m", 1, 1, {"y": X.astype(np.complex64)}), 0)
