"""RUN and ANSWER on the wire: both ends joined, at fixed offsets, and what a hostile end cannot do."""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import (
    EdgedError,
    InvalidRequestError,
    TensorMismatchError,
)
from edged.messages import InferRequest, InferResponse
from edged.protocol import native, prepared_runs
from edged.protocol.frames import Frame, FrameReader, Kind, Limits, encode_frame
from edged.protocol.layout import BodyLayout
from edged.protocol.prepared_runs import RunHead
from edged.tensors import DTYPES, TensorSpec
from tests.fakes.wire import joined, only, pieces_of

LIMITS = Limits()
DOC = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
X = TensorSpec("x", "float32", ("batch", 3))
ON = TensorSpec("on", "bool", ("batch",))
Y = TensorSpec("y", "float64", ("batch", 1))
GATE = BodyLayout([X, ON])
pack = msgspec.msgpack.encode


def tensors(rows: int) -> dict[str, np.ndarray]:
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    return {"x": x, "on": np.arange(rows) % 2 == 0}


def run_frame(rows: int, number: int = 8) -> bytes:
    return joined(prepared_runs.encode_run(number, RunHead(1, rows, 0), GATE, tensors(rows)))


def sent(layout: BodyLayout, arrays: dict[str, np.ndarray]) -> Frame:
    head = RunHead(1, layout.rows_of(arrays), 0)
    return only(prepared_runs.encode_run(1, head, layout, arrays))


class TestBackToBack:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(), (3,), (2, 5), (1, 3, 40, 50)], ids=str)
    @pytest.mark.parametrize("rows", [None, 1, 7])
    def test_every_dtype_and_rank(self, dtype: str, shape: tuple[int, ...], rows: int | None):
        spec = TensorSpec("x", dtype, shape if rows is None else ("batch", *shape))
        full = shape if rows is None else (rows, *shape)
        array = (np.arange(np.prod(full, dtype=int)) % 2).reshape(full).astype(dtype)
        layout = BodyLayout([spec, TensorSpec("z", "uint8", (5,))])
        z = np.arange(5, dtype=np.uint8)
        frame = sent(layout, {"x": array, "z": z})
        head = prepared_runs.decode_run_head(frame)
        assert head.rows == (rows or 0)
        got = prepared_runs.decode_run_body(frame.data, layout, head.rows)
        assert (got["x"].dtype, got["x"].shape) == (array.dtype, full)
        np.testing.assert_array_equal(got["x"], array)
        np.testing.assert_array_equal(got["z"], z)
        assert not got["x"].flags.writeable

    @pytest.mark.parametrize(
        "array",
        [
            np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3)),
            np.arange(60, dtype=np.float32).reshape(4, 15)[:, ::5],
            np.arange(12, dtype=np.float32).reshape(4, 3)[::-1],
            np.arange(12, dtype=">f4").reshape(4, 3),
            np.arange(30_000, dtype=np.float32).reshape(3, 10_000).T,
        ],
        ids=["fortran", "strided", "reversed", "big-endian", "large transposed"],
    )
    def test_any_layout_of_memory(self, array: np.ndarray):
        layout = BodyLayout([X])
        got = prepared_runs.decode_run_body(sent(layout, {"x": array}).data, layout, len(array))
        np.testing.assert_array_equal(got["x"], array)

    def test_large_arrays_are_not_copied_on_either_side(self):
        layout = BodyLayout([TensorSpec("x", "float32", ("batch", 1000))])
        array = np.ones((50, 1000), np.float32)
        buffers = prepared_runs.encode_run(1, RunHead(1, 50, 0), layout, {"x": array})
        assert np.shares_memory(np.frombuffer(buffers[1], np.float32), array)
        frame = only(buffers)
        got = prepared_runs.decode_run_body(frame.data, layout, 50)
        assert np.shares_memory(got["x"], np.frombuffer(frame.body, np.uint8))

    def test_answer(self):
        layout = BodyLayout([Y])
        response = InferResponse("m", 3, 12, {"y": np.ones((4, 1))}, None, 1, 2, 6)
        frame = only(prepared_runs.encode_answer(8, response, layout, 4))
        got = prepared_runs.decode_answer(frame, "m", layout)
        np.testing.assert_array_equal(got.outputs["y"], response.outputs["y"])
        got.outputs = response.outputs = {}
        assert got == response

    @pytest.mark.parametrize(
        "outputs",
        [
            {"y": np.ones((3, 1))},
            {"y": np.ones((4, 1), np.float32)},
            {"y": np.ones((4, 1)), "more": np.ones(1)},
            {"other": np.ones((4, 1))},
            {"y": np.float64(1)},
            {},
        ],
        ids=["rows", "dtype", "more", "name", "scalar", "none"],
    )
    def test_outputs_that_were_not_announced_are_no_answer(self, outputs: dict):
        response = InferResponse("m", 3, 12, outputs)
        assert prepared_runs.encode_answer(8, response, BodyLayout([Y]), 4) is None

    def test_answer_without_rows_to_a_request_with_rows(self):
        """A model may say one thing about all rows together."""
        layout = BodyLayout([TensorSpec("y", "float64", (2,))])
        response = InferResponse("m", 3, 12, {"y": np.ones(2)})
        frame = only(prepared_runs.encode_answer(8, response, layout, 4))
        assert prepared_runs.decode_answer(frame, "m", layout).outputs["y"].shape == (2,)

    @given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.data())
    @settings(max_examples=40, deadline=None)
    def test_any_cuts(self, rows: list[int], data: st.DataObject):
        """The same tensors whole, byte by byte or in any pieces."""
        stream = b"".join(run_frame(n, number) for number, n in enumerate(rows, 1))
        cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
        for pieces in (
            pieces_of(stream, cuts),
            [bytes([byte]) for byte in stream],
        ):
            reader = FrameReader(LIMITS)
            frames = [frame for piece in pieces for frame in reader.feed(piece)]
            assert len(frames) == len(rows)
            for frame, n in zip(frames, rows, strict=True):
                got = prepared_runs.decode_run_body(
                    frame.data, GATE, prepared_runs.decode_run_head(frame).rows
                )
                for name, array in tensors(n).items():
                    np.testing.assert_array_equal(got[name], array)


