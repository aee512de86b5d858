"""Messages to frames and back, both ends joined; and what a hostile end cannot do."""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import (
    DeadlineExceededError,
    EdgedError,
    InvalidRequestError,
    LocalProtocolError,
    ModelNotFoundError,
    QueueFullError,
    RemoteProtocolError,
    RuntimeFailureError,
    TensorMismatchError,
    TooLargeError,
)
from edged.messages import InferRequest, InferResponse
from edged.protocol import greeting, native
from edged.protocol.frames import Frame, FrameReader, Kind, Limits, encode_frame, padding
from edged.strings import STRINGS_CAP
from edged.tensors import DTYPES
from tests.fakes.wire import joined, only, pieces_of

LIMITS = Limits()
DOC = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
pack = msgspec.msgpack.encode


def raw(kind: int, head: bytes, body: bytes = b"") -> Frame:
    return only(encode_frame(kind, 1, head, [body]))


def infer_frame(tensors: Any, body: bytes = b"", **fields: Any) -> Frame:
    parts = {"model": "m", "release": None, "tensors": tensors, "outputs": [], "timeout_us": 0}
    return raw(Kind.INFER, pack(list({**parts, **fields}.values())), body)


def sample(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.arange(max(1, int(np.prod(shape)))) % 2
    return values[: int(np.prod(shape))].reshape(shape).astype(dtype)


ARRAYS = {
    "zero-dim": np.float32(3.5).reshape(()),
    "empty": np.zeros((0, 4), np.float32),
    "empty axes": np.zeros((3, 0, 2), np.int64),
    "odd size": np.arange(13, dtype=np.uint8),
    "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "strided": np.arange(100, dtype=np.int32)[::7],
    "reversed": np.arange(10.0)[::-1],
    "transposed image": np.arange(60_000, dtype=np.uint8).reshape(100, 200, 3).transpose(2, 0, 1),
    "big-endian": np.arange(5, dtype=">f8"),
    "big-endian large": np.arange(5000, dtype=">i4"),
    "large": np.arange(50_000, dtype=np.float64),
    "rank 8": np.ones((1,) * 8, np.float16),
}


class TestBackToBack:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 5), (1, 3, 40, 50)], ids=str)
    def test_every_dtype_and_rank(self, dtype: str, shape: tuple[int, ...]):
        array = sample(dtype, shape)
        request = InferRequest("m", {"x": array, "y": array})
        got, _ = native.decode_infer(only(native.encode_infer(1, request)), LIMITS)
        for name in ("x", "y"):
            assert got.inputs[name].dtype == array.dtype
            assert got.inputs[name].shape == shape
            np.testing.assert_array_equal(got.inputs[name], array)

    @pytest.mark.parametrize("name", ARRAYS)
    def test_any_layout_of_memory(self, name: str):
        """Non-contiguous and big-endian arrays arrive as dense little-endian ones."""
        array = ARRAYS[name]
        response = InferResponse("m", 1, 1, {"first": np.uint8(1), "x": array})
        got = native.decode_response(only(native.encode_response(1, response)), "m", LIMITS)
        np.testing.assert_array_equal(got.outputs["x"], array)
        assert got.outputs["x"].shape == array.shape
        assert got.outputs["x"].dtype == array.dtype.newbyteorder("<")
        assert got.outputs["x"].flags.c_contiguous

    def test_large_arrays_are_not_copied_on_either_side(self):
        array = np.arange(100_000, dtype=np.float32)
        buffers = native.encode_infer(1, InferRequest("m", {"x": array}))
        assert np.shares_memory(np.frombuffer(buffers[1], np.float32), array)
        frame = only(buffers)
        got, _ = native.decode_infer(frame, LIMITS)
        assert np.shares_memory(got.inputs["x"], np.frombuffer(frame.body, np.uint8))
        assert not got.inputs["x"].flags.writeable

    def test_infer(self):
        request = InferRequest("m", {}, "champion", ("y", "z"), deadline_ns=5)
        frame = only(native.encode_infer(2**64 - 1, request, 1500))
        assert (frame.kind, frame.request_id) == (Kind.INFER, 2**64 - 1)
        got, timeout_us = native.decode_infer(frame, LIMITS)
        assert (got.model, got.release, got.outputs) == ("m", "champion", ("y", "z"))
        assert (got.deadline_ns, timeout_us) == (None, 1500)

    def test_result(self):
        response = InferResponse("m", 4, 9, {"y": np.ones(3)}, None, 10, 20, 30)
        got = native.decode_response(only(native.encode_response(3, response)), "m", LIMITS)
        np.testing.assert_array_equal(got.outputs["y"], np.ones(3))
        got.outputs = response.outputs = {}
        assert got == response

    @pytest.mark.parametrize(
        "error",
        [
            ModelNotFoundError("no model"),
            QueueFullError("full", retry_after_ns=5_000_000),
            DeadlineExceededError("late"),
            RuntimeFailureError("the call failed"),
        ],
    )
    def test_error(self, error: EdgedError):
        response = InferResponse("m", 4, 9, error=error)
        got = native.decode_response(only(native.encode_response(3, response)), "m", LIMITS)
        assert (got.release, got.generation) == (4, 9)
        assert type(got.error) is type(error)
        assert got.error.message == error.message
        assert getattr(got.error, "retry_after_ns", 0) == getattr(error, "retry_after_ns", 0)

    def test_call_and_reply(self):
        call = native.decode_call(only(native.encode_call(1, "status", {"model": "m", "n": [1]})))
        assert (call.verb, call.arguments) == ("status", {"model": "m", "n": [1]})
        document = {"models": [{"name": "m", "ready": True, "load": 0.5, "none": None}] * 5000}
        assert native.decode_reply(only(native.encode_reply(1, document))) == document
        with pytest.raises(ModelNotFoundError, match="no model"):
            native.decode_reply(only(native.encode_error(1, ModelNotFoundError("no model"))))

    def test_a_whole_talk_in_any_pieces(self):
        """Both directions, byte by byte and whole: the same messages in the same order."""
        arrays = [np.full(size, size % 7, np.float32) for size in (0, 1, 3, 20_000, 2)]
        stream = joined(greeting.encode_hello("c")) + b"".join(
            joined(native.encode_infer(n, InferRequest("m", {"x": a})))
            for n, a in enumerate(arrays)
        )
        for cuts in ([], list(range(0, len(stream), 1)), [31, 33, 70_000]):
            reader = FrameReader(LIMITS)
            frames = [f for piece in pieces_of(stream, cuts) for f in reader.feed(piece)]
            assert greeting.decode_hello(frames[0]).client == "c"
            for frame, array in zip(frames[1:], arrays, strict=True):
                got, _ = native.decode_infer(frame, LIMITS)
                answer = native.encode_response(
                    frame.request_id, InferResponse("m", 1, 1, {"y": got.inputs["x"]})
                )
                back = native.decode_response(only(answer), "m", LIMITS)
                np.testing.assert_array_equal(back.outputs["y"], array)

    def test_unknown_fields_at_the_end_of_a_head_are_for_later_versions(self):
        frame = infer_frame([], key=None, more=1, fields="of a newer client")
        assert native.decode_infer(frame, LIMITS)[0].model == "m"

    def test_a_key(self):
        for key in (None, "press-7", "ü" * 256, "id"):
            request = InferRequest("m", {}, asker=key)
            got, _ = native.decode_infer(only(native.encode_infer(1, request)), LIMITS)
            assert got.asker == key

    @pytest.mark.parametrize("key", ["", "x" * 257, 7, ["a"], {}], ids=str)
    def test_a_key_that_is_none(self, key: object):
        with pytest.raises(InvalidRequestError, match=r"key of|Expected `str"):
            native.decode_infer(infer_frame([], key=key), LIMITS)


