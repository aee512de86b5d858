"""What stands before a release that has a cache: gives what is kept, and lets equal requests share.

A release without one knows nothing of this: requests then go straight to its queue. Requests are
told apart by a digest of all that they hold (``digest.py``), so a release must give equal answers
to equal questions; one that remembers what it was asked before must not have a cache. Used from the
event loop only; long inputs are hashed on a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from edged.config.cache import CacheConfig
from edged.errors import CancelledError, DeadlineExceededError, EdgedError, ModelNotReadyError
from edged.messages import InferRequest, InferResponse, LentInputs, Ticket
from edged.serving.caching.cache import Kept, ResponseCache, freeze
from edged.serving.caching.digest import Digests
from edged.serving.caching.flight import (
    Asked,
    Flight,
    count_error,
    give_error,
    hand_over,
    takes_more,
)
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.standing import Standing
from edged.tensors import Array, TensorSpec

_LOOP_BYTES = 1 << 16
"""Hashing more than this on the loop takes longer than handing it to a thread (some 60 us)."""
_HASHING_BYTES = 64 << 20
"""Inputs that may wait to be hashed; with more than that the models are the quicker way."""
_ANSWER_BYTES = 1 << 20
"""A longer answer is not kept: copying it would hold up the loop for as long as a model may."""
_FROM_PIPELINE = "pipeline:"
"""Who asks a pipeline is not known to its models."""

Do = Callable[[Callable[[], Any], Callable[[Any], None]], object]
"""Does the first on a thread, and gives what it returns to the second on the loop."""


class Front(Asked, Protocol):
    """A release, as its cache sees it."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The input signature."""
        ...

    @property
    def told_state(self) -> str:
        """Where it is, in the words of people."""
        ...

    def offer(self, item: Waiting) -> Ticket:
        """Queue a request; raises BusyError when there is no room."""
        ...

    def identity(self) -> bytes:
        """Who answers, and by what; asked for again whenever any release has moved."""
        ...

    def stay(self) -> Callable[[], None]:
        """Stay loaded until what this returns is called."""
        ...