class TestHostile:
    @pytest.mark.parametrize(
        ("rows", "change"),
        [
            (2, lambda body: body[:-8]),
            (2, lambda body: body + bytes(8)),
            (2, lambda body: b""),
            (3, lambda body: body),
            (1, lambda body: body),
            (2**32 - 1, lambda body: body),
        ],
        ids=["short", "long", "empty", "more rows", "fewer rows", "2^32-1 rows"],
    )
    def test_a_body_of_another_size(self, rows: int, change):
        body = only([run_frame(2)]).body
        head = struct.pack("<IIQ", 1, rows, 0)
        frame = only(encode_frame(Kind.RUN, 1, head, [change(bytes(body))]))
        with pytest.raises(TensorMismatchError, match=f"not that of {rows} rows"):
            prepared_runs.decode_run_body(
                frame.data, GATE, prepared_runs.decode_run_head(frame).rows
            )

    def test_rows_where_none_are_free_and_none_where_they_are(self):
        fixed = BodyLayout([TensorSpec("x", "int64", (2,))])
        frame = sent(fixed, {"x": np.arange(2)})
        for layout, rows, message in ((fixed, 1, "takes 0"), (GATE, 0, "at least one row")):
            with pytest.raises(TensorMismatchError, match=message):
                prepared_runs.decode_run_body(frame.data, layout, rows)

    def test_a_bool_that_is_neither(self):
        data = bytearray(run_frame(3))
        data[-8] = 2
        with pytest.raises(TensorMismatchError, match='"on": a byte of a bool'):
            prepared_runs.decode_run_body(only([bytes(data)]).data, GATE, 3)

    @pytest.mark.parametrize("size", [0, 8, 15, 17, 40])
    def test_a_head_of_another_size(self, size: int):
        frame = only(encode_frame(Kind.RUN, 1, bytes(size), []))
        if size < 16:  # beyond that a key begins
            with pytest.raises(InvalidRequestError, match=f"a head of {size} bytes"):
                prepared_runs.decode_run_head(frame)
        if size != 40:
            with pytest.raises(InvalidRequestError, match=f"a head of {size} bytes"):
                prepared_runs.decode_answer(frame, "m", GATE)

    @given(st.binary(max_size=300), st.binary(max_size=300), st.sampled_from([8, 9, 10, 11, 13]))
    @settings(max_examples=300, deadline=None)
    def test_only_our_errors(self, head: bytes, body: bytes, kind: int):
        frame = only(encode_frame(Kind(kind), 1, head, [body]))
        for decode in (
            lambda: prepared_runs.decode_run_body(
                frame.data, GATE, prepared_runs.decode_run_head(frame).rows
            ),
            lambda: prepared_runs.decode_answer(frame, "m", GATE),
        ):
            with contextlib.suppress(EdgedError):
                decode()