F4 = "float32"
REFUSED = {
    "shape [2^32, 2^32]": ([["x", F4, [2**32, 2**32]]], 0, '"x": float32.* needs 73786976294838'),
    "rank 255": ([["x", F4, [1] * 255]], 4, '"x": shape .* at most 8 axes'),
    "rank 9": ([["x", F4, [1] * 9]], 4, '"x": shape .* at most 8 axes'),
    "negative axis": ([["x", F4, [-1]]], 0, '"x": shape .* none negative'),
    "negative pair": ([["x", F4, [-2, -2]]], 16, '"x": shape .* none negative'),
    "zero and negative": ([["x", F4, [0, -1]]], 0, '"x": shape .* none negative'),
    "zero and 2^63": ([["x", F4, [0, 2**63]]], 0, '"x"'),
    "zero and 2^62": ([["x", F4, [0, 2**62]]], 0, '"x"'),
    "2^64-1": ([["x", F4, [2**64 - 1]]], 0, '"x".* needs'),
    "twice": ([["x", F4, [2]], ["x", F4, [2]]], 16, '"x": the name occurs twice'),
    "long name": ([["x" * 257, F4, [2]]], 8, "too long"),
    "unknown dtype": ([["x", "object", [1]]], 8, '"x": unknown dtype "object"'),
    "dtype in other words": ([["x", "<f4", [2]]], 8, "unknown dtype"),
    "body shorter": ([["x", F4, [4]]], 8, '"x": .* needs 16 bytes; the body has 8 left'),
    "body longer": ([["x", F4, [2]]], 16, "the body has 16 bytes; .* take 8"),
    "unpadded": ([["x", "uint8", [3]]], 3, "the body has 3 bytes; .* take 8"),
    "body and no tensor": ([], 8, "the body has 8 bytes"),
    "65 tensors": ([[f"x{n}", F4, [2]] for n in range(65)], 520, "65 tensors; the limit is 64"),
}


