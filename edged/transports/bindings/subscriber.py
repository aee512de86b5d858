"""What a session says to its broker about filters: all at each connection, shared ones as it suits.

Decides when to leave the group of a shared filter and when to join it again. Which filters are
wanted is the bindings' affair; what an earlier process left behind, ``subscriptions.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from edged.protocol.broker_session import BrokerSession, Subscribed, Unsubscribed
from edged.protocol.mqtt import is_shared
from edged.transports.bindings.subscriptions import SubscriptionMemory, Subscriptions

log = logging.getLogger("edged.mqtt")


class Subscriber:
    """The filters of one session.

    Args:
        session: the broker.
        memory: where the session's filters are remembered across processes.
        steps_back: leave the groups of shared filters while there is no room.
    """

    def __init__(
        self, session: BrokerSession, memory: SubscriptionMemory, *, steps_back: bool = False
    ) -> None:
        self.refused: dict[str, str] = {}
        self.is_back = False
        self.times_back = 0
        self._session = session
        self._subscriptions = Subscriptions(memory)
        self.steps_back = steps_back
        self._filters: dict[str, int] = {}
        self._names: Mapping[str, Sequence[str]] = {}
        self._is_up = False
        self._asked: dict[int, tuple[str, ...]] = {}
        self._giving_back: dict[int, Sequence[str]] = {}
        self._left: tuple[int, asyncio.Event] | None = None

    def want(
        self, filters: Mapping[str, int], names: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Be subscribed to these filters and to no others.

        Args:
            filters: each with its QoS.
            names: who reads them.
        """
        self._filters, self._names = dict(filters), names or {}
        self.refused = {text: why for text, why in self.refused.items() if text in filters}
        if self._is_up:
            self._say_all()

    def connected(self) -> None:
        """A connection is up; a broker may have lost some filters, so it is told all of them."""
        self._is_up = True
        self._say_all()

    def lost(self) -> None:
        """The connection is gone, and with it what was asked on it."""
        self._is_up = self.is_back = False
        self._asked.clear()
        self._giving_back.clear()
        self.refused = {}
        if self._left is not None:
            self._left[1].set()

    def answered(self, event: Subscribed | Unsubscribed) -> None:
        """The broker's word on what was asked."""
        if isinstance(event, Unsubscribed):
            self._subscriptions.gave_back(self._giving_back.pop(event.token, ()))
            if self._left is not None and self._left[0] == event.token:
                self._left[1].set()
            return
        for text in self._asked.pop(event.token, ()):
            self.refused.pop(text, None)
        for text, reason in event.failures:
            if text in self._filters:
                self.refused[text] = reason
            log.error('the broker refuses the subscription to "%s": %s', text, reason)

    def weigh(self, taken: int, places: int) -> None:
        """Leave the groups where every place is taken, join them again where half are free.

        Brokers hand out in turn, whoever is slow (mosquitto always does): what is left to the slow
        waits, while others are idle. Who never leaves gets the rest.
        """
        if not self.steps_back or not self._is_up or self._left is not None:
            return
        if not self.is_back and taken >= places:
            shared = self._shared()
            if shared:
                self.is_back = True
                self.times_back += 1
                self._session.unsubscribe(list(shared))
        elif self.is_back and taken * 2 <= places:
            self.is_back = False
            self._subscribe(self._shared())

    async def leave(self, timeout_s: float) -> bool:
        """Leave every group for good; whether there was one, and the broker has heard of it."""
        shared = self._shared()
        if not shared or not self._is_up:
            return False
        self._left = (self._session.unsubscribe(list(shared)), asyncio.Event())
        try:
            await asyncio.wait_for(self._left[1].wait(), timeout_s)
        except asyncio.TimeoutError:
            log.warning("the broker did not confirm that we left the groups of shared filters")
            return False
        return self._is_up

    def stats(self) -> dict[str, Any]:
        """Whether the broker has confirmed all that is read, and how it is with groups."""
        return {
            "subscribed": self._is_up and not self._asked and not self._giving_back,
            "stepped_back": self.is_back,
            "times_back": self.times_back,
        }

    def _shared(self) -> dict[str, int]:
        return {text: qos for text, qos in self._filters.items() if is_shared(text)}

    def _say_all(self) -> None:
        wanted, stale = self._subscriptions.want(self._filters, self._names)
        if self._left is not None or self.is_back:
            wanted = [(text, qos) for text, qos in wanted if not is_shared(text)]
        self._subscribe(dict(wanted))
        if stale:
            self._giving_back[self._session.unsubscribe(stale)] = stale

    def _subscribe(self, filters: Mapping[str, int]) -> None:
        if filters:
            self._asked[self._session.subscribe(list(filters.items()))] = tuple(filters)