class TestKeys:
    @pytest.mark.parametrize("key", ["7", "press-7", "12345678", "ü" * 256], ids=len)
    def test_there_and_back(self, key: str):
        """By both ways of reading a frame, and the body lies where it is said to lie."""
        arrays = tensors(2)
        data = joined(prepared_runs.encode_run(5, RunHead(1, 2, 250, key), GATE, arrays))
        frame = only([data])
        assert prepared_runs.decode_run_head(frame) == RunHead(1, 2, 250, key)
        at, size = prepared_runs.body_at(frame), GATE.body_bytes(2)
        assert prepared_runs.peek_run(data, len(data)) == (5, 1, 2, size, 250, at, key)
        got = prepared_runs.decode_run_body(data, GATE, 2, at)
        assert all(np.array_equal(got[name], array) for name, array in arrays.items())
        assert at % 8 == 0

    @pytest.mark.parametrize("key", ["", "x" * 257], ids=len)
    def test_none_that_would_be_refused_is_sent(self, key: str):
        with pytest.raises(InvalidRequestError, match="expected 1 to 256"):
            prepared_runs.encode_run(5, RunHead(1, 2, 0, key), GATE, tensors(2))

    @pytest.mark.parametrize(
        "words", [b"\xff\xfe", b"x" * 257, b"x" * 1025, b"\xc3", b"\xed\xb3\xbf"], ids=len
    )
    def test_one_that_is_none_is_refused(self, words: bytes):
        body = joined(prepared_runs.encode_run(5, RunHead(1, 2, 0), GATE, tensors(2)))
        head = (16 + len(words)).to_bytes(4, "little")
        gap = bytes(-(48 + len(words)) % 8)
        data = body[:16] + head + body[20:48] + words + gap + body[48:]
        assert prepared_runs.peek_run(data, len(data)) is None
        with pytest.raises(InvalidRequestError, match="a key"):
            prepared_runs.decode_run_head(only([data]))


class TestDocument:
    """docs/protocol.md: its examples and offsets are real bytes."""

    def block(self, name: str) -> bytes:
        text = re.search(rf"```hex {name}\n(.*?)```", DOC.read_text(), re.DOTALL)
        assert text, f"docs/protocol.md has no example {name}"
        return bytes.fromhex("".join(line.partition("#")[0] for line in text[1].splitlines()))

    def test_run_and_answer_examples(self):
        arrays = {"x": np.array([[1.0, 2.0, -0.5]], np.float32), "on": np.array([True])}
        run = prepared_runs.encode_run(8, RunHead(1, 1, 250_000), GATE, arrays)
        assert self.block("run") == joined(run)
        response = InferResponse("gate", 3, 12, {"y": np.array([[0.25]])}, None, 1000, 9000, 1)
        answer = prepared_runs.encode_answer(8, response, BodyLayout([Y]), 1)
        assert self.block("answer") == joined(answer)

    def test_keyed_run_example(self):
        arrays = {"x": np.array([[1.0, 2.0, -0.5]], np.float32), "on": np.array([True])}
        run = prepared_runs.encode_run(9, RunHead(1, 1, 0, "press-7"), GATE, arrays)
        assert self.block("run-key") == joined(run)
        infer = InferRequest("gate", {"x": arrays["x"]}, asker="press-7")
        assert self.block("infer-key") == joined(native.encode_infer(14, infer))

    def test_offsets(self):
        """As a C program would read them."""
        handle, rows, timeout_us = struct.unpack_from("<IIQ", self.block("run"), 32)
        assert (handle, rows, timeout_us) == (1, 1, 250_000)
        assert struct.unpack_from("<3f", self.block("run"), 48) == (1.0, 2.0, -0.5)
        data = self.block("answer")
        assert struct.unpack_from("<QQQQII", data, 32) == (3, 12, 1000, 9000, 1, 1)
        assert struct.unpack_from("<d", data, 72) == (0.25,)