class TestRefused:
    @pytest.mark.parametrize("name", REFUSED)
    @pytest.mark.hostile(
        "A7 a shape of [2^32, 2^32]",
        "A8 rank 255, a negative axis, an axis of zero rows",
        "R9 every list of a peer has caps of count and bytes",
        "R39 counts of elements are Python's own numbers",
    )
    def test_tensors_that_do_not_add_up(self, name: str):
        """SECURITY A: shape [2^32, 2^32] -> "size mismatch"; rank 255, negative dim -> error
        names the tensor."""
        heads, size, message = REFUSED[name]
        with pytest.raises(InvalidRequestError, match=message):
            native.decode_infer(infer_frame(heads, bytes(size)), LIMITS)

    def test_bool_is_0_or_1(self):
        """Any other byte is no bool to a C++ runtime, where using it is undefined."""
        heads = [["x", "bool", [8]]]
        assert native.decode_infer(infer_frame(heads, bytes([0, 1] * 4)), LIMITS)
        with pytest.raises(TensorMismatchError, match=r'"x": .*bool.* 0 and 1'):
            native.decode_infer(infer_frame(heads, bytes([0, 1, 2, 255] * 2)), LIMITS)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"release": 0}, "expected a number from 1"),
            ({"release": -3}, "expected a number from 1"),
            ({"release": True}, "malformed head"),
            ({"release": 1.5}, "malformed head"),
            ({"timeout_us": -1}, "expected 0 .none. or more"),
            ({"timeout_us": "1s"}, "malformed head"),
            ({"model": None}, "malformed head"),
            ({"model": 3}, "malformed head"),
            ({"tensors": {}}, "malformed head"),
            ({"tensors": [["x", F4]]}, "malformed head"),
            ({"tensors": [["x", F4, [1.5]]]}, "malformed head"),
            ({"outputs": "y"}, "malformed head"),
        ],
    )
    def test_head_of_other_types(self, fields: dict[str, Any], message: str):
        with pytest.raises(InvalidRequestError, match=message):
            native.decode_infer(infer_frame(**{"tensors": [], **fields}), LIMITS)

    @pytest.mark.parametrize(
        "head",
        [
            b"",
            b"\xc1",
            b"\x80",
            b"\x90",
            b"\x95\xa1m\xc0\xdd\xff\xff\xff\xff",
            b"\x93\xdb\xff\xff\xff\xff",
            b"\x93\xa1\xff\xc0\x90",
            b"\x93\xa1m\xc0\x90trailing",
            b"\x93\xa1m\xc0" + b"\x91" * 60_000,
        ],
        ids=[
            "empty",
            "reserved",
            "map",
            "short",
            "2^32 items",
            "2^32 text",
            "utf8",
            "tail",
            "deep",
        ],
    )
    def test_malformed_msgpack(self, head: bytes):
        with pytest.raises(InvalidRequestError, match="malformed head of a frame of kind 3"):
            native.decode_infer(raw(Kind.INFER, head), LIMITS)

    def test_call_with_keys_that_cannot_be_keys(self):
        with pytest.raises(InvalidRequestError, match="malformed head"):
            native.decode_call(raw(Kind.CALL, b"\x92\xa1m\x81\xa1a\x81\x91\x80\x01"))

    @pytest.mark.parametrize("array", [np.zeros(2, complex), np.zeros(2, "M8[s]")])
    def test_dtype_that_the_wire_has_not(self, array: np.ndarray):
        with pytest.raises(LocalProtocolError, match=r'"x" has dtype .*the protocol carries bool'):
            native.encode_infer(1, InferRequest("m", {"x": array}))

    @pytest.mark.parametrize("one", [None, 3, "\udc80"])
    def test_what_is_no_string(self, one: object):
        with pytest.raises(LocalProtocolError, match=r'"x": element 1 is '):
            native.encode_infer(1, InferRequest("m", {"x": np.array([b"a", one], object)}))

    def test_strings_that_do_not_add_up(self):
        for body in (
            b"",
            b"\x01\0\0",
            b"\xff\xff\xff\xffab",
            struct.pack("<I", 1) + b"a" + bytes(11),
        ):
            with pytest.raises(TensorMismatchError):
                native.decode_infer(infer_frame([["x", "string", [1]]], body), LIMITS)

    def test_more_strings_than_are_read(self):
        half = STRINGS_CAP // 2 + 1
        heads = [["x", "string", [half]], ["y", "string", [half]]]
        head = pack(["m", None, heads])
        body = bytes(4 * half + padding(4 * half)) * 2
        with pytest.raises(TooLargeError, match=r'"y": .* strings; one request may bring'):
            native.decode_infer(raw(Kind.INFER, head, body), LIMITS)

    @pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
    def test_release_that_does_not_fit(self, number: int):
        with pytest.raises(LocalProtocolError, match="64 bits"):
            native.encode_infer(1, InferRequest("m", {}, number))

    def test_answer_of_another_kind(self):
        hello = only(greeting.encode_hello("x"))
        with pytest.raises(RemoteProtocolError, match="expected a RESULT or ERROR frame"):
            native.decode_response(hello, "m", LIMITS)
        with pytest.raises(RemoteProtocolError, match="expected a REPLY or ERROR frame"):
            native.decode_reply(hello)

    @pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91" * 100_000, b"\x81\x91\x80\x01"])
    def test_reply_that_is_not_msgpack(self, body: bytes):
        with pytest.raises(RemoteProtocolError, match="not msgpack"):
            native.decode_reply(raw(Kind.REPLY, b"", body))


