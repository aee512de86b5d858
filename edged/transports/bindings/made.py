"""Answers that were made for messages that the broker may deliver again.

Where a model keeps state, asking it again would count the same message twice. A message that comes
again, marked, finds its answer here, whether that was given or the connection broke before.
Bounded; what is pushed out is made anew.
"""

from __future__ import annotations

from collections import OrderedDict

from edged.protocol.broker_session import Publication

_MOST = 1024
_MOST_BYTES = 16 << 20


class MadeAnswers:
    """By what a request is known by (``forwarding.identify``). Used from the event loop only."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[Publication, int]] = OrderedDict()
        self._by_mid: dict[int, set[bytes]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def note(self, request: bytes, answer: Publication, mid: int) -> None:
        """Remember an answer.

        Args:
            request: what it answers.
            answer: it.
            mid: the packet identifier that the request came with.
        """
        self._drop(request)
        self._known[request] = answer, mid
        self._by_mid.setdefault(mid, set()).add(request)
        self._bytes += answer.size_bytes
        while len(self._known) > _MOST or self._bytes > _MOST_BYTES:
            self._drop(next(iter(self._known)))

    def get(self, request: bytes) -> Publication | None:
        """The answer to a request that came again; None where there is none."""
        found = self._known.get(request)
        return found[0] if found is not None else None

    def arrived(self, mid: int) -> None:
        """A new message has this packet identifier: the one before it will not come again."""
        if mid in self._by_mid:
            for request in list(self._by_mid[mid]):
                self._drop(request)

    def forget(self) -> None:
        """Nothing comes again: the broker has no session of ours any more."""
        self._known.clear()
        self._by_mid.clear()
        self._bytes = 0

    def _drop(self, request: bytes) -> None:
        found = self._known.pop(request, None)
        if found is None:
            return
        answer, mid = found
        self._bytes -= answer.size_bytes
        mids = self._by_mid[mid]
        mids.discard(request)
        if not mids:
            del self._by_mid[mid]
