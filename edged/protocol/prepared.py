"""Native protocol, prepared calls: how a layout is agreed once, and given up again.

PREPARE, PREPARED and FORGET have msgpack heads, as all frames of ``native.py``. The frames that a
layout is agreed for are in ``prepared_runs.py``. Full description: docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edged.errors import InvalidRequestError, TensorMismatchError
from edged.messages import PrepareRequest
from edged.protocol.frames import Buffer, Frame, Kind, Limits, encode_frame
from edged.protocol.layout import BodyLayout
from edged.protocol.native import NAME_CAP, check_release, decode_head, encode_head
from edged.tensors import ALL_DTYPES, BATCH, TensorSpec


class SpecHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One tensor of a layout; nil is an axis that each frame gives anew."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class PrepareHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of PREPARE."""

    model: str
    release: int | str | None
    inputs: list[SpecHead]
    outputs: tuple[str, ...] = ()


class PreparedHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of PREPARED: the handle for RUN, who would answer now, and what ANSWER will hold."""

    handle: int
    release: int
    generation: int
    outputs: list[SpecHead]


class ForgetHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of FORGET: a handle that will not be used again."""

    handle: int


_prepare_decoder = msgspec.msgpack.Decoder(PrepareHead)
_prepared_decoder = msgspec.msgpack.Decoder(PreparedHead)
_forget_decoder = msgspec.msgpack.Decoder(ForgetHead)


def encode_prepare(request_id: int, request: PrepareRequest) -> list[Buffer]:
    """A PREPARE frame."""
    head = PrepareHead(
        request.model, request.release, _spec_heads(request.inputs), tuple(request.outputs)
    )
    return encode_frame(Kind.PREPARE, request_id, encode_head(head), [])


def decode_prepare(frame: Frame, limits: Limits) -> PrepareRequest:
    """Read a PREPARE frame.

    Raises:
        InvalidRequestError: the head is malformed, or one row would not fit a frame.
    """
    head = decode_head(_prepare_decoder, frame)
    check_release(head.release)
    if len(head.inputs) > limits.tensors:
        raise InvalidRequestError(f"{len(head.inputs)} tensors; the limit is {limits.tensors}")
    specs = [_read_spec(spec, limits) for spec in head.inputs]
    if len({spec.name for spec in specs}) != len(specs):
        raise TensorMismatchError("a tensor's name occurs twice")
    layout = BodyLayout(specs)
    if (size := layout.body_bytes(1)) > limits.body_bytes:
        raise TensorMismatchError(
            f"one row takes {size} bytes; the limit is {limits.body_bytes} (limits.max_request)"
        )
    return PrepareRequest(head.model, layout.specs, head.release, head.outputs)


def encode_prepared(
    request_id: int, handle: int, release: int, generation: int, outputs: Sequence[TensorSpec]
) -> list[Buffer]:
    """A PREPARED frame."""
    head = PreparedHead(handle, release, generation, _spec_heads(outputs))
    return encode_frame(Kind.PREPARED, request_id, encode_head(head), [])


def decode_prepared(frame: Frame, limits: Limits) -> tuple[PreparedHead, BodyLayout | None]:
    """Read a PREPARED frame.

    Returns:
        Its head, and the layout of ANSWER frames; None when shapes of outputs are not known before
        the model ran, so that each answer is a RESULT frame.
    """
    head = decode_head(_prepared_decoder, frame)
    if any(None in spec.shape[1:] or spec.dtype == "string" for spec in head.outputs):
        return head, None
    return head, BodyLayout([_read_spec(spec, limits) for spec in head.outputs])


def read_outputs(head: PreparedHead) -> tuple[TensorSpec, ...]:
    """The outputs that were announced; an axis of no name is free."""
    return tuple(
        TensorSpec(
            spec.name,
            spec.dtype,
            tuple(
                axis if axis is not None else (BATCH if index == 0 else f"axis_{index}")
                for index, axis in enumerate(spec.shape)
            ),
        )
        for spec in head.outputs
    )


def answer_layout(outputs: Sequence[TensorSpec]) -> BodyLayout | None:
    """The layout of ANSWER frames; None when a shape is not known before the model ran."""
    for spec in outputs:
        axes = spec.shape[1:] if spec.is_batched else spec.shape
        if spec.dtype == "string" or not all(isinstance(axis, int) and axis for axis in axes):
            return None
    return BodyLayout(outputs)


def encode_forget(handle: int) -> list[Buffer]:
    """A FORGET frame; it has no answer."""
    return encode_frame(Kind.FORGET, 0, encode_head(ForgetHead(handle)), [])


def decode_forget(frame: Frame) -> int:
    """Read a FORGET frame; returns the handle."""
    return decode_head(_forget_decoder, frame).handle


def _spec_heads(specs: Sequence[TensorSpec]) -> list[SpecHead]:
    return [
        SpecHead(
            spec.name,
            spec.dtype,
            tuple(axis if isinstance(axis, int) and axis else None for axis in spec.shape),
        )
        for spec in specs
    ]


def _read_spec(head: SpecHead, limits: Limits) -> TensorSpec:
    if len(head.name) > NAME_CAP:
        raise TensorMismatchError(f'"{head.name[:64]}": the name is too long')
    if head.dtype == "string":
        raise TensorMismatchError(
            f'"{head.name}": strings have no fixed length, as a prepared call needs: ask by INFER'
        )
    if head.dtype not in ALL_DTYPES:
        raise TensorMismatchError(
            f'"{head.name}": unknown dtype "{head.dtype[:32]}"; expected one of '
            + ", ".join(ALL_DTYPES)
        )
    first, rest = head.shape[:1], head.shape[1:]
    numbers = [axis for axis in head.shape if axis is not None]
    if len(head.shape) > limits.rank or None in rest or any(axis < 1 for axis in numbers):
        raise TensorMismatchError(
            f'"{head.name}": shape {list(head.shape[:16])}; expected at most {limits.rank} axes, '
            "each 1 or more, and only the first one free"
        )
    axes = tuple(axis for axis in rest if axis is not None)
    return TensorSpec(head.name, head.dtype, (*(BATCH if a is None else a for a in first), *axes))
