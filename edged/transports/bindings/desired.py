"""Configuration over MQTT: ``<base>/config/desired`` in, ``<base>/config/reported`` out.

Decides what is handed on and when it is acknowledged; whether a document is taken is the house's to
say (``edged/generation/desired.py``). Its session is its own: what a document does to the
bindings' does not keep the next one out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from edged.protocol.broker_session import (
    BrokerSession,
    Connected,
    Disconnected,
    Message,
    Publication,
    SessionEvent,
    Subscribed,
)
from edged.protocol.mqtt import JSON, encode_document

log = logging.getLogger("edged.mqtt")

Offer = Callable[[bytes, Callable[[], None]], None]
_STOP_S = 2.0


class DesiredTopic:
    """See above.

    Args:
        session: with a name of its own and no will.
        base: our own topics lie below it.
        offer: takes a message's bytes, and what to call when it was decided upon.
    """

    def __init__(self, session: BrokerSession, base: str, offer: Offer) -> None:
        self.received = 0
        self._session = session
        self._in, self._out = f"{base}/config/desired", f"{base}/config/reported"
        self._offer = offer
        self._loop = asyncio.get_running_loop()
        self._connection = 0
        self._refused = ""
        self._said: Publication | None = None

    def start(self) -> None:
        """Connect; a broker that is away is waited for."""
        self._session.start(self._loop, self._on_event)

    async def stop(self) -> None:
        """Take nothing more; what was not decided upon comes again."""
        self._connection = 0
        await self._session.stop(_STOP_S)

    def stats(self) -> dict[str, Any]:
        """For the status page."""
        state = self._session.stats()["state"]
        return {"state": state, "received": self.received, "problem": self.problem}

    @property
    def is_connected(self) -> bool:
        """Whether a connection is up."""
        return self._connection != 0

    @property
    def problem(self) -> str:
        """Why no document can come; empty when one can."""
        if self._refused:
            return f"the broker refuses the subscription: {self._refused}"
        return "" if self._connection else "not connected to the broker"

    def report(self, document: Mapping[str, Any]) -> None:
        """Say what is in effect, retained: when it changes, and on each new connection."""
        payload = encode_document(document)
        said = Publication(self._out, payload, retain=True, content_type=JSON)
        if said != self._said:
            self._said = said
            if self._connection:
                self._session.publish(said)

    def _on_event(self, event: SessionEvent) -> None:
        if isinstance(event, Connected):
            self._connection = event.connection
            self._session.subscribe([(self._in, 1)])
            if self._said is not None:
                self._session.publish(self._said)
        elif isinstance(event, Disconnected):
            self._connection = 0
        elif isinstance(event, Subscribed) and event.connection == self._connection:
            self._refused = next((reason for _, reason in event.failures), "")
            if self._refused:
                log.error("%s: %s", self._in, self.problem)
        elif isinstance(event, Message) and event.connection == self._connection:
            self._on_message(event)

    def _on_message(self, message: Message) -> None:
        def on_done() -> None:
            if message.connection == self._connection:
                self._session.ack(message)

        if not message.payload:
            on_done()  # somebody took a retained one back; that says nothing of what is in effect
            return
        self.received += 1
        self._offer(message.payload, on_done)
