"""What bindings remember from one message to the next, by key: bounded, and on disk where asked.

A state is a value that is exchanged as a whole. Used from the event loop only; the disk is the
keeper's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, Generic, Protocol, TypeVar

from edged.transports.bindings.lanes import Lanes

State = TypeVar("State")

_SEPARATOR = b"\0"


class Keeper(Protocol):
    """Keeps states on disk; see ``outbox.state_keeper``."""

    def put(self, key: bytes, state: bytes, on_kept: Callable[[], None] | None = None) -> None:
        """Keep a state; an empty one is none."""
        ...


class Rule(Protocol[State]):
    """What a state is made by."""

    def fits(self, state: State, /) -> bool:
        """Whether it was made by this rule."""
        ...

    def unpack(self, data: bytes, /) -> State | None:
        """A state that was kept; None for one of another rule."""
        ...


class Shelf(Generic[State]):
    """The states of one binding, or of one topic that it joins.

    Args:
        name: of it.
        keeper: None where nothing is to be kept.
        restored: what an earlier process kept, by key.
    """

    def __init__(self, name: str, keeper: Keeper | None, restored: dict[str, bytes]) -> None:
        self.evicted = self.stale = self.broken = 0
        self.max_keys, self.max_bytes, self.is_kept = 1, 0, True
        self._name, self.keeper = name, keeper
        self._restored = restored
        self._states: OrderedDict[str, tuple[State, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str, rule: Rule[State]) -> State | None:
        """A key's state; None for a new one, and for one that another rule made."""
        found = self._states.get(key)
        kept = self._restored.pop(key, None) if found is None else None
        if found is not None:
            state = found[0] if rule.fits(found[0]) else None
        elif kept is not None:
            state = rule.unpack(kept)
            if state is not None:  # here until it is exchanged: who asks may give up
                self._states[key] = (state, len(kept))
                self._bytes += len(kept)
        else:
            return None
        if state is None:
            self._take_out(key)
            self.stale += 1
        return state

    def put(
        self, key: str, state: State, size: int, data: bytes, on_kept: Callable[[], None] | None
    ) -> None:
        """Exchange a key's state.

        Args:
            key: whose.
            state: from now on.
            size: bytes that it takes.
            data: as it is kept on disk.
            on_kept: called when it is safe, as far as that was asked for.
        """
        self._restored.pop(key, None)
        self._take_out(key)
        self._states[key] = (state, size)
        self._bytes += size
        self._make_room()
        if self.keeper is not None and self.is_kept:
            self.keeper.put(self._full(key), data, on_kept)
        elif on_kept is not None:
            on_kept()

    def forget_all(self) -> None:
        """The binding is gone."""
        for key in (*self._states, *self._restored):
            self._erase(key)
        self._states.clear()
        self._restored.clear()
        self._bytes = 0

    def stats(self) -> dict[str, int]:
        """For the status page."""
        return {
            "keys": len(self._states) + len(self._restored),
            "bytes": self._bytes,
            "evicted": self.evicted,
            "broken": self.broken,
            "stale": self.stale,
        }

    def _make_room(self) -> None:
        while len(self._states) + len(self._restored) > self.max_keys and self._restored:
            oldest = next(iter(self._restored))
            del self._restored[oldest]
            self._evict(oldest)
        while len(self._states) > 1 and self._is_over():
            oldest = next(iter(self._states))
            self._take_out(oldest)
            self._evict(oldest)

    def _is_over(self) -> bool:
        is_large = bool(self.max_bytes) and self._bytes > self.max_bytes
        return is_large or len(self._states) > self.max_keys

    def _evict(self, key: str) -> None:
        self.evicted += 1
        self._erase(key)

    def _erase(self, key: str) -> None:
        if self.keeper is not None:
            self.keeper.put(self._full(key), b"")

    def _take_out(self, key: str) -> None:
        found = self._states.pop(key, None)
        if found is not None:
            self._bytes -= found[1]

    def _full(self, key: str) -> bytes:
        return self._name.encode() + _SEPARATOR + key.encode("utf-8", "surrogatepass")


class KeyedStates:
    """All shelves; in memory alone until a keeper is adopted."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        """Whose turn it is, also where messages of one key come by several sessions."""
        self._keeper: Keeper | None = None
        self._shelves: dict[str, Shelf[Any]] = {}
        self._restored: dict[str, dict[str, bytes]] = {}

    def adopt(self, keeper: Keeper, restored: dict[bytes, bytes]) -> None:
        """Keep states there from now on.

        Args:
            keeper: of the disk.
            restored: what an earlier process kept.
        """
        self._keeper = keeper
        for shelf in self._shelves.values():
            shelf.keeper = keeper
        for full, state in restored.items():
            name, _, key = full.partition(_SEPARATOR)
            states = self._restored.setdefault(name.decode("utf-8", "replace"), {})
            states[key.decode("utf-8", "surrogatepass")] = state

    def shelf(self, name: str, *, max_keys: int, max_bytes: int, is_kept: bool) -> Shelf[Any]:
        """The shelf of that name, within these bounds from now on."""
        found = self._shelves.get(name)
        if found is None:
            found = Shelf(name, self._keeper, self._restored.pop(name, {}))
            self._shelves[name] = found
        found.max_keys, found.max_bytes, found.is_kept = max_keys, max_bytes, is_kept
        return found

    def only(self, names: Collection[str]) -> None:
        """Forget what bindings remembered that are gone."""
        for name in [*self._shelves, *self._restored]:
            if name not in names:
                self.shelf(name, max_keys=1, max_bytes=0, is_kept=True).forget_all()
                del self._shelves[name]

    def stats(self) -> dict[str, Any]:
        """By shelf, for the status page."""
        return {name: shelf.stats() for name, shelf in self._shelves.items()}
