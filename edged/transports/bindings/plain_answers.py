"""Answers of plain messages on their way out, and what is done when they are in safety.

Those of one run leave together, and the messages whose answers the broker took within one read are
acknowledged together. Never before: a message is done when its answer is in the broker's hands, or
on the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, runtime_checkable

from edged.protocol.broker_session import BrokerSession, Message, Publication, Published
from edged.transports.bindings.arrival import Arrival
from edged.transports.bindings.counters import SessionCounters
from edged.transports.bindings.outlet import Outlet
from edged.transports.bindings.plain_way import PlainWork, Way
from edged.transports.bindings.work import ignore

log = logging.getLogger("edged.mqtt")

_HEAD_BYTES: Final = 512
"""More than a topic's four bytes a character and the properties of an answer take besides."""
Shared = tuple[set[Any], dict[int, Callable[[Published], None]], SessionCounters]
"""With the bindings: all that is worked on, who waits for which publication, and figures."""


@runtime_checkable
class Pauses(Protocol):
    """A session that says when it has given on all that came together."""

    on_pause: Callable[[], None]
    """Called on the loop, behind the events of one read."""


@runtime_checkable
class Takes(Protocol):
    """A session that says without an event that the broker took a publication."""

    on_taken: Callable[[int], bool]
    """Given its token, on the loop; False = nobody knew it, and an event is to tell of it."""


@runtime_checkable
class Together(Protocol):
    """A session that does once what several messages have in common."""

    def publish_together(
        self, topics: Sequence[str], payloads: Sequence[bytes], like: Publication
    ) -> range:
        """Send those that differ in topic and payload alone; their tokens, unless with QoS 0."""
        ...

    def ack_together(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages of one connection, in this order."""
        ...


class PlainAnswers:
    """See above. Used from the event loop only.

    Args:
        outlet: the bindings around it.
        session: whose messages they are.
        shared: see ``Shared``.
        on_done: given each message once that was taken and answered.
        give_back: takes one that is not to be answered here.
    """

    def __init__(
        self,
        outlet: Outlet,
        session: BrokerSession,
        shared: Shared,
        on_done: Callable[[Sequence[Arrival]], None],
        give_back: Callable[[PlainWork], None],
    ) -> None:
        self._outlet = outlet
        self._jobs, self._waiters, self._counters = shared
        self._on_done, self.give_back = on_done, give_back
        self._together = session if isinstance(session, Together) else None
        self.has_pauses = isinstance(session, Pauses)
        self._safe: list[PlainWork] = []
        if self.has_pauses and isinstance(session, Takes):
            session.on_taken = self._taken

    def forget(self) -> None:
        """The connection is gone."""
        self._safe.clear()

    def send(self, way: Way, works: list[PlainWork], payloads: list[bytes]) -> None:
        """Publish the answer of each; those that cannot be go the usual way."""
        outlet, forwarder, qos = self._outlet, self._outlet.forwarder, way.qos
        limit = (forwarder or outlet).max_packet_bytes
        if forwarder is None and self._together is not None:
            targets = [work.route.target or "" for work in works]
            longest = max(map(len, payloads)) + 4 * max(map(len, targets)) + _HEAD_BYTES
            if limit is None or longest <= limit:
                self._send_together(self._together, way, works, targets, payloads)
                return
        sent: list[PlainWork] = []
        back: list[PlainWork] = []
        for work, payload in zip(works, payloads, strict=True):
            target = work.route.target or ""
            if limit is not None and len(payload) + 4 * len(target) + _HEAD_BYTES > limit:
                back.append(work)
                continue
            publication = way.like._replace(topic=target, payload=payload)
            try:
                if forwarder is not None:
                    config = work.route.binding.config
                    forwarder.keep(publication, config, work.arrival.message, work.kept)
                    continue
                outlet.publish(publication, work if qos else ignore)
            except Exception:
                log.exception("an answer could not be published")
                back.append(work)
                continue
            if not qos:
                sent.append(work)
        # Behind all of them: who takes a freed place is answered at once, and must not overtake.
        for work in back:
            self.give_back(work)
        self.finish(sent)

    def _send_together(
        self,
        session: Together,
        way: Way,
        works: list[PlainWork],
        targets: list[str],
        payloads: list[bytes],
    ) -> None:
        self._counters.published += len(works)
        self._counters.published_bytes += sum(map(len, payloads))
        tokens = session.publish_together(targets, payloads, way.like)
        if not way.qos:
            self.finish(works)
            return
        self._waiters.update(zip(tokens, works, strict=True))

    def _taken(self, token: int) -> bool:
        """The broker took a publication, one of these as nearly always: the short way of those."""
        work = self._waiters.get(token)
        if type(work) is not PlainWork:
            return False
        del self._waiters[token]
        self._safe.append(work)
        return True

    def done(self, work: PlainWork) -> None:
        """One has its answer in safety; with a session that has pauses it is done at the next."""
        self._safe.append(work)
        if not self.has_pauses:
            self.settle()

    def settle(self) -> None:
        """Acknowledge the messages whose answers are in safety."""
        if self._safe:
            works, self._safe = self._safe, []
            self.finish(works)

    def finish(self, works: Sequence[PlainWork]) -> None:
        """Those that are not done are now.

        Others were left for the next connection, and are known again then.
        """
        arrivals = []
        for work in works:
            if not work.is_done:
                work.is_done = True
                work.counters.in_flight -= 1
                work.counters.answered += 1
                arrivals.append(work.arrival)
        self._jobs.difference_update(works)
        if arrivals:
            self._on_done(arrivals)
