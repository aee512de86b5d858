"""Requests over HTTP of one kind that several connections send at once: one run for all of them.

Each is as in ``http_repeat``: known by its first bytes, and by how long it is. The tensors of all
are laid one behind the other, run together, and each answer is a head that is known and its rows.
No socket, clock or thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from edged.errors import InvalidRequestError
from edged.messages import InferResponse
from edged.protocol.http_answer import JOIN_BYTES
from edged.protocol.http_repeat import HttpRepeat, whole_answer
from edged.protocol.lane import BindsShared, SharedRun
from edged.protocol.layout import COPY_BYTES
from edged.protocol.repeated import bytes_of, fixed_shape
from edged.tensors import DTYPES, Array

_MOST_BYTES: Final = 256 << 10
"""Of all tensors that are laid together, one way: more does not stay in a core's cache."""


class HttpGather:
    """Memory for requests of one kind, and the runs from it.

    Args:
        repeat: what is known of the requests.
        call: what they ask, prepared.
        model: as the answers call it.

    Raises:
        InvalidRequestError: such requests are not run together.
    """

    def __init__(self, repeat: HttpRepeat, call: BindsShared, model: str) -> None:
        self.repeat = repeat
        self._call = call
        outputs, release = call.outputs, call.release
        if any(spec.dtype not in DTYPES for spec in outputs):
            raise InvalidRequestError("what has no NumPy numbers is not bound")
        shapes = {one.name: one.shape for one in repeat.fields}
        shapes |= {spec.name: fixed_shape(spec) for spec in outputs}
        firsts = {shape[0] if shape else 0 for shape in shapes.values()}
        self._rows = firsts.pop()
        made = {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in outputs}
        size = sum(array.nbytes for array in made.values())
        if firsts or not self._rows or not 0 < size <= min(COPY_BYTES, JOIN_BYTES):
            raise InvalidRequestError("each request has as many rows as its answer, and few")
        self.most = min(call.gathers // self._rows, _MOST_BYTES // max(repeat.size, size))
        if self.most < 2:
            raise InvalidRequestError("they are too large to run together")

        self._inputs = {
            one.name: np.zeros((self.most * self._rows, *one.shape[1:]), one.dtype)
            for one in repeat.fields
        }
        self._outputs = {
            name: np.zeros((self.most * self._rows, *array.shape[1:]), array.dtype)
            for name, array in made.items()
        }
        self._places: list[tuple[Array, int, int]] = []
        for one in repeat.fields:
            room = self._inputs[one.name].reshape(self.most, -1).view(np.uint8)
            self._places.append((room, one.offset, one.offset + room.shape[1]))
        answer = whole_answer(repeat.asked, InferResponse(model, release, 0, made), {})
        head = repeat.head(answer, size)
        names = [one.name for one in repeat.asked.outputs] or list(made)
        parts = [_pieces(self._outputs[name], self.most) for name in names]
        self._answers = [(*head, *pieces) for pieces in zip(*parts, strict=True)]
        self._runs: dict[int, SharedRun | None] = {}

    def ask(self, requests: Sequence[bytes], askers: Sequence[tuple[str, int]]) -> int:
        """Run up to ``most`` requests that fit.

        Args:
            requests: as they arrived.
            askers: whose each is, and since when.

        Returns:
            How long it took, nanoseconds; 0 when each of them has to go the usual way.
        """
        count = len(requests)
        run = self._runs.get(count)
        if run is None or not run.is_current:
            run = self._runs[count] = self._bound(count)
            if run is None:
                return 0
        laid = np.frombuffer(b"".join(requests), np.uint8).reshape(count, self.repeat.size)
        for room, start, end in self._places:
            room[:count] = laid[:, start:end]
        return run.run_for(askers)

    def answer(self, place: int, request: bytes) -> bytes:
        """What the request at this place in the last run is answered."""
        return b"".join(self.repeat.filled(self._answers[place], request))

    def _bound(self, count: int) -> SharedRun | None:
        rows = count * self._rows
        inputs = {name: array[:rows] for name, array in self._inputs.items()}
        outputs = {name: array[:rows] for name, array in self._outputs.items()}
        return self._call.bind(inputs, outputs, rows)


def _pieces(array: Array, count: int) -> list[memoryview]:
    """Its bytes, in so many pieces of the same length."""
    data = bytes_of(array)
    size = len(data) // count
    return [data[at * size : (at + 1) * size] for at in range(count)]
