"""Frames of the native protocol, in pieces or whole."""

from __future__ import annotations

import contextlib

import msgspec
import numpy as np

from edged.errors import EdgedError, InvalidRequestError, RemoteProtocolError
from edged.messages import (
    InferRequest,
    InferResponse,
    PrepareRequest,
    SequencedRequest,
    SequenceStep,
)
from edged.protocol import greeting, native, prepared, prepared_runs, steps, streams
from edged.protocol.frames import Frame, FrameReader, Kind, Limits, encode_frame
from edged.protocol.layout import BodyLayout
from edged.tensors import TensorSpec

_LIMITS = Limits(body_bytes=1 << 20)


_SPECS = (TensorSpec("x", "float32", ("batch", 4)), TensorSpec("on", "bool", ("batch",)))


_LAYOUT = BodyLayout(_SPECS)


def _run_body(frame: Frame) -> None:
    """A body that is accepted has as many bytes as its rows take."""
    rows = prepared_runs.decode_run_head(frame).rows
    got = prepared_runs.decode_run_body(frame.data, _LAYOUT, rows)
    assert (got["x"].shape, got["on"].shape) == ((rows, 4), (rows,))
    assert len(frame.body) == _LAYOUT.body_bytes(rows)


def _lent(what: str, region: int, offset: int, size: int) -> bytes:
    """A region of 4 KiB; nothing else is ever asked for, and nothing that no body could hold."""
    assert 0 <= size <= _LIMITS.body_bytes
    if region != 1 or not 0 <= offset <= 4096 - size:
        raise InvalidRequestError(f"{what}: no such place")
    return bytes(size)


_PLACED = ["gate", None, [["x", "float32", [2, 4], [1, 64]], ["on", "bool", [1]]], [], 0]


_DECODERS = {
    Kind.HELLO: greeting.decode_hello,
    Kind.WELCOME: greeting.decode_welcome,
    Kind.INFER: lambda frame: native.decode_infer(frame, _LIMITS, _lent),
    Kind.RESULT: lambda frame: native.decode_response(frame, "m", _LIMITS),
    Kind.ERROR: native.decode_reply,
    Kind.CALL: native.decode_call,
    Kind.REPLY: native.decode_reply,
    Kind.PREPARE: lambda frame: prepared.decode_prepare(frame, _LIMITS),
    Kind.PREPARED: lambda frame: prepared.decode_prepared(frame, _LIMITS),
    Kind.RUN: _run_body,
    Kind.ANSWER: lambda frame: prepared_runs.decode_answer(frame, "m", _LAYOUT),
    Kind.FORGET: prepared.decode_forget,
    Kind.STREAM: lambda frame: streams.decode_stream(frame, _LIMITS, _lent),
    Kind.PART: lambda frame: streams.decode_part(frame, "m", _LIMITS),
    Kind.MORE: streams.decode_more,
    Kind.STEP: lambda frame: steps.decode_step(frame, _LIMITS, _lent),
}


def _frames(pieces: list[bytes]) -> list[tuple[object, ...]]:
    """What a reader makes of a stream: its frames, and the error that ended it."""
    reader = FrameReader(_LIMITS)
    found: list[tuple[object, ...]] = []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                found.append((frame.kind, frame.request_id, bytes(frame.head), bytes(frame.body)))
                decode = _DECODERS.get(frame.kind)
                if decode is not None:
                    with contextlib.suppress(EdgedError):
                        decode(frame)
            reader.check()
    except RemoteProtocolError as exc:
        found.append((exc.message,))
    return found


def run_frames(data: bytes) -> None:
    """The first byte says how the rest is cut; the cuts must not change what is read."""
    if not data:
        return
    step, stream = data[0] + 1, data[1:]
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert _frames(pieces) == _frames([stream])


def seed_frames() -> list[bytes]:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    request = InferRequest("gate", {"x": rows, "on": np.array([True])}, 3, ("y",))
    response = InferResponse("gate", 3, 12, {"y": rows}, None, 1, 2, 3)
    step = SequencedRequest("gate", {"x": rows}, sequence=SequenceStep("mic", start=True))
    both = {"x": rows, "on": np.array([True, False])}
    failed = InferResponse("gate", 3, 12, error=RemoteProtocolError("no"))
    messages = [
        greeting.encode_hello("camera"),
        greeting.encode_welcome("edged", _LIMITS, 16),
        native.encode_infer(7, request, 250),
        encode_frame(Kind.INFER, 7, msgspec.msgpack.encode(_PLACED), [bytes(8)]),
        native.encode_response(7, response),
        native.encode_response(7, failed),
        streams.encode_stream(8, request, 250, 4),
        streams.encode_part(8, response, 0),
        streams.encode_more(8, 2),
        steps.encode_step(8, step, 250),
        native.encode_call(8, "status", {"model": "m", "n": [1, {"a": None}]}),
        native.encode_reply(8, {"models": [{"name": "m", "ready": True}]}),
        prepared.encode_prepare(9, PrepareRequest("gate", _SPECS, "champion", ("y",))),
        prepared.encode_prepared(9, 1, 3, 12, _SPECS),
        prepared_runs.encode_run(9, prepared_runs.RunHead(1, 2, 250), _LAYOUT, both),
        prepared_runs.encode_answer(9, InferResponse("gate", 3, 12, both), _LAYOUT, 2) or [],
        native.encode_cancel(9),
        prepared.encode_forget(1),
    ]
    frames = [b"".join(buffers) for buffers in messages]
    return [b"\x00" + frame for frame in frames] + [b"\x1f" + b"".join(frames)]
