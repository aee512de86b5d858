"""Several sessions with one broker: the main one, and one for each name that bindings have.

Decides which binding belongs to which. A broker gives a session so many messages and then waits for
acknowledgements, in order: in one session a slow model stops the fast ones. To whoever owns them
they look like one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from edged.protocol.broker_session import BrokerSession, Publication
from edged.transports.bindings.binding_set import BindingSet
from edged.transports.bindings.bindings import Bindings
from edged.transports.bindings.counters import SessionCounters

_SUMS = (
    "in_flight",
    "waiting",
    "places",
    "unsent",
    *(item.name for item in fields(SessionCounters)),
)


_LEAVING_S = 60.0
"""So long bindings that moved are answered for as before; then they get what nobody else reads."""


class Sessions:
    """See above.

    Args:
        main: has the bindings without a name, and speaks for the daemon.
        make: makes a quiet one, by its name.
        left: names that an earlier process had; what they are subscribed to is given back.
    """

    def __init__(
        self, main: Bindings, make: Callable[[str], Bindings], left: Iterable[str] = ()
    ) -> None:
        self._main = main
        self._make = make
        self._sides: dict[str, Bindings] = {name: make(name) for name in left}
        self._is_started = False
        self._timer: asyncio.TimerHandle | None = None

    def swap(self, bindings: BindingSet) -> None:
        """Use this set from now on.

        A session that has no binding any more stays, without filters: opened again at once it would
        be two under one name.
        """
        self._forget_leaving()
        if bindings.leaving:
            # Without subscription identifiers (MQTT 3.1.1) nothing tells whether a message came for
            # them or for others that read its topic too: each would be answered twice, for ever.
            again = asyncio.get_running_loop().call_later
            self._timer = again(_LEAVING_S, self.swap, bindings.left_by_all())
        # Also those that only have messages for bindings that moved.
        everybody = (*bindings.bindings, *bindings.leaving, *bindings.past)
        names = {binding.config.session for binding in everybody} - {None}
        # Before the main one gives back what they read from now on.
        for name in sorted({*names, *self._sides}, key=str):
            if name is None:
                continue
            side = self._sides.get(name)
            if side is None:
                side = self._sides[name] = self._make(name)
                side.swap(bindings.part(name))
                if self._is_started:
                    side.start()
            else:
                side.swap(bindings.part(name))
        self._main.swap(bindings.part(None))

    def _forget_leaving(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def start(self) -> None:
        """Connect; a broker that is away is waited for."""
        self._is_started = True
        for one in (self._main, *self._sides.values()):
            one.start()

    def announce(self, info: Mapping[str, Any], models: Sequence[Any]) -> None:
        """Publish who we are and what we serve."""
        self._main.announce(info, models)

    def say(self, publication: Publication) -> None:
        """Publish something about ourselves, if a connection is up."""
        self._main.say(publication)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, finish what is in hand, say goodbye; the main one last."""
        self._forget_leaving()
        await asyncio.gather(*(side.drain(timeout_s) for side in self._sides.values()))
        await self._main.drain(timeout_s)

    @property
    def is_subscribed(self) -> bool:
        """Whether the broker has confirmed all that we read."""
        return all(one.stats()["subscribed"] for one in (self._main, *self._sides.values()))

    @property
    def session(self) -> BrokerSession:
        """The main one's."""
        return self._main.session

    @property
    def max_packet_bytes(self) -> int | None:
        """The longest packet that the broker takes; None while it has not said so."""
        return self._main.max_packet_bytes

    @property
    def problem(self) -> str | None:
        """Why messages do not flow, for people, or None while they do."""
        for name, side in self._sides.items():
            if self._main.problem is None and side.problem is not None:
                return f"session {name}: {side.problem}"
        return self._main.problem

    @property
    def cut(self) -> str:
        """Which session has no connection; empty while all have one."""
        for name, one in ((None, self._main), *self._sides.items()):
            if one.session.stats()["state"] != "connected":
                return f"session {name}" if name is not None else "the main session"
        return ""

    def stats(self) -> dict[str, Any]:
        """The main session's, with the sums of all and the others' beside it."""
        found = self._main.stats()
        sides = {name: side.stats() for name, side in self._sides.items()}
        for key in _SUMS:
            found[key] += sum(side[key] for side in sides.values())
        ages = [one["oldest_unacked_s"] for one in (found, *sides.values())]
        found["oldest_unacked_s"] = max((age for age in ages if age is not None), default=None)
        for side in sides.values():
            found["bindings"] |= side.pop("bindings")
            del side["states"], side["results"]  # these are everybody's
        found["subscribed"] &= all(side["subscribed"] for side in sides.values())
        return {**found, "problem": self.problem, "sessions": sides}
