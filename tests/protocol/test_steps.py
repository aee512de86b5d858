"""Frames of requests to a model that keeps state, there and back."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import InvalidRequestError
from edged.messages import SequencedRequest, SequenceStep
from edged.protocol import steps
from edged.protocol.frames import Kind, Limits, encode_frame
from tests.fakes.wire import joined, only

X = np.arange(6, dtype=np.float32).reshape(2, 3)
DOC = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


def test_the_example_of_the_document_is_real_bytes():
    text = re.search(r"```hex step\n(.*?)```", DOC.read_text(), re.DOTALL)
    wanted = bytes.fromhex("".join(line.partition("#")[0] for line in text[1].splitlines()))
    x = np.array([[1.0, 2.0, -0.5]], np.float32)
    request = SequencedRequest("vad", {"x": x}, sequence=SequenceStep("mic1", start=True))
    assert joined(steps.encode_step(9, request, 250_000)) == wanted


@settings(max_examples=50)
@given(
    st.text(max_size=20),
    st.one_of(st.none(), st.integers(1, 2**53), st.text(max_size=9)),
    st.integers(0, 2**40),
    st.one_of(st.integers(0, 2**64 - 1), st.text(min_size=1, max_size=256)),
    st.booleans(),
    st.booleans(),
)
def test_a_request_comes_through(model, release, timeout_us, sequence, start, end):
    sent = SequencedRequest(
        model, {"x": X}, release, ("y",), sequence=SequenceStep(sequence, start, end)
    )
    frame = only(steps.encode_step(9, sent, timeout_us))
    assert (frame.kind, frame.request_id) == (Kind.STEP, 9)
    read, timeout = steps.decode_step(frame, Limits())
    assert timeout == timeout_us
    assert (read.model, read.release, read.outputs) == (model, release, ("y",))
    assert read.sequence == sent.sequence
    assert not read.only_ends
    np.testing.assert_array_equal(read.inputs["x"], X)


HEAD = ["m", None, [], [], 0, "a", False, True]


def read(head: list) -> SequencedRequest:
    frame = only(encode_frame(Kind.STEP, 1, msgspec.msgpack.encode(head), []))
    return steps.decode_step(frame, Limits())[0]


def test_only_an_end():
    assert read(HEAD).only_ends
    assert not read([*HEAD[:6], True, True]).only_ends
    assert read([*HEAD, "of a newer peer"]).only_ends
    assert read(HEAD[:6]).sequence == SequenceStep("a")


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (1, 0, "release 0"),
        (4, -1, "timeout -1"),
        (5, "", 'sequence "": expected a text of 1 to 256 characters'),
        (5, "x" * 257, "expected a text of 1 to 256"),
        (5, -1, "or a number from 0"),
        (5, True, "malformed head"),
        (5, None, "malformed head"),
        (6, 1, "malformed head"),
    ],
)
def test_what_is_refused(at, value, words):
    head = list(HEAD)
    head[at] = value
    with pytest.raises(InvalidRequestError, match=words):
        read(head)
