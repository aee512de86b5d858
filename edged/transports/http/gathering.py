"""What several connections ask in one turn of the loop, gathered: one run, and an answer for each.

Decides who is run with whom: requests that begin with the same bytes, each of a client that may
make it. Who has the loop to himself asks alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from edged.errors import EdgedError
from edged.protocol.http_gather import HttpGather
from edged.protocol.http_repeat import HttpRepeat, Same
from edged.transports.oip_door import Entry, Prepared

log = logging.getLogger("edged.http")

_NEVER_NS = 1 << 62
"""As ``precedence.NEVER_NS``: none of these has a deadline."""
_MOST = 64
"""Kinds of requests that are gathered at once; those of further ones are run one by one."""


class Member(Protocol):
    """A connection with one request in a gathering."""

    @property
    def origin(self) -> str:
        """Who asks."""
        ...

    @property
    def gathering(self) -> Gathering | None:
        """Where it asks now; another one, or none, when what it may ask has changed."""
        ...

    @property
    def entry(self) -> Entry | None:
        """Lets its requests in; None where nothing holds them."""
        ...

    def answer_gathered(self, answer: bytes) -> None:
        """Write the answer."""
        ...

    def ask_apart(self, data: bytes) -> None:
        """Ask the usual way: it could not be run with others."""
        ...


class _Asked(NamedTuple):
    data: bytes
    member: Member
    entry: Entry | None
    since_ns: int


class Gathering:
    """Requests of one kind; stands in the turn's line while there are some.

    Args:
        gather: lays them together and runs them.
        call: what they ask.
    """

    def __init__(self, gather: HttpGather, call: Prepared) -> None:
        self._gather = gather
        self.call = call
        self.rank = call.outlook[0]
        self.fits = gather.repeat.fits
        self.size = gather.repeat.size
        self.is_crowded = False
        """Whether the last run was for more than one."""
        self.due_ns = _NEVER_NS
        self._tensor_bytes = gather.repeat.tensor_bytes
        self._waiting: list[_Asked] = []

    @property
    def expected_ns(self) -> int:
        """How long the next run will take."""
        return self.call.outlook[1]

    def join(self, data: bytes, member: Member) -> bool:
        """Wait for the end of this turn; ``data`` is one whole request of this kind.

        Returns:
            Whether it may; otherwise it has to go the usual way, which says what is against it.
        """
        entry = member.entry
        if entry is not None and not entry.enters(self._tensor_bytes):
            return False
        if not self._waiting:
            self.call.enlist(self)
        self._waiting.append(_Asked(data, member, entry, time.monotonic_ns()))
        return True

    def pump(self) -> int:
        """Run those who wait, as many as there is room for; returns for how long, nanoseconds."""
        most = self._gather.most
        waiting, self._waiting = self._waiting[:most], self._waiting[most:]
        if self._waiting:
            self.call.enlist(self)
        there = [one for one in waiting if one.member.gathering is self]
        run_ns = self._run(there) if there else 0
        self.is_crowded = len(there) > 1
        ran = there if run_ns else []
        # All bytes are taken before anybody reads on: the next run writes over them.
        answers = [self._gather.answer(place, one.data) for place, one in enumerate(ran)]
        for one, answer in zip(ran, answers, strict=True):
            if one.entry is not None:
                one.entry.leaves(self._tensor_bytes, has_run=True)
            _safely(one.member, one.member.answer_gathered, answer)
        if len(ran) < len(waiting):
            told = {id(one) for one in ran}
            for one in waiting:
                if id(one) not in told:
                    if one.entry is not None:
                        one.entry.leaves(self._tensor_bytes, has_run=False)
                    _safely(one.member, one.member.ask_apart, one.data)
        return run_ns

    def _run(self, there: list[_Asked]) -> int:
        askers = [(one.member.origin, one.since_ns) for one in there]
        try:
            return self._gather.ask([one.data for one in there], askers)
        except Exception:
            log.exception("%d requests could not be run together", len(there))
            return 0


def _safely(member: Member, tell: Callable[[bytes], None], data: bytes) -> None:
    """One that cannot be told is no reason for the others to wait."""
    try:
        tell(data)
    except Exception:
        log.exception("a connection of %s could not be answered", member.origin)


class Gatherings:
    """Those of one server, each kept as long as any connection asks in it."""

    def __init__(self) -> None:
        self._by_kind: WeakValueDictionary[Same, Gathering] = WeakValueDictionary()

    def of(self, repeat: HttpRepeat, call: Prepared, model: str) -> Gathering | None:
        """Where such requests are gathered; None where they are not.

        Args:
            repeat: what is known of them.
            call: what this connection has prepared for them.
            model: as the answers call it.
        """
        if call.gathers < 2 or repeat.asked.timeout_us:
            return None
        found = self._by_kind.get(repeat.same)
        if found is not None and found.call.is_current and found.size == repeat.size:
            return found
        if found is None and len(self._by_kind) >= _MOST:
            return None
        try:
            gather = HttpGather(repeat, call.shared, model)
        except EdgedError:
            return None
        made = self._by_kind[repeat.same] = Gathering(gather, call.shared)
        return made
