"""What a broker brings, into a capture: ``edged mqtt record``.

A second client beside the daemon, which takes nothing away from it: it has a name and a session of
its own, subscribes to the plain topics (never as a member of a group), and leaves no will.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from edged.broker.options import session_options
from edged.commands.capture import CaptureWriter
from edged.config.broker_lines import Line, config_of
from edged.config.brokers import MAIN
from edged.config.load import Snapshot
from edged.config.problems import did_you_mean, quote
from edged.errors import DisconnectedError, InvalidRequestError
from edged.protocol.broker_session import (
    BrokerSession,
    Connected,
    Disconnected,
    Message,
    SessionEvent,
    Subscribed,
)
from edged.topics import TopicFilter
from edged.transports.mqtt.clients import open_session

_STOP_S = 2.0
_NO_BROKER = "the configuration names no broker: add `mqtt: {host: NAME}`"


def filters_of(snapshot: Snapshot, topics: Sequence[str], broker: str = MAIN) -> list[str]:
    """What to subscribe to: the topics that were asked for, else what the bindings read there.

    Raises:
        InvalidRequestError: there is none.
        FieldError: a topic is none.
    """
    bindings = [one for one in snapshot.config.bindings if (one.broker or MAIN) == broker]
    read = [text for one in bindings for text in (one.from_, *(part.from_ for part in one.join))]
    found = [TopicFilter.parse(text, "--topic").plain for text in topics or read]
    if not found:
        whose = "" if broker == MAIN else f" that read from {quote(broker)}"
        raise InvalidRequestError(
            f"the configuration has no bindings{whose}: name a topic by --topic"
        )
    return list(dict.fromkeys(found))


def at_broker(snapshot: Snapshot, name: str) -> Snapshot:
    """The configuration as a broker of it is told: that one is its ``mqtt``.

    Raises:
        InvalidRequestError: there is none of that name.
    """
    config = snapshot.config
    if config.mqtt is None:
        raise InvalidRequestError(_NO_BROKER)
    known = sorted({MAIN, *config.brokers})
    if name not in known:
        near, listed = did_you_mean(name, known), ", ".join(known)
        raise InvalidRequestError(
            f"--broker: no broker is named {quote(name)}{near}; brokers: {listed}"
        )
    return replace(snapshot, config=config_of(config, Line(name)))


def record(
    snapshot: Snapshot,
    filters: Sequence[str],
    capture: CaptureWriter,
    seconds: float,
    say: Callable[[str], None],
) -> None:
    """Write what comes until the capture is full or the time is over.

    Args:
        snapshot: its ``mqtt`` is the broker; see ``at_broker``.
        filters: what to subscribe to.
        capture: where it goes.
        seconds: the time.
        say: told what is recorded, once the broker agreed.

    Raises:
        InvalidRequestError: there is no ``mqtt:`` section.
        ApplyError: the password or a certificate cannot be read.
        DisconnectedError: the broker cannot be reached, refuses us, or was lost.
    """
    mqtt = snapshot.config.mqtt
    if mqtt is None:
        raise InvalidRequestError(_NO_BROKER)
    options = session_options(snapshot, mqtt)
    name = f"{options.client_id[:40]}-record-{os.getpid()}"
    options = replace(options, client_id=name, session_expiry_s=0, has_will=False)
    session = open_session(options, mqtt.client)
    asyncio.run(_Recorder(session, list(filters), capture, say).run(seconds))


class _Recorder:
    def __init__(
        self,
        session: BrokerSession,
        filters: list[str],
        capture: CaptureWriter,
        say: Callable[[str], None],
    ) -> None:
        self._session = session
        self._filters = filters
        self._capture = capture
        self._say = say
        self._ended = asyncio.Event()
        self._problem = ""

    async def run(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        self._session.start(asyncio.get_running_loop(), self._on_event)
        try:
            await asyncio.wait_for(self._ended.wait(), until_s - time.monotonic())
        except asyncio.TimeoutError:
            if self._session.stats()["state"] != "connected":
                self._problem = self._session.stats()["last_error"] or "not connected in time"
        finally:
            self._session.unsubscribe(self._filters)
            await self._session.stop(_STOP_S)
        if self._problem:
            raise DisconnectedError(f"broker {self._session.stats()['broker']}: {self._problem}")

    def _on_event(self, event: SessionEvent) -> None:
        if isinstance(event, Message):
            self._capture.add(event)
            self._session.ack(event)
            if self._capture.is_full:
                self._ended.set()
        elif isinstance(event, Connected):
            self._session.subscribe([(text, 1) for text in self._filters])
        elif isinstance(event, Subscribed):
            if event.failures:
                text, reason = event.failures[0]
                self._fail(f'refuses the subscription to "{text}": {reason}')
            else:
                self._say(f"recording {', '.join(self._filters)}")
        elif isinstance(event, Disconnected):
            self._fail(event.reason)

    def _fail(self, reason: str) -> None:
        self._problem = reason
        self._ended.set()
