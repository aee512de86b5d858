"""Prepared calls on the wire: both ends agree on a layout, or say why not."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import EdgedError, InvalidRequestError
from edged.messages import PrepareRequest
from edged.protocol import prepared
from edged.protocol.frames import Frame, Kind, Limits, encode_frame
from edged.tensors import TensorSpec
from tests.fakes.wire import joined, only

LIMITS = Limits()
DOC = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
X = TensorSpec("x", "float32", ("batch", 3))
ON = TensorSpec("on", "bool", ("batch",))
Y = TensorSpec("y", "float64", ("batch", 1))
pack = msgspec.msgpack.encode


def prepare_frame(inputs: object, model: object = "m", release: object = None) -> Frame:
    return only(encode_frame(Kind.PREPARE, 1, pack([model, release, inputs, []]), []))


class TestBackToBack:
    def test_prepare(self):
        request = PrepareRequest("m", (X, TensorSpec("z", "int8", (2, 2))), "champion", ("y", "w"))
        got = prepared.decode_prepare(only(prepared.encode_prepare(5, request)), LIMITS)
        assert got == request

    def test_prepared(self):
        outputs = (Y, TensorSpec("z", "int8", (2, 2)))
        frame = only(prepared.encode_prepared(5, 9, 3, 12, outputs))
        head, layout = prepared.decode_prepared(frame, LIMITS)
        assert (head.handle, head.release, head.generation) == (9, 3, 12)
        assert layout is not None
        assert layout.specs == prepared.read_outputs(head) == outputs
        assert prepared.answer_layout(outputs).specs == outputs

    @pytest.mark.parametrize(
        "shape", [("batch", "n"), ("batch", 3, "n"), (2, 0), ("n", 2)], ids=str
    )
    def test_outputs_of_unknown_shape_have_no_answer_layout(self, shape: tuple):
        outputs = (TensorSpec("y", "int8", shape),)
        assert (prepared.answer_layout(outputs) is None) == (shape != ("batch", 3))
        _, layout = prepared.decode_prepared(
            only(prepared.encode_prepared(5, 9, 3, 12, outputs)), LIMITS
        )
        assert layout is None or shape[0] == "n"

    def test_forget(self):
        assert prepared.decode_forget(only(prepared.encode_forget(9))) == 9


class TestHostile:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ([["x", "float32", [None, None]]], "only the first one free"),
            ([["x", "float32", [2, -1]]], "each 1 or more"),
            ([["x", "float32", [0]]], "each 1 or more"),
            ([["x", "float32", [1] * 9]], "at most 8 axes"),
            ([["x", "complex64", [1]]], "unknown dtype"),
            ([["x" * 257, "int8", [1]]], "too long"),
            ([["x", "int8", [1]]] * 2, "occurs twice"),
            ([[f"x{n}", "int8", [1]] for n in range(65)], "65 tensors"),
            ([["x", "float64", [None, 2**40]]], "limits.max_request"),
            ([["x", "float64", [2**32, 2**32]]], "limits.max_request"),
            ([["x", "int8", ["n"]]], "malformed head"),
            ("x", "malformed head"),
        ],
        ids=str,
    )
    def test_a_layout_that_cannot_be(self, inputs: object, message: str):
        with pytest.raises(InvalidRequestError, match=message):
            prepared.decode_prepare(prepare_frame(inputs), LIMITS)

    @pytest.mark.parametrize("release", [0, -1])
    def test_a_release_that_cannot_be(self, release: int):
        with pytest.raises(InvalidRequestError, match="a number from 1"):
            prepared.decode_prepare(prepare_frame([], release=release), LIMITS)

    @given(st.binary(max_size=300), st.binary(max_size=300), st.sampled_from([8, 9, 10, 11, 13]))
    @settings(max_examples=300, deadline=None)
    def test_only_our_errors(self, head: bytes, body: bytes, kind: int):
        frame = only(encode_frame(Kind(kind), 1, head, [body]))
        for decode in (
            lambda: prepared.decode_prepare(frame, LIMITS),
            lambda: prepared.decode_prepared(frame, LIMITS),
            lambda: prepared.decode_forget(frame),
        ):
            with contextlib.suppress(EdgedError):
                decode()


class TestDocument:
    """docs/protocol.md: its examples are real bytes."""

    def block(self, name: str) -> bytes:
        text = re.search(rf"```hex {name}\n(.*?)```", DOC.read_text(), re.DOTALL)
        assert text, f"docs/protocol.md has no example {name}"
        return bytes.fromhex("".join(line.partition("#")[0] for line in text[1].splitlines()))

    def test_prepare_examples(self):
        request = PrepareRequest("gate", (X, ON))
        assert self.block("prepare") == joined(prepared.encode_prepare(7, request))
        assert self.block("prepared") == joined(prepared.encode_prepared(7, 1, 3, 12, (Y,)))
