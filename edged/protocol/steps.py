"""Native protocol, requests to a model that keeps state: STEP to messages and back.

STEP asks as INFER does and names the sequence that it belongs to. One without tensors that ends its
sequence runs nothing. RESULT or ERROR answers it. Full description: docs/protocol.md.
"""

from __future__ import annotations

import uuid
from typing import Generic

import msgspec

from edged.errors import InvalidRequestError
from edged.messages import SequencedRequest, SequenceStep
from edged.protocol.frames import Buffer, Frame, Kind, Limits, encode_frame
from edged.protocol.native import (
    NAME_CAP,
    AskedHead,
    H,
    Read,
    check_release,
    decode_head,
    encode_head,
    pack,
    unpack,
)


class StepHead(msgspec.Struct, Generic[H], array_like=True, frozen=True, gc=False):
    """Head of STEP: that of INFER, and the sequence."""

    model: str
    release: int | str | None
    tensors: list[H]
    outputs: tuple[str, ...]
    timeout_us: int
    sequence: int | str
    start: bool = False
    end: bool = False


_decoder = msgspec.msgpack.Decoder(StepHead[AskedHead])


def encode_step(request_id: int, request: SequencedRequest, timeout_us: int = 0) -> list[Buffer]:
    """A STEP frame; as ``native.encode_infer``."""
    tensors, body = pack(request.inputs)
    step = request.sequence
    head = StepHead(
        request.model, request.release, tensors, request.outputs, timeout_us,
        step.id, step.start, step.end,
    )  # fmt: skip
    return encode_frame(Kind.STEP, request_id, encode_head(head), body)


def decode_step(
    frame: Frame, limits: Limits, read: Read | None = None
) -> tuple[SequencedRequest, int]:
    """Read a STEP frame; as ``native.decode_infer``.

    Raises:
        InvalidRequestError: the head is malformed or the tensors do not add up to the body.
    """
    head = decode_head(_decoder, frame)
    check_release(head.release)
    if head.timeout_us < 0:
        raise InvalidRequestError(f"timeout {head.timeout_us} us: expected 0 (none) or more")
    check_sequence(head.sequence)
    request = SequencedRequest(
        head.model, unpack(head.tensors, frame.body, limits, read), head.release, head.outputs,
        sequence=SequenceStep(head.sequence, head.start, head.end),
    )  # fmt: skip
    return request, head.timeout_us


def check_sequence(sequence: int | str) -> None:
    """Refuse an id that is none.

    Raises:
        InvalidRequestError: says what was expected.
    """
    is_good = 0 < len(sequence) <= NAME_CAP if isinstance(sequence, str) else sequence >= 0
    if not is_good:
        shown = str(sequence)[:64]
        raise InvalidRequestError(
            f'sequence "{shown}": expected a text of 1 to {NAME_CAP} characters, or a number from 0'
        )


def new_sequence() -> str:
    """An id that no other process of this user comes upon."""
    return uuid.uuid4().hex
