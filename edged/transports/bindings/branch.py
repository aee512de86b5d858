"""The session of the bindings as a second user sees it: it publishes, and hears of the connection.

So what waits on disk for the broker that brought the requests goes over their own connection, with
their name and their rights, and in one order with the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from edged.protocol.broker_session import (
    Connected,
    Disconnected,
    OnEvent,
    Publication,
    Published,
    SessionEvent,
)

Publish = Callable[[Publication, Callable[[Published], None]], None]
"""Sends, and calls back when the broker has it; never when the connection is lost first."""


class Branch:
    """See above; ``publish`` is set by whoever owns the session."""

    def __init__(self) -> None:
        self.send: Publish = _to_nobody
        self._on_event: OnEvent = _discard
        self._tokens = 0
        self._is_up = False

    def start(self, loop: asyncio.AbstractEventLoop, on_event: OnEvent) -> None:
        """Hear of events from now on."""
        del loop
        self._on_event = on_event

    def publish(self, publication: Publication) -> int:
        """Send; returns the token of the Published event."""
        self._tokens += 1
        token = self._tokens
        self.send(publication, lambda event: self._on_event(event._replace(token=token)))
        return token

    async def stop(self, timeout_s: float) -> None:
        """Hear of nothing any more; the session is not ours to end."""
        del timeout_s
        self._on_event = _discard

    def stats(self) -> dict[str, Any]:
        """Whether the session is connected."""
        return {"state": "connected" if self._is_up else "disconnected"}

    def notice(self, event: Connected | Disconnected) -> None:
        """The session's connection has come or gone."""
        self._is_up = isinstance(event, Connected)
        self._on_event(event)


def _to_nobody(_: Publication, _on_published: Callable[[Published], None]) -> None:
    pass


def _discard(_: SessionEvent) -> None:
    pass
