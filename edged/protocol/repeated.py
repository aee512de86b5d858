"""Requests that differ in their tensors only, over HTTP or gRPC: what both know of them.

Where the tensors lie in the bytes, and the memory that a run reads and writes of a client that is
alone. How such requests are told, and what stands around the tensors, is ``http_repeat``'s and
``grpc_repeat``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from edged.errors import InvalidRequestError
from edged.protocol.frames import Buffer
from edged.protocol.lane import Binds, LoneRun
from edged.protocol.layout import COPY_BYTES
from edged.tensors import DTYPES, Array, TensorSpec, aligned


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
    """

    def __init__(self, fields: Sequence[Field], size: int) -> None:
        self.fields = tuple(fields)
        self.size = size
        self.specs = tuple(TensorSpec(one.name, one.dtype.name, one.shape) for one in fields)

    def inputs(self, data: Buffer) -> dict[str, Array]:
        """Its tensors, as views where their elements are at addresses of their own size."""
        return {
            name: aligned(np.frombuffer(data, dtype, elements, offset).reshape(shape))
            for name, dtype, shape, elements, offset in self.fields
        }


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
        self._answer: tuple[Buffer, ...] = ()
        self._run: LoneRun | None = None

    def bind(self, call: Binds, answer: Sequence[Buffer]) -> None:
        """Have it run.

        Args:
            call: what the requests ask, prepared.
            answer: its pieces; those that are tensors are the memory of ``outputs``.
        """
        self._answer = tuple(answer)
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
        return None if run.run(origin) is None else b"".join(self._answer)


def fixed_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of an output; raises InvalidRequestError where it is only known after a run."""
    shape = tuple(axis for axis in spec.shape if isinstance(axis, int))
    if len(shape) != len(spec.shape):
        raise InvalidRequestError(f'"{spec.name}" has a free axis')
    return shape


def bytes_of(array: Array) -> memoryview:
    """The memory of one that is dense."""
    return array.reshape(-1).view(np.uint8).data
