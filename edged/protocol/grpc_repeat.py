"""Requests over gRPC that differ in tensors and id only: read once, then known by other bytes.

As ``http_repeat`` is for HTTP: a client asks one model for the same tensors again and again, so all
of its messages but the tensors repeat to the byte, and the id, which may be another one of the same
length. What was read of the first is used for the
others, and so is the head of the answer. Everything unusual goes the long way through
``oip_grpc``. No socket, clock or thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import numpy as np

from edged.errors import InvalidRequestError
from edged.messages import InferResponse
from edged.protocol.frames import Buffer
from edged.protocol.lane import Binds
from edged.protocol.layout import COPY_BYTES
from edged.protocol.oip_grpc import Inference, encode_infer
from edged.protocol.oip_messages import INFER_REQUEST
from edged.protocol.protobuf import decode
from edged.protocol.repeated import Field, Repeated, RepeatedLane, bytes_of, is_plain
from edged.tensors import TensorSpec

REPEAT_BYTES: Final = 64 << 10
"""What is larger takes longer to copy than to understand."""
_ID_BYTES: Final = 127
"""The length of such an id is one byte."""

_Kind = tuple[int, list[tuple[Any, tuple[int, ...]]]]
"""Who answered, and with tensors of which types and shapes."""


class GrpcRepeat(Repeated):
    """What is known of messages that are like one that was read; see ``repeat_of``.

    Args:
        message: that one.
        inference: what was read of it.
        fields: where its tensors lie.
        hole: where its id does.
    """

    def __init__(
        self,
        message: Buffer,
        inference: Inference,
        fields: tuple[Field, ...],
        hole: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(fields, len(message), inference.asked, hole)
        self.inference = inference
        kept: list[tuple[int, int, bytes]] = []
        at = 0
        others = [(one.offset, one.offset + one.elements * one.dtype.itemsize) for one in fields]
        for begin, end in sorted([*others, hole, (len(message), 0)]):
            kept.append((at, begin, bytes(message[at:begin])))
            at = max(at, end)
        self._kept = [entry for entry in kept if entry[2]]
        self._head: list[bytes] = []
        self._rest: list[bytes] = []
        self._headed: object = None

    def fits(self, message: Buffer) -> bool:
        """Whether a message is one of them."""
        if len(message) != self.size:
            return False
        # No generator: with that it takes twice as long.
        for start, end, same in self._kept:
            if message[start:end] != same:
                return False
        return not self.id_end or is_plain(message[self.id_at : self.id_end])

    def head(self, first: bytes) -> tuple[bytes, ...]:
        """The beginning of the answer to the message that was read; see ``around``."""
        return self.around(first, _before(self.asked.id))

    def answer(self, response: InferResponse, message: Buffer) -> list[Buffer]:
        """The answer to one of them; ``response`` is without an error.

        Args:
            response: to it.
            message: that one.
        """
        asked = self.inference.asked
        names = [one.name for one in asked.outputs] or list(response.outputs)
        arrays = [response.outputs[name] for name in names]
        kind = (response.release, [(array.dtype, array.shape) for array in arrays])
        if self._headed == kind:
            first, *others = arrays
            pieces: list[Buffer] = [*self._head, first.tobytes()]
            for head, array in zip(self._rest, others, strict=True):
                pieces += (head, array.tobytes())
            return [b"".join(self.filled(pieces, message))]
        parts = encode_infer(self.asked_by(message), response, {})
        if all(array.dtype.isnative and array.dtype.kind in "biuf" for array in arrays):
            self._learn(kind, encode_infer(asked, response, {}))
        return parts

    def _learn(self, kind: _Kind, parts: list[Buffer]) -> None:
        """Keep what answers of a kind have in common; ``parts`` are those of the message read."""
        # A head, and before each tensor its number of bytes.
        begin, *rest = (bytes(part) for part in (parts[0], *parts[1::2]))
        self._headed = None
        if rest and sum(len(memoryview(part).cast("B")) for part in parts[2::2]) <= COPY_BYTES:
            with suppress(InvalidRequestError):
                self._head, self._rest = [*self.head(begin + rest[0])], rest[1:]
                self._headed = kind


class GrpcLane(RepeatedLane):
    """The shortest way from such a message to its answer, for a client that is alone.

    Args:
        repeat: what is known of the messages.
        call: what they ask, prepared.
        outputs: what answers hold.
        releases: who may answer.

    Raises:
        InvalidRequestError: there is no lane for such messages, nor ever will be.
    """

    def __init__(
        self,
        repeat: GrpcRepeat,
        call: Binds,
        outputs: tuple[TensorSpec, ...],
        releases: Iterable[int],
    ) -> None:
        asked, model = repeat.inference.asked, repeat.inference.model
        super().__init__(repeat, outputs)
        made, self.answer_bytes = self.outputs, 0
        names = [one.name for one in asked.outputs] or list(made)
        answers: dict[int, list[Buffer]] = {}
        for release in releases:
            answer = encode_infer(asked, InferResponse(model, release, 0, made), {})
            parts: list[Buffer] = [*repeat.head(bytes(answer[0]))]
            for head, name in zip(answer[1::2], names, strict=True):
                parts += (bytes(head), bytes_of(made[name]))
            answers[release] = parts
            size = sum(map(len, parts)) + repeat.id_end - repeat.id_at
            self.answer_bytes = max(self.answer_bytes, size)
        self.bind(call, answers)


def repeat_of(message: Buffer, inference: Inference) -> GrpcRepeat | None:
    """What other messages could have in common with this one; None where it has no like."""
    asked = inference.asked
    if len(message) > REPEAT_BYTES or asked.sequence is not None or not asked.inputs:
        return None
    hole = _id_place(bytes(message), asked.id)
    if asked.id and not hole[1]:
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
    return GrpcRepeat(message, inference, tuple(fields), hole)


def _id_place(message: bytes, request_id: str) -> tuple[int, int]:
    """Where the id lies; nowhere where that is not sure."""
    whole = _before(request_id) + request_id.encode()
    begin = message.find(whole)
    if not request_id or len(request_id) > _ID_BYTES or message.count(whole) != 1:
        return 0, 0
    end = begin + len(whole)
    at = end - len(request_id)
    # Any other in its place is read as the id: then these bytes are it, and nothing inside a field.
    other = ("~" if request_id[0] != "~" else "!") * len(request_id)
    changed = message[:at] + other.encode() + message[end:]
    is_sure = is_plain(message[at:end]) and decode(INFER_REQUEST, changed).get("id") == other
    return (at, end) if is_sure else (0, 0)


def _before(request_id: str) -> bytes:
    """What stands before an id, in a request and in an answer."""
    return b"\x1a%c" % min(len(request_id), _ID_BYTES)