EDGES = st.sampled_from([0, 1, 2, 3, -1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1])
HEADS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "", "z" * 300]),
        st.sampled_from([*DTYPES, "object"]),
        st.lists(EDGES | st.integers(0, 4), max_size=9),
    ),
    max_size=4,
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9)
    | st.binary(max_size=9) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)  # fmt: skip
DECODERS = {
    "infer": lambda frame: native.decode_infer(frame, LIMITS),
    "response": lambda frame: native.decode_response(frame, "m", LIMITS),
    "call": native.decode_call,
    "reply": native.decode_reply,
    "hello": greeting.decode_hello,
    "welcome": greeting.decode_welcome,
}


@pytest.mark.parametrize("name", DECODERS)
class TestOnlyOurErrors:
    @given(head=st.binary(max_size=300), body=st.binary(max_size=64), kind=st.integers(0, 255))
    @settings(max_examples=150, deadline=None)
    def test_on_any_bytes(self, name: str, head: bytes, body: bytes, kind: int):
        self.decode(name, raw(kind, head, body))

    @given(head=TREES, body=TREES, kind=st.sampled_from(Kind))
    @settings(max_examples=150, deadline=None)
    def test_on_any_msgpack(self, name: str, head: Any, body: Any, kind: Kind):
        self.decode(name, raw(kind, pack(head), pack(body)))

    @staticmethod
    def decode(name: str, frame: Frame) -> None:
        with contextlib.suppress(EdgedError):
            DECODERS[name](frame)