class Cached:
    """See above.

    Args:
        release: who answers.
        store: its model's.
        config: what the operator says.
        do: hashes what is long.
        is_sole: no other release of the name answers once this one was asked.
    """

    def __init__(
        self,
        release: Front,
        store: ResponseCache,
        config: CacheConfig,
        do: Do,
        *,
        is_sole: bool,
    ) -> None:
        self.store = store
        self.is_shared = config.shared
        self._release = release
        self._do, self._is_sole = do, is_sole
        self._flights: dict[bytes, Flight] = {}
        self._hashing_bytes = 0
        self._is_left = False
        self._identity = b""
        self._digests = Digests(b"", ())
        self._moves = -1

    def ask(self, item: Waiting) -> Ticket | None:
        """Answer a request from what is kept, let it wait for a run, or begin one.

        Returns:
            What withdraws it; None when it has been answered.

        Raises:
            BusyError: it needs a run, and there is no room for it.
        """
        if type(item.request) is not InferRequest:
            return self._release.offer(item)  # it wants more than an answer: parts, or a state
        if Standing.moves != self._moves:
            self._look()
        if type(item.request.inputs) is LentInputs:
            # What was hashed must be what is run: others get the answer too.
            item.request.inputs = {name: a.copy() for name, a in item.request.inputs.items()}
        peer = ""
        if not self.is_shared:
            peer = item.request.origin
            if peer.startswith(_FROM_PIPELINE):
                return self._release.offer(item)
        if item.size_bytes <= _LOOP_BYTES:
            return self._answer(item, self._digests.of(item.request, peer))
        if self._hashing_bytes + item.size_bytes > _HASHING_BYTES:
            return self._release.offer(item)
        return self._hash(item, peer)

    def leave(self) -> None:
        """The release goes: forget what it gave, and keep nothing more of it."""
        self._is_left = True
        self.store.drop(self._identity)

    def _look(self) -> None:
        """Find out who answers now; what another one gave is forgotten."""
        self._moves, identity = Standing.moves, self._release.identity()
        if identity != self._identity:
            if self._is_sole:
                self.store.take_over(identity)
            else:
                self.store.drop(self._identity)
            self._identity = identity
            self._digests = Digests(identity, [spec.name for spec in self._release.inputs])

    def _answer(self, item: Waiting, digest: bytes) -> Ticket | None:
        store = self.store
        kept = store.get(digest, item.enqueued_ns)
        if kept is not None:
            store.hits += 1
            release, now_ns = self._release, time.monotonic_ns()
            release.counters.recalled(item.request.origin, now_ns - item.enqueued_ns)
            model, number = item.request.model, release.number
            response = InferResponse(model, number, item.generation, kept.views())
            hand_over(item, response, is_final=True)
            return None
        return self._join(item, digest)

    def _join(self, item: Waiting, digest: bytes) -> Ticket:
        flight = self._flights.get(digest)
        if flight is not None and flight.takes(item):
            self.store.joined += 1
            flight.join(item)
            return item
        self.store.misses += 1
        keep = partial(self._keep, self._identity, digest)
        begun = Flight(item, self._release, partial(self._ended, digest), keep,
                       partial(self._again, digest))  # fmt: skip
        self._flights[digest] = begun
        try:
            self._release.offer(begun.run)
        except BaseException:
            self._ended(digest, begun)
            raise
        return item

    def _ended(self, digest: bytes, flight: Flight) -> None:
        if self._flights.get(digest) is flight:
            del self._flights[digest]

    def _keep(self, identity: bytes, digest: bytes, outputs: Mapping[str, Array]) -> Kept | None:
        if Standing.moves != self._moves:
            self._look()
        size = sum(array.nbytes for array in outputs.values())
        most = min(_ANSWER_BYTES, self.store.size)
        if self._is_left or identity != self._identity or size > most:
            return None
        kept = freeze(outputs)
        self.store.put(identity, digest, kept, time.monotonic_ns())
        return kept

    def _again(self, digest: bytes, items: Sequence[Waiting]) -> None:
        """Ask for some whose run came to nothing; the earliest deadline leads the others."""
        for item in sorted(items, key=_until_ns):
            try:
                self._join(item, digest)
            except EdgedError as exc:
                self._refuse(item, exc)

    def _refuse(self, item: Waiting, error: EdgedError) -> None:
        count_error(self._release, item, error)
        give_error(self._release, item, error)

    def _hash(self, item: Waiting, peer: str) -> Ticket:
        release, digests = self._release, self._digests
        hashing = _Hashing(self._refuse, release.owner)
        item.queue = hashing
        self._hashing_bytes += item.size_bytes
        let_go = release.stay()

        def hashed(digest: bytes) -> None:
            self._hashing_bytes -= item.size_bytes
            if not hashing.is_over:
                hashing.is_over = True
                self._hashed(item, digest, digests)
            let_go()

        self._do(lambda: digests.of(item.request, peer), hashed)
        return item

    def _hashed(self, item: Waiting, digest: bytes, digests: Digests) -> None:
        deadline_ns, now_ns = item.request.deadline_ns, time.monotonic_ns()
        release = self._release
        if Standing.moves != self._moves:
            self._look()
        try:
            if deadline_ns is not None and deadline_ns <= now_ns:
                raise DeadlineExceededError(f"{release.owner}: the deadline passed while waiting")
            if not takes_more(release):
                raise ModelNotReadyError(f"{release.owner} is {release.told_state}: ask again")
            if digests is self._digests:
                self._answer(item, digest)
            else:
                item.queue = release
                release.offer(item)
        except EdgedError as exc:
            self._refuse(item, exc)


class _Hashing:
    """What a request waits in while it is hashed."""

    def __init__(self, refuse: Callable[[Waiting, EdgedError], None], owner: str) -> None:
        self.is_over = False
        self._refuse, self._owner = refuse, owner

    def withdraw(self, item: Waiting) -> bool:
        """Give it up."""
        if self.is_over:
            return False
        self.is_over = True
        self._refuse(item, CancelledError(f"{self._owner}: withdrawn before its turn"))
        return True


def _until_ns(item: Waiting) -> float:
    deadline_ns = item.request.deadline_ns
    return float("inf") if deadline_ns is None else deadline_ns
