"""Requests over gRPC that differ in their tensors only: read once, then known by their other bytes.

As ``http_repeat`` is for HTTP: a client asks one model for the same tensors again and again, so all
of its messages but the tensors repeat to the byte. What was read of the first is used for the
others, and so is the head of the answer. Everything unusual goes the long way through
``oip_grpc``. No socket, clock or thread.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edged.messages import InferResponse
from edged.protocol.frames import Buffer
from edged.protocol.lane import Binds
from edged.protocol.layout import COPY_BYTES
from edged.protocol.oip_grpc import Inference, encode_infer
from edged.protocol.repeated import Field, Repeated, RepeatedLane, bytes_of
from edged.tensors import TensorSpec

REPEAT_BYTES: Final = 64 << 10
"""What is larger takes longer to copy than to understand."""


class GrpcRepeat(Repeated):
    """What is known of messages that are like one that was read; see ``repeat_of``.

    Args:
        message: that one.
        inference: what was read of it.
        fields: where its tensors lie.
    """

    def __init__(self, message: Buffer, inference: Inference, fields: tuple[Field, ...]) -> None:
        super().__init__(fields, len(message), inference.asked)
        self.inference = inference
        kept: list[tuple[int, int, bytes]] = []
        at = 0
        for one in fields:
            kept.append((at, one.offset, bytes(message[at : one.offset])))
            at = one.offset + one.elements * one.dtype.itemsize
        kept.append((at, len(message), bytes(message[at:])))
        self._kept = [entry for entry in kept if entry[2]]
        self._head: list[bytes] = []
        self._headed: object = None

    def fits(self, message: Buffer) -> bool:
        """Whether a message is one of them."""
        if len(message) != self.size:
            return False
        # No generator: with that it takes twice as long.
        for start, end, same in self._kept:  # noqa: SIM110
            if message[start:end] != same:
                return False
        return True

    def answer(self, response: InferResponse) -> list[Buffer]:
        """The answer to one of them; ``response`` is without an error."""
        asked = self.inference.asked
        names = [one.name for one in asked.outputs] or list(response.outputs)
        arrays = [response.outputs[name] for name in names]
        kind = (response.release, [(array.dtype, array.shape) for array in arrays])
        if self._headed == kind:
            pieces: list[bytes] = []
            for head, array in zip(self._head, arrays, strict=True):
                pieces += (head, array.tobytes())
            return [b"".join(pieces)]
        parts = encode_infer(asked, response, {})
        if all(array.dtype.isnative and array.dtype.kind in "biuf" for array in arrays):
            # A head, and before each tensor its number of bytes.
            first, *rest = (bytes(part) for part in (parts[0], *parts[1::2]))
            self._head = [first + rest[0], *rest[1:]] if rest else []
            is_small = sum(array.nbytes for array in arrays) <= COPY_BYTES
            self._headed = kind if rest and is_small else None
        return parts


class GrpcLane(RepeatedLane):
    """The shortest way from such a message to its answer, for a client that is alone.

    Args:
        repeat: what is known of the messages.
        call: what they ask, prepared.
        outputs: what answers hold.
        release: who answers.

    Raises:
        InvalidRequestError: there is no lane for such messages, nor ever will be.
    """

    def __init__(
        self, repeat: GrpcRepeat, call: Binds, outputs: tuple[TensorSpec, ...], release: int
    ) -> None:
        asked, model = repeat.inference.asked, repeat.inference.model
        super().__init__(repeat, outputs)
        made = self.outputs
        answer = encode_infer(asked, InferResponse(model, release, 0, made), {})
        names = [one.name for one in asked.outputs] or list(made)
        parts: list[Buffer] = [bytes(answer[0])]
        for head, name in zip(answer[1::2], names, strict=True):
            parts += (bytes(head), bytes_of(made[name]))
        self.answer_bytes = sum(map(len, parts))
        self.bind(call, parts)


def repeat_of(message: Buffer, inference: Inference) -> GrpcRepeat | None:
    """What other messages could have in common with this one; None where it has no like."""
    asked = inference.asked
    if len(message) > REPEAT_BYTES or asked.id or asked.sequence is not None or not asked.inputs:
        return None
    if any(one.classes or one.place is not None for one in asked.outputs):
        return None
    if len(inference.raw) != len(asked.inputs):
        return None  # typed contents are not in the message as they are
    start = np.frombuffer(message, np.uint8).ctypes.data
    fields, at = [], 0
    for (name, array), raw in zip(asked.inputs.items(), inference.raw, strict=True):
        # Each byte of a bool is looked at.
        if array.dtype.kind not in "iuf" or not array.size:
            return None
        offset = np.frombuffer(raw, np.uint8).ctypes.data - start
        if not at <= offset <= len(message) - array.nbytes:
            return None
        at = offset + array.nbytes
        fields.append(Field(name, array.dtype, array.shape, array.size, offset))
    return GrpcRepeat(message, inference, tuple(fields))