@given(heads=HEADS, size=st.integers(0, 8), fill=st.integers(0, 255))
@settings(max_examples=400, deadline=None)
def test_tensors_are_what_the_head_says_or_refused(heads: list[Any], size: int, fill: int):
    frame = infer_frame(heads, bytes([fill]) * size * 8)
    try:
        request, _ = native.decode_infer(frame, LIMITS)
    except InvalidRequestError:
        return
    assert len(request.inputs) == len(heads)
    for name, dtype, shape in heads:
        array = request.inputs[name]
        assert (array.dtype.name, list(array.shape)) == (dtype, shape)


class TestDocument:
    """docs/protocol.md is enough to write a client from: its examples are real bytes."""

    def block(self, name: str) -> bytes:
        text = re.search(rf"```hex {name}\n(.*?)```", DOC.read_text(), re.DOTALL)
        assert text, f"docs/protocol.md has no example {name}"
        return bytes.fromhex("".join(line.partition("#")[0] for line in text[1].splitlines()))

    def test_request_example(self):
        request = InferRequest(
            "gate", {"x": np.array([[1.0, 2.0, -0.5]], np.float32), "on": np.array([True])}, 3
        )
        assert self.block("infer") == joined(native.encode_infer(7, request, 250_000))

    def test_result_example(self):
        response = InferResponse("gate", 3, 12, {"y": np.array([[0.25]])}, None, 1000, 9000, 1)
        assert self.block("result") == joined(native.encode_response(7, response))

    def test_error_example(self):
        error = QueueFullError("its queue is full", retry_after_ns=2_000_000)
        response = InferResponse("gate", 3, 12, error=error)
        assert self.block("error") == joined(native.encode_response(7, response))

    def test_call_and_reply_example(self):
        assert self.block("call") == joined(native.encode_call(8, "models", {}))
        assert self.block("reply") == joined(native.encode_reply(8, {"ok": True}))

    def test_names_every_kind_dtype_and_limit(self):
        text = DOC.read_text()
        for kind in Kind:
            assert re.search(rf"\| *{int(kind)} *\| *{kind.name} *\|", text), kind
        for entry in DTYPES.values():
            assert re.search(rf"\| *`{entry.name}` *\| *{entry.size_bytes} *\|", text), entry
        for number in (LIMITS.head_bytes, LIMITS.tensors, LIMITS.rank, native.NAME_CAP):
            assert f"{number}" in text.replace(",", ""), number


class TestPlaced:
    def test_the_example_is_what_is_read(self) -> None:
        text = re.search(r"```hex placed\n(.*?)```", DOC.read_text(), re.DOTALL)
        assert text is not None
        data = bytes.fromhex("".join(line.partition("#")[0] for line in text[1].splitlines()))
        (frame,) = FrameReader(Limits()).feed(data)
        told = []

        def read(what: str, region: int, offset: int, size: int) -> bytes:
            told.append((what, region, offset, size))
            return np.float32([1, 2, 3]).tobytes()

        request, timeout_us = native.decode_infer(frame, Limits(), read)
        assert told == [('"x"', 1, 64, 12)]
        assert (request.inputs["x"].tolist(), timeout_us) == ([[1, 2, 3]], 0)
        with pytest.raises(TensorMismatchError, match="none is lent here"):
            native.decode_infer(frame, Limits())
