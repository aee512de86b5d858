"""Native protocol, several answers to one request: STREAM, PART and MORE to messages and back.

STREAM asks as INFER does and says how many answers may be on their way unread; each PART is one of
them, in order; MORE says that so many were read. RESULT or ERROR ends it, as they end any request.
Full description: docs/protocol.md.
"""

from __future__ import annotations

from typing import Generic

import msgspec

from edged.errors import InvalidRequestError, RemoteProtocolError
from edged.flow import MOST_AHEAD
from edged.messages import InferRequest, InferResponse
from edged.protocol.frames import Buffer, Frame, Kind, Limits, encode_frame
from edged.protocol.keys import check_key
from edged.protocol.native import (
    AskedHead,
    H,
    Read,
    TensorHead,
    check_release,
    decode_head,
    encode_head,
    pack,
    unpack,
)

AHEAD = 16
"""What clients leave unread unless they say otherwise: a way there and back takes microseconds."""


class StreamHead(msgspec.Struct, Generic[H], array_like=True, frozen=True, gc=False):
    """Head of STREAM: that of INFER, and how many answers may be unread."""

    model: str
    release: int | str | None
    tensors: list[H]
    outputs: tuple[str, ...] = ()
    timeout_us: int = 0
    ahead: int = AHEAD


class KeyedStreamHead(StreamHead[H], array_like=True, frozen=True, gc=False):
    """Head of STREAM with a key, as ``native.KeyedHead``."""

    key: str | None = None


class PartHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of PART: one answer; more follow."""

    release: int
    generation: int
    tensors: list[TensorHead]
    index: int


class MoreHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of MORE: so many more answers may be sent."""

    count: int


_stream_decoder = msgspec.msgpack.Decoder(KeyedStreamHead[AskedHead])
_part_decoder = msgspec.msgpack.Decoder(PartHead)
_more_decoder = msgspec.msgpack.Decoder(MoreHead)


def encode_stream(
    request_id: int, request: InferRequest, timeout_us: int = 0, ahead: int = AHEAD
) -> list[Buffer]:
    """A STREAM frame."""
    tensors, body = pack(request.inputs)
    what = (request.model, request.release, tensors, request.outputs, timeout_us, ahead)
    key = request.asker
    head = KeyedStreamHead(*what, key) if isinstance(key, str) else StreamHead(*what)
    return encode_frame(Kind.STREAM, request_id, encode_head(head), body)


def decode_stream(
    frame: Frame, limits: Limits, read: Read | None = None
) -> tuple[InferRequest, int, int]:
    """Read a STREAM frame; ``read`` as for ``native.decode_infer``.

    Returns:
        The request, without deadline and origin; the timeout in microseconds (0 = none); how many
        answers may be unread.

    Raises:
        InvalidRequestError: the head is malformed or the tensors do not add up to the body.
    """
    head = decode_head(_stream_decoder, frame)
    check_release(head.release)
    if head.timeout_us < 0:
        raise InvalidRequestError(f"timeout {head.timeout_us} us: expected 0 (none) or more")
    check_count(head.ahead, "answers ahead")
    if head.key is not None:
        check_key(head.key)
    inputs = unpack(head.tensors, frame.body, limits, read)
    request = InferRequest(head.model, inputs, head.release, head.outputs, asker=head.key)
    return request, head.timeout_us, head.ahead


def encode_part(request_id: int, response: InferResponse, index: int) -> list[Buffer]:
    """A PART frame.

    Raises:
        LocalProtocolError: a tensor that the protocol does not carry.
    """
    tensors, body = pack(response.outputs)
    head = PartHead(response.release, response.generation, tensors, index)
    return encode_frame(Kind.PART, request_id, encode_head(head), body)


def decode_part(frame: Frame, model: str, limits: Limits) -> tuple[InferResponse, int]:
    """Read a PART frame; ``model`` is what the request named. Returns the answer and its index."""
    if frame.kind != Kind.PART:
        raise RemoteProtocolError(f"expected a PART frame, got kind {frame.kind}")
    head = decode_head(_part_decoder, frame)
    outputs = unpack(head.tensors, frame.body, limits)
    return InferResponse(model, head.release, head.generation, outputs), head.index


def encode_more(request_id: int, count: int) -> list[Buffer]:
    """A MORE frame."""
    return encode_frame(Kind.MORE, request_id, encode_head(MoreHead(count)), [])


def decode_more(frame: Frame) -> int:
    """Read a MORE frame."""
    count = decode_head(_more_decoder, frame).count
    check_count(count, "more answers")
    return count


def check_count(count: int, what: str) -> None:
    """Refuse a number of answers that is none.

    Raises:
        InvalidRequestError: says what was expected.
    """
    if not 1 <= count <= MOST_AHEAD:
        raise InvalidRequestError(f"{count} {what}: expected 1 to {MOST_AHEAD}")
