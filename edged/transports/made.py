"""Answers that were made and could not be given: the connection broke in between.

Where a model keeps state, asking it again would count the same message twice. The broker delivers
such a message again, marked, and finds its answer here. Bounded; what is pushed out is made anew.
"""

from __future__ import annotations

from collections import OrderedDict

from edged.protocol.mqtt import Publication

_MOST = 1024
_MOST_BYTES = 16 << 20


class MadeAnswers:
    """By what a request is known by (``forwarding.identify``). Used from the event loop only."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Publication] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def note(self, request: bytes, answer: Publication) -> None:
        """Remember an answer until its request comes again."""
        self.take(request)
        self._known[request] = answer
        self._bytes += answer.size_bytes
        while len(self._known) > _MOST or self._bytes > _MOST_BYTES:
            _, gone = self._known.popitem(last=False)
            self._bytes -= gone.size_bytes

    def take(self, request: bytes) -> Publication | None:
        """The answer to a request that came again, once; None where there is none."""
        found = self._known.pop(request, None)
        if found is not None:
            self._bytes -= found.size_bytes
        return found

    def forget(self) -> None:
        """Nothing comes again: the broker has no session of ours any more."""
        self._known.clear()
        self._bytes = 0
