"""Requests that differ in tensors and id only, over HTTP or gRPC: what both know of them.

Where the tensors lie in the bytes, and the memory that a run reads and writes of a client that is
alone. How such requests are told, and what stands around the tensors, is ``http_repeat``'s and
``grpc_repeat``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from edged.errors import InvalidRequestError
from edged.messages import Asker
from edged.protocol.frames import Buffer
from edged.protocol.lane import Binds, LoneRun
from edged.protocol.layout import COPY_BYTES
from edged.protocol.oip_request import Asked
from edged.tensors import DTYPES, Array, TensorSpec, aligned

_PLAIN: Final = bytes(letter for letter in range(32, 127) if letter not in b'"\\')


class Field(NamedTuple):
    """Where one tensor lies."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    elements: int
    offset: int


class Repeated:
    """What is known of such requests.

    Args:
        fields: their tensors.
        size: of a whole one.
        asked: what one of them asks for.
        hole: where each has an id of its own; nowhere when it ends at 0.
    """

    def __init__(
        self, fields: Sequence[Field], size: int, asked: Asked, hole: tuple[int, int] = (0, 0)
    ) -> None:
        self.fields = tuple(fields)
        self.size = size
        self.asked = asked
        self.id_at, self.id_end = hole
        self.specs = tuple(TensorSpec(one.name, one.dtype.name, one.shape) for one in fields)

    def inputs(self, data: Buffer) -> dict[str, Array]:
        """Its tensors, as views where their elements are at addresses of their own size."""
        return {
            name: aligned(np.frombuffer(data, dtype, elements, offset).reshape(shape))
            for name, dtype, shape, elements, offset in self.fields
        }

    def asker(self, data: Buffer) -> Asker:
        """What such a request says of who asks, where each says it for itself."""
        if not self.id_end:
            return None
        return {"id": self._id_of(data), **(self.asked.parameters or {})}

    def asked_by(self, data: Buffer) -> Asked:
        """What it asks for."""
        return replace(self.asked, id=self._id_of(data)) if self.id_end else self.asked

    def _id_of(self, data: Buffer) -> str:
        return bytes(data[self.id_at : self.id_end]).decode("ascii")

    def around(self, head: bytes, begin: bytes) -> tuple[bytes, ...]:
        """An answer's head: what goes before an id, and behind it; one piece where all share one.

        Args:
            head: to the request that ``asked`` is of.
            begin: what stands before the id in it.

        Raises:
            InvalidRequestError: something else in it reads like that.
        """
        if not self.id_end:
            return (head,)
        request_id = self.asked.id.encode()
        parts = head.split(begin + request_id)
        if len(parts) != 2:
            raise InvalidRequestError("something else in the answer reads as the id")
        return parts[0] + begin, parts[1]

    def filled(self, around: Sequence[Buffer], data: Buffer) -> tuple[Buffer, ...]:
        """The pieces of an answer to such a request; those that ``around`` gave come first."""
        if not self.id_end:
            return tuple(around)
        return around[0], data[self.id_at : self.id_end], *around[1:]


class RepeatedLane:
    """The shortest way from such a request to its answer, for a client that is alone.

    Args:
        repeated: what is known of the requests.
        outputs: what answers hold.
        most_bytes: of an answer's tensors.

    Raises:
        InvalidRequestError: there is no lane for such requests, nor ever will be.
    """

    def __init__(
        self, repeated: Repeated, outputs: Sequence[TensorSpec], most_bytes: int = COPY_BYTES
    ) -> None:
        if any(spec.dtype not in DTYPES for spec in outputs):
            raise InvalidRequestError("what has no NumPy numbers is not bound")
        shapes = {spec.name: fixed_shape(spec) for spec in outputs}
        self.inputs = {one.name: np.empty(one.shape, one.dtype) for one in repeated.fields}
        self.outputs = {spec.name: np.empty(shapes[spec.name], spec.dtype) for spec in outputs}
        self.output_bytes = sum(array.nbytes for array in self.outputs.values())
        if not 0 < self.output_bytes <= most_bytes or repeated.size > 2 * COPY_BYTES:
            raise InvalidRequestError("what is large is not copied")
        self._places = [
            (bytes_of(self.inputs[one.name]), one.offset, one.offset + self.inputs[one.name].nbytes)
            for one in repeated.fields
        ]
        self._repeated = repeated
        self._answers: dict[int, tuple[Buffer, ...]] = {}
        self._run: LoneRun | None = None

    def bind(self, call: Binds, answers: Mapping[int, Sequence[Buffer]]) -> None:
        """Have it run.

        Args:
            call: what the requests ask, prepared.
            answers: the pieces of one by each release that may answer, those of
                ``Repeated.around`` first; those that are tensors are the memory of ``outputs``.
        """
        self._answers = {release: tuple(pieces) for release, pieces in answers.items()}
        self._run = call.bind(self.inputs, self.outputs, 0)

    @property
    def is_current(self) -> bool:
        """Whether it may be used again; otherwise another one has to be made."""
        return self._run is not None and self._run.is_current

    def ask(self, data: Buffer, origin: str) -> bytes | None:
        """Answer a request that fits, or return None when that has to go the usual way.

        Raises:
            StillRunningError: it runs in a worker and is to be adopted.
        """
        run = self._run
        if run is None:
            return None
        for memory, start, end in self._places:
            memory[:] = data[start:end]
        repeated = self._repeated
        ran = run.run(origin, repeated.asker(data) if repeated.id_end else None)
        if ran is None:
            return None
        answer = self._answers[ran[0]]
        return b"".join(repeated.filled(answer, data) if repeated.id_end else answer)


def is_plain(text: Buffer) -> bool:
    """Whether an id has only letters that JSON writes as they are."""
    return not bytes(text).translate(None, _PLAIN)


def fixed_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of an output; raises InvalidRequestError where it is only known after a run."""
    shape = tuple(axis for axis in spec.shape if isinstance(axis, int))
    if len(shape) != len(spec.shape):
        raise InvalidRequestError(f'"{spec.name}" has a free axis')
    return shape


def bytes_of(array: Array) -> memoryview:
    """The memory of one that is dense."""
    return array.reshape(-1).view(np.uint8).data
