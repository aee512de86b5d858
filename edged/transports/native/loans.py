"""The memory that one client lends: its regions, their bounds, and the calls bound to them.

Decides whether a region is taken and whether a place lies in it; what is mapped, ``system/shm.py``
decides, and how a call uses a place, ``bound.py``.
"""

from __future__ import annotations

import mmap
import os
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from edged.access.visit import Visit
from edged.errors import (
    DeniedError,
    EdgedError,
    InvalidRequestError,
    LayoutChangedError,
    QueueFullError,
    TensorMismatchError,
)
from edged.messages import InferResponse, Ticket
from edged.protocol import memory, native
from edged.protocol.frames import Buffer, Frame, Kind
from edged.protocol.layout import BodyLayout
from edged.protocol.memory import BindHead, Source, Target
from edged.protocol.prepared_runs import RunHead
from edged.system import shm
from edged.tensors import Array
from edged.transports.native.bound import Bound, Fixed
from edged.transports.native.door import Server
from edged.transports.native.passing import close_all
from edged.transports.native.streams import encode_answer

UNANSWERED = frozenset((Kind.RECALL, Kind.NEAR))
KINDS = frozenset((Kind.LEND, Kind.PASS)) | UNANSWERED
"""What is said of regions alone."""
_U32 = 1 << 32


class Passes(Protocol):
    """A connection that descriptors can come over."""

    def begin_passing(self) -> None:
        """Let them come from now on."""
        ...

    def end_passing(self) -> list[int]:
        """Let no more come; those that came are the caller's to close."""
        ...


class _Region(NamedTuple):
    memory: mmap.mmap
    size: int
    is_writable: bool
    file: int


