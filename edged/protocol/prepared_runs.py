"""Native protocol, prepared calls: RUN and ANSWER, frames of a layout that was agreed before.

Their heads are fixed, so that both ends read and write them with a single call; the tensors' places
follow from the layout (``prepared.py``) and the rows alone::

    RUN     32  4  handle            ANSWER  32  8  release
            36  4  rows                      40  8  generation
            40  8  timeout_us                48  8  queue_ns
            48  -  key, or body              56  8  run_ns
                                             64  4  rows
                                             68  4  batch_rows
                                             72  -  body

Full description: docs/protocol.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from edged.errors import InvalidRequestError, TensorMismatchError
from edged.messages import InferResponse
from edged.protocol.frames import HEADER_BYTES, MAGIC, VERSION, Buffer, Frame, Kind, padding
from edged.protocol.keys import check_key, read_key
from edged.protocol.layout import COPY_BYTES, BodyLayout
from edged.tensors import Array

RUN_FRAME = struct.Struct("<8sQIIQ IIQ")
_RUN_HEAD = struct.Struct("<IIQ")
ANSWER_FRAME = struct.Struct("<8sQIIQ QQQQII")
_ANSWER_HEAD = struct.Struct("<QQQQII")
RUN_HEAD_BYTES, ANSWER_HEAD_BYTES = _RUN_HEAD.size, _ANSWER_HEAD.size
RUN_BODY = HEADER_BYTES + RUN_HEAD_BYTES
ANSWER_BODY = HEADER_BYTES + ANSWER_HEAD_BYTES
"""Where the tensors begin."""
RUN_START = MAGIC + bytes([VERSION, Kind.RUN, 0, 0])
ANSWER_START = MAGIC + bytes([VERSION, Kind.ANSWER, 0, 0])
"""The first eight bytes of a header: what never differs is not packed anew."""
_U32 = 1 << 32
PeekedRun = tuple[int, int, int, int, int, int, "str | None"]
"""Of a RUN frame: request id, handle, rows, bytes of the body, timeout in microseconds, where the
body begins, and the key."""


class RunHead(NamedTuple):
    """Head of RUN: ``rows`` is the free axis, 0 where the layout has none."""

    handle: int
    rows: int
    timeout_us: int
    key: str | None = None


def encode_run(
    request_id: int, head: RunHead, layout: BodyLayout, tensors: Mapping[str, Array]
) -> list[Buffer]:
    """A RUN frame.

    Raises:
        TensorMismatchError: the tensors are not of the layout; nothing would be sent.
    """
    handle, rows, timeout_us, key = head
    if len(tensors) != len(layout.specs) or (rows == 0 and layout.has_rows):
        raise TensorMismatchError(layout.describe_mismatch(tensors))
    packed = layout.pack(tensors, rows)
    if packed is None:
        raise TensorMismatchError(layout.describe_mismatch(tensors))
    body, size = packed
    start = RUN_FRAME.pack(RUN_START, request_id, RUN_HEAD_BYTES, 0, size, handle, rows, timeout_us)
    if key is not None:
        start = keyed(start, key)
    return _whole(start, body, size)


def keyed(frame: bytes, key: str) -> bytes:
    """A RUN frame, with its body or without, with a key put into its head.

    Raises:
        InvalidRequestError: the key is empty or too long.
    """
    check_key(key)
    words = key.encode()
    head_bytes = (RUN_HEAD_BYTES + len(words)).to_bytes(4, "little")
    gap = bytes(padding(RUN_BODY + len(words)))
    return b"".join((frame[:16], head_bytes, frame[20:RUN_BODY], words, gap, frame[RUN_BODY:]))


def decode_run_head(frame: Frame) -> RunHead:
    """Read the head of a RUN frame: fixed, and a key behind it where there is one.

    Raises:
        InvalidRequestError: it is too short, or its key is none.
    """
    size = frame.head_bytes
    if size < RUN_HEAD_BYTES:
        raise InvalidRequestError(
            f"a head of {size} bytes; that of RUN has {RUN_HEAD_BYTES}, and those of its key"
        )
    head = RunHead(*_RUN_HEAD.unpack_from(frame.data, HEADER_BYTES))
    if size == RUN_HEAD_BYTES:
        return head
    return head._replace(key=read_key(memoryview(frame.data)[RUN_BODY : HEADER_BYTES + size]))


def body_at(frame: Frame) -> int:
    """Where the body of a RUN frame begins."""
    end = HEADER_BYTES + frame.head_bytes
    return end + padding(end)


def peek_run(data: Buffer, count: int) -> PeekedRun | None:
    """Read a RUN frame where it arrived, when its ``count`` bytes are one to the byte.

    Returns:
        None for anything else, also for what is wrong: the usual way says so.
    """
    if count < RUN_BODY:
        return None
    start, request_id, head_bytes, reserved, size, handle, rows, timeout_us = RUN_FRAME.unpack_from(
        data
    )
    if start != RUN_START or reserved or not request_id:
        return None
    if head_bytes == RUN_HEAD_BYTES:
        if size != count - RUN_BODY:
            return None
        return request_id, handle, rows, size, timeout_us, RUN_BODY, None
    end = HEADER_BYTES + head_bytes
    at = end + padding(end)
    if head_bytes < RUN_HEAD_BYTES or size != count - at:
        return None
    try:
        key = read_key(memoryview(data)[RUN_BODY:end])
    except InvalidRequestError:
        return None
    return request_id, handle, rows, size, timeout_us, at, key


def write_answer_head(
    answer: bytearray, request_id: int, ran: tuple[int, int, int, int], head: tuple[int, int]
) -> None:
    """Write header and head of an ANSWER frame in front of its body.

    Args:
        answer: the whole frame; the body lies from ANSWER_BODY on.
        request_id: of the question.
        ran: release, generation, nanoseconds of the run, and the rows that ran, which a question
            of a fixed layout does not say; it waited for nothing.
        head: bytes of the body, and its rows.
    """
    size, rows = head
    release, generation, run_ns, batch_rows = ran
    ANSWER_FRAME.pack_into(
        answer, 0, ANSWER_START, request_id, ANSWER_HEAD_BYTES, 0, size,
        release, generation, 0, run_ns, rows, batch_rows,
    )  # fmt: skip


def decode_run_body(
    data: Buffer, layout: BodyLayout, rows: int, at: int = RUN_BODY
) -> dict[str, Array]:
    """View the body of a RUN frame as tensors of its layout.

    Args:
        data: the whole frame; its memory is the tensors'.
        layout: as prepared.
        rows: of its head.
        at: where the body begins.

    Raises:
        TensorMismatchError: as BodyLayout.unpack.
    """
    return layout.unpack(data, at, rows)


def encode_answer(
    request_id: int, response: InferResponse, layout: BodyLayout, rows: int
) -> list[Buffer] | None:
    """An ANSWER frame, or None when the outputs are not of the layout that was announced."""
    outputs = response.outputs
    rows = rows if layout.has_rows else 0
    if len(outputs) != len(layout.specs) or response.batch_rows >= _U32:
        return None
    form = layout.form(rows, ANSWER_FRAME)
    if form is not None:
        parts = layout.parts(outputs, rows)
        if parts is None:
            return None
        whole = form.pack(
            ANSWER_START, request_id, ANSWER_HEAD_BYTES, 0, layout.body_bytes(rows),
            response.release, response.generation, response.queue_ns, response.run_ns,
            rows, response.batch_rows, *parts,
        )  # fmt: skip
        return [whole]
    packed = layout.pack(outputs, rows)
    if packed is None:
        return None
    body, size = packed
    start = ANSWER_FRAME.pack(
        ANSWER_START, request_id, ANSWER_HEAD_BYTES, 0, size,
        response.release, response.generation, response.queue_ns, response.run_ns,
        rows, response.batch_rows,
    )  # fmt: skip
    return _whole(start, body, size)


def decode_answer(frame: Frame, model: str, layout: BodyLayout) -> InferResponse:
    """Read an ANSWER frame by the layout that was announced."""
    if frame.head_bytes != ANSWER_HEAD_BYTES:
        raise InvalidRequestError(
            f"a head of {frame.head_bytes} bytes; that of ANSWER has {ANSWER_HEAD_BYTES}"
        )
    release, generation, queue_ns, run_ns, rows, batch_rows = _ANSWER_HEAD.unpack_from(
        frame.data, HEADER_BYTES
    )
    outputs = layout.unpack(frame.data, ANSWER_BODY, rows)
    return InferResponse(model, release, generation, outputs, None, queue_ns, run_ns, batch_rows)


def _whole(start: bytes, body: list[Buffer], size: int) -> list[Buffer]:
    return [b"".join((start, *body))] if size <= COPY_BYTES else [start, *body]
