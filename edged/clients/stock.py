"""Memory that requests are copied into, as they come: how much is made and kept, for either client.

Decides only; what is made and how it is lent is ``placed.py``'s and ``aio_placed.py``'s.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from edged.clients.copies import leave_in_copies
from edged.clients.places import Places
from edged.errors import DisconnectedError, EdgedError
from edged.messages import InferRequest, PrepareRequest
from edged.protocol.asking import Plan
from edged.tensors import TensorSpec

AT_ONCE = 4
"""Pieces of memory of one prepared call: with more requests at once, the others go by the socket.
So many kinds of requests are known, too."""


class Piece(Protocol):
    """A prepared call and memory it is bound to."""

    places: Places
    is_idle: bool

    def forget(self) -> None:
        """Take the memory back."""
        ...


class Closes(Protocol):
    """What is kept of one kind of requests."""

    def close(self) -> None:
        """Take all of it back."""
        ...


P = TypeVar("P", bound=Piece)
C = TypeVar("C", bound=Closes)


class Stock(Generic[P]):
    """The memory of one prepared call. Used from several threads, or by one loop's tasks."""

    def __init__(self) -> None:
        self._idle: list[P] = []
        self._lock = threading.Lock()
        self._made = 0
        self._rows = -1
        self._is_refused = False
        leave_in_copies(self)

    def leave(self) -> None:
        """What there is belongs to the process this is a copy of; see ``copies.py``."""
        idle, self._idle = self._idle, []
        self._lock = threading.Lock()
        self._made, self._rows = 0, -1
        for piece in idle:
            piece.places.close()

    def take(self, rows: int) -> tuple[P | None, bool]:
        """One that nobody uses; else None and whether to make one, within ``making``."""
        if self._is_refused:
            return None, False
        if rows != self._rows:
            # Made for requests that come again: the first of a kind goes by the socket.
            self.close()
            self._rows = rows
            return None, False
        try:
            return self._idle.pop(), False
        except IndexError:
            pass
        with self._lock:
            if self._made >= AT_ONCE:
                return None, False
            self._made += 1
        return None, True

    @contextlib.contextmanager
    def making(self) -> Iterator[None]:
        """Around making one that ``take`` asked for; what the daemon refuses goes no further."""
        try:
            yield
        except DisconnectedError:
            self._lose()
        except (EdgedError, OSError):
            self._is_refused = True  # until the call is closed; the socket says what is wrong
        except BaseException:
            self._lose()
            raise

    def give(self, piece: P) -> None:
        """It is used no more; not used again where something may still write to it."""
        with self._lock:
            if piece.is_idle and piece.places.rows == self._rows:
                self._idle.append(piece)
                return
            self._made = max(0, self._made - 1)
        _end(piece)

    def close(self) -> None:
        """Take all of it back."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._made, self._rows, self._is_refused = 0, -1, False
        for piece in idle:
            _end(piece)

    def _lose(self) -> None:
        with self._lock:
            self._made = max(0, self._made - 1)


class Kinds(Generic[C]):
    """Requests that were not prepared and come again and again: prepared unasked, to go by memory.

    Args:
        make: what is kept of one kind.
    """

    def __init__(self, make: Callable[[Plan], C]) -> None:
        self._make = make
        self._kept: dict[object, C] = {}
        self._lock = threading.Lock()

    def find(self, request: InferRequest) -> C:
        """What is kept of requests like this; of many kinds, the one asked for longest ago goes."""
        kinds = [(name, array.dtype.name, array.shape) for name, array in request.inputs.items()]
        key = (request.model, request.release, request.outputs, *kinds)
        left = None
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept is None:
                specs = tuple(TensorSpec(*kind) for kind in kinds)
                made = PrepareRequest(request.model, specs, request.release, request.outputs)
                kept = self._make(Plan(made))
                if len(self._kept) >= AT_ONCE:
                    left = self._kept.pop(next(iter(self._kept)))
            self._kept[key] = kept
        if left is not None:
            left.close()
        return kept


def _end(piece: Piece) -> None:
    piece.forget()
    piece.places.close()