class Loans:
    """The regions of one connection.

    Args:
        server: the limits, and what others lend.
        passes: the connection.
        says: sends one frame; and is called when an answer was sent and no other is on its way.
        in_flight: the connection's requests, with what withdraws them; shared with all others.
        origin: who asks.
    """

    def __init__(
        self,
        server: Server,
        passes: Passes,
        says: tuple[Callable[[list[Buffer]], None], Callable[[], None]],
        in_flight: dict[int, Ticket | None],
        origin: str,
    ) -> None:
        self._server, self._passes = server, passes
        self._write, self._on_answered = says
        self._in_flight, self._origin = in_flight, origin
        self.visit: Visit | None = None
        """Whose; None for a peer that may lend as much as a connection may."""
        self._regions: dict[int, _Region] = {}
        self._last = 0
        self._awaited = 0
        self._mapped: dict[int, int] = {}
        self._watches: dict[int, weakref.ref[mmap.mmap]] = {}
        self._core = -1
        self.bound: dict[int, Bound] = {}
        """The calls that are bound to places, by handle."""

    def handle(self, frame: Frame) -> None:
        """A LEND, PASS, RECALL or NEAR.

        Raises:
            EdgedError: what is wrong with it.
        """
        if frame.kind == Kind.LEND:
            self._lend(frame)
        elif frame.kind == Kind.PASS:
            self._take(frame)
        elif frame.kind == Kind.RECALL:
            self._recall(memory.decode_recall(frame))
        else:
            self._core = memory.decode_near(frame)

    def bind(self, frame: Frame, find: Callable[[int], Fixed]) -> Bound:
        """Fix the places of a prepared call.

        Args:
            frame: a BIND frame.
            find: what a handle stands for.

        Raises:
            EdgedError: a place is none, or does not fit the call.
        """
        head = memory.decode_bind(frame, self._server.limits)
        fixed = find(head.handle)._replace(rows=head.rows)
        inputs = self._sources(fixed.inputs, head)
        targets = self._targets(fixed, head)
        regions = {place.region for place in head.inputs}
        regions |= {place.region for place in head.outputs if place is not None}
        return Bound(fixed, inputs, targets, frozenset(regions))

    def read(self, what: str, number: int, offset: int, size: int) -> bytes:
        """A copy of bytes of a region, for a request that says everything itself.

        Raises:
            EdgedError: they do not all lie in one that is lent.
        """
        region = self._region(what, Source(number, offset), size)
        return region.memory[offset : offset + size]

    def run(self, request_id: int, bound: Bound, head: RunHead, size: int) -> None:
        """Take a request of a bound call; its id is free, its body has ``size`` bytes."""
        rows, timeout_us = head.rows, head.timeout_us
        in_flight, server = self._in_flight, self._server
        try:
            if rows != bound.rows or size:
                raise TensorMismatchError(
                    f"{rows} rows and a body of {size} bytes; this call was bound to places for "
                    f"{bound.rows} rows, and its requests have no body"
                )
            if len(in_flight) >= server.max_in_flight:
                raise QueueFullError(
                    f"{len(in_flight)} requests of this connection are unanswered, the most "
                    "allowed (limits.max_in_flight)"
                )
            inputs = bound.read()
        except EdgedError as exc:
            self._write(native.encode_error(request_id, exc))
            return
        deadline_ns = time.monotonic_ns() + timeout_us * 1000 if timeout_us else None
        in_flight[request_id] = None
        server.requests += 1

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                del in_flight[request_id]
            buffers = bound.answer(request_id, response) if response.error is None else None
            self._write(encode_answer(request_id, response) if buffers is None else buffers)
            if not in_flight:
                self._on_answered()

        ticket = bound.call.submit(
            inputs, rows, deadline_ns, self._origin, on_response, key=head.key
        )
        if request_id in in_flight:
            in_flight[request_id] = ticket

    def answered(self, bound: Bound) -> bool:
        """A request was answered whose asker has the loop to itself.

        Returns:
            Whether the loop stays on the client's core now: then the client cannot go on while the
            loop waits awake.
        """
        stay = bound.call.turn.stay
        if self._core >= 0 and bound.is_large and self._server.shares_core:
            return stay.at(self._core)
        stay.leave()
        return False

    def clear(self) -> None:
        """The client is gone; what is being read stays until that is over."""
        self.bound.clear()
        for region in self._regions.values():
            self._server.lent.discard(region.file)
        self._regions.clear()

    def _lend(self, frame: Frame) -> None:
        size = memory.decode_lend(frame)
        if self._awaited:
            raise InvalidRequestError("a descriptor is awaited already: PASS it first")
        if reason := shm.why_not():
            raise DeniedError(f"no memory is taken here: {reason}")
        self._check_room(size)
        self._awaited = size
        self._passes.begin_passing()
        self._write(memory.encode_ready(frame.request_id))

    def _check_room(self, size: int) -> None:
        # Also what was recalled and is still read: it is mapped all the same.
        server, sizes = self._server, self._mapped.values()
        if len(sizes) >= server.max_regions:
            raise QueueFullError(
                f"{len(sizes)} regions are lent on this connection, the most allowed "
                "(limits.max_regions)"
            )
        if sum(sizes) + size > server.max_shared_bytes:
            raise QueueFullError(
                f"{size} bytes of memory; this connection lends {sum(sizes)} already and may lend "
                f"{server.max_shared_bytes} (limits.max_shared)"
            )
        if self.visit is not None:
            self.visit.check_region()

    def _take(self, frame: Frame) -> None:
        size, self._awaited = self._awaited, 0
        descriptors = self._passes.end_passing()
        try:
            if not size:
                raise InvalidRequestError("no descriptor is awaited: LEND first")
            if len(descriptors) != 1:
                raise InvalidRequestError(
                    f"{len(descriptors)} descriptors arrived with PASS; expected exactly one "
                    "(SCM_RIGHTS, with the bytes of that frame)"
                )
            region = self._map(descriptors[0], size)
        finally:
            close_all(descriptors)
        self._last += 1
        self._regions[self._last] = region
        self._server.lent.add(region.file)
        self._write(
            memory.encode_lent(frame.request_id, self._last, is_writable=region.is_writable)
        )

    def _map(self, descriptor: int, size: int) -> _Region:
        file = os.fstat(descriptor).st_ino
        if file in self._server.lent:
            raise InvalidRequestError("this memory is lent already, here or by another connection")
        # Asked again: other connections of this client may have lent since LEND.
        drop = _nothing if self.visit is None else self.visit.take_region()
        try:
            mapped = shm.map_memory(descriptor, size)
        except BaseException:
            drop()
            raise
        key, sizes, watches = self._last + 1, self._mapped, self._watches

        def unmapped(_: object) -> None:
            del sizes[key], watches[key]
            drop()

        sizes[key], watches[key] = size, weakref.ref(mapped, unmapped)
        return _Region(mapped, size, shm.is_writable(mapped), file)

    def _recall(self, number: int) -> None:
        """Nothing more is begun with it; the mapping goes with the last run that uses it."""
        region = self._regions.pop(number, None)
        if region is not None:
            self._server.lent.discard(region.file)
            self.bound = {n: one for n, one in self.bound.items() if number not in one.regions}

    def _sources(self, layout: BodyLayout, head: BindHead) -> dict[str, Array]:
        if (head.rows == 0) == layout.has_rows or not 0 <= head.rows < _U32:
            raise TensorMismatchError(layout.describe_rows(head.rows))
        places = layout.places(head.rows)
        if len(head.inputs) != len(places):
            raise InvalidRequestError(
                f"{len(head.inputs)} places for {len(places)} inputs; each needs one"
            )
        found: dict[str, Array] = {}
        for (name, dtype, shape, _, size, _), place in zip(places, head.inputs, strict=True):
            region = self._region(f'input "{name}"', place, size)
            array = _view(region, dtype, shape, place.offset)
            array.flags.writeable = False
            found[name] = array
        return found

    def _targets(self, fixed: Fixed, head: BindHead) -> dict[str, Array]:
        if not any(head.outputs):
            return {}
        layout = fixed.outputs
        if layout is None:
            raise InvalidRequestError(
                "the shapes of the outputs are only known after a run: they can have no places"
            )
        places = layout.places(head.rows if layout.has_rows else 0)
        if len(head.outputs) != len(places):
            raise InvalidRequestError(
                f"{len(head.outputs)} places for {len(places)} outputs; give nil for those that "
                "are to come in the body, or none at all"
            )
        taken = [
            (place.region, place.offset, place.offset + size)
            for place, (*_, size, _) in zip(
                head.inputs, fixed.inputs.places(head.rows), strict=True
            )
        ]
        found: dict[str, Array] = {}
        for (name, dtype, shape, _, size, _), place in zip(places, head.outputs, strict=True):
            if place is None:
                continue
            if place.size < size:
                raise TensorMismatchError(
                    f'output "{name}" takes {size} bytes; its place has {place.size}'
                )
            region = self._region(f'output "{name}"', place, place.size)
            if not region.is_writable:
                raise DeniedError(
                    f'output "{name}": region {place.region} may only be read, by its seals or '
                    "the way its descriptor was opened"
                )
            mine = (place.region, place.offset, place.offset + place.size)
            if any(_overlap(mine, other) for other in taken):
                raise InvalidRequestError(
                    f'output "{name}": its place overlaps that of an input or another output'
                )
            taken.append(mine)
            found[name] = _view(region, dtype, shape, place.offset)
        return found

    def _region(self, what: str, place: Source | Target, size: int) -> _Region:
        region = self._regions.get(place.region)
        if region is None:
            raise LayoutChangedError(f"{what}: no region {place.region} is lent on this connection")
        # Numbers without bounds, so nothing wraps.
        if place.offset < 0 or size < 0 or place.offset + size > region.size:
            raise InvalidRequestError(
                f"{what}: bytes {place.offset} to {place.offset + size} are not all in region "
                f"{place.region}, which has {region.size}"
            )
        return region


def not_open(number: int) -> LayoutChangedError:
    """What is wrong with a handle that is none."""
    return LayoutChangedError(
        f"no handle {number} is open on this connection: prepare the call again"
    )


def _nothing() -> None:
    """Where nobody counts."""


def _overlap(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def _view(
    region: _Region, dtype: np.dtype[np.generic], shape: tuple[int, ...], offset: int
) -> Array:
    array: Array = np.ndarray(shape, dtype, region.memory, offset)
    return array
