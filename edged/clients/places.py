"""Memory of a client that prepared calls are bound to: where its tensors lie, for either client.

Decides what goes by memory and how it lies; no socket is seen here.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from edged.clients.copies import leave_in_copies
from edged.errors import InvalidRequestError, RemoteProtocolError
from edged.protocol import native, prepared_runs
from edged.protocol.asking import Plan
from edged.protocol.conversation import InferResult
from edged.protocol.frames import Buffer, Frame, Kind
from edged.protocol.layout import COPY_BYTES, BodyLayout
from edged.protocol.memory import ALIGNED, BindHead, Source, Target
from edged.system.shm import make_memory
from edged.tensors import Array

LARGE_BYTES = 64 << 10
"""From so many bytes of inputs on, a copy into memory that the daemon has is cheaper than the two
of the socket; see benchmarks/README.md, ``native-frame``."""
MOST_BYTES = 64 << 20
"""More is not lent unasked: a connection may lend ``limits.max_shared``, four times this."""


LEND_AGAIN_S = (0.001, 0.004, 0.016, 0.064, 0.256)
"""When memory that was lent on a connection which has ended is lent again: the daemon may hear of
the new connection first, and takes no memory twice."""


class NotLentError(InvalidRequestError):
    """The daemon does not take this memory again; nothing was asked."""


class Spot(NamedTuple):
    """Where one tensor lies."""

    name: str
    offset: int
    size: int


class Places:
    """Memory for the inputs and the large outputs of one request at a time.

    Args:
        plan: what was prepared.
        answers: the layout of its answers; None when that is not known.
        rows: of every request.

    Raises:
        OSError: there is no memory.
        TensorMismatchError: the call takes no such number of rows.
    """

    def __init__(self, plan: Plan, answers: BodyLayout | None, rows: int) -> None:
        layout = plan.layout
        self.rows = rows
        self.inputs: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}
        self._sources: list[Spot] = []
        self._targets: list[Spot | None] = []
        answer_rows = rows if answers is not None and answers.has_rows else 0
        asked = layout.places(rows)
        told = () if answers is None else answers.places(answer_rows)
        at = 0
        for name, _, _, _, size, _ in asked:
            self._sources.append(Spot(name, at, size))
            at += _aligned(size)
        for name, _, _, _, size, _ in told:
            # What is small comes along with the answer.
            is_large = size > COPY_BYTES
            self._targets.append(Spot(name, at, size) if is_large else None)
            at += _aligned(size) if is_large else 0
        self.size = max(at, ALIGNED)
        specs = () if answers is None else answers.specs
        self.rest = BodyLayout(
            [s for s, spot in zip(specs, self._targets, strict=True) if spot is None]
        )
        self.descriptor = make_memory(self.size)
        memory = mmap.mmap(self.descriptor, self.size)
        for (name, dtype, shape, *_), source in zip(asked, self._sources, strict=True):
            self.inputs[name] = np.ndarray(shape, dtype, memory, source.offset)
        for (name, dtype, shape, *_), target in zip(told, self._targets, strict=True):
            if target is not None:
                self.outputs[name] = np.ndarray(shape, dtype, memory, target.offset)
        self._order = [name for name, *_ in told]
        self.was_lent = False
        """Whether it was lent before, on this connection or another."""
        self.is_anothers = False
        """Whether the process that this one is a copy of writes to it, too."""
        leave_in_copies(self)

    def leave(self) -> None:
        """The memory is that of the process this is a copy of; see ``copies.py``."""
        self.is_anothers = True

    def check_own(self) -> None:
        """Raises InvalidRequestError where another process may write to it."""
        if self.is_anothers:
            raise InvalidRequestError(
                "the memory is that of the process this was forked from; place it anew here"
            )

    def head(self, handle: int, region: int) -> BindHead:
        """What binds a prepared call to this memory, once it is lent."""
        targets = [spot and Target(region, spot.offset, spot.size) for spot in self._targets]
        sources = [Source(region, spot.offset) for spot in self._sources]
        return BindHead(handle, self.rows, sources, targets)

    def fill(self, tensors: Mapping[str, Array]) -> bool:
        """Copy the inputs of a request in; False when they are not of this layout."""
        if len(tensors) != len(self.inputs):
            return False
        for name, place in self.inputs.items():
            array = tensors.get(name)
            if type(array) is not np.ndarray or array.shape != place.shape:
                return False
            if array.dtype != place.dtype:
                return False
            place[...] = array
        return True

    def frame(self, number: int, handle: int, wait_us: int, key: str | None) -> list[Buffer]:
        """A RUN frame."""
        frame = prepared_runs.RUN_FRAME.pack(
            prepared_runs.RUN_START, number, prepared_runs.RUN_HEAD_BYTES, 0, 0,
            handle, self.rows, wait_us,
        )  # fmt: skip
        return [frame if key is None else prepared_runs.keyed(frame, key)]

    def complete(self, result: InferResult, *, copied: bool) -> InferResult:
        """Add the outputs that came by memory to those that came along.

        Args:
            result: as it was read; a RESULT has all of them.
            copied: give copies of them, not the memory itself.
        """
        if self.outputs and not self.outputs.keys() <= result.keys():
            rest = dict(result)
            result.clear()
            for name in self._order:
                place = self.outputs.get(name)
                if place is None:
                    result[name] = rest[name]
                else:
                    result[name] = place.copy() if copied else place
        return result

    def close(self) -> None:
        """Give the descriptor back; memory goes with the last array in it."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def expect(frame: Frame, kind: Kind) -> Frame:
    """The frame, if it is the one that was asked for.

    Raises:
        EdgedError: what it says instead.
    """
    if frame.kind != kind:
        native.decode_reply(frame)  # raises what an ERROR says
        raise RemoteProtocolError(f"expected a frame of kind {kind.name}, got a REPLY")
    return frame


def goes_by_memory(tensors: Mapping[str, Array]) -> bool:
    """Whether a request is worth it."""
    size = 0
    for array in tensors.values():
        size += getattr(array, "nbytes", 0)  # what is no array is refused later
    return LARGE_BYTES <= size <= MOST_BYTES


def _aligned(size: int) -> int:
    return size + -size % ALIGNED
