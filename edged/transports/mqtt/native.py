"""The broker session on the event loop, over our own client.

Decides which command belongs to which connection; when to connect again is ``standing.py``'s. No
thread, no library: a message goes from the socket to its binding and its answer back within one
turn of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from edged.protocol.broker_session import (
    FULL_QUEUE,
    Connected,
    Disconnected,
    Message,
    OnEvent,
    Publication,
    SessionEvent,
)
from edged.protocol.mqtt_session import UNTOLD, ClientSession
from edged.protocol.mqtt_writer import Hello
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.link import BrokerLink
from edged.transports.mqtt.reconnect import Verdict
from edged.transports.mqtt.renewal import renewed
from edged.transports.mqtt.standing import UNREAD_BYTES, UNREAD_WORDS, Ending, Next, Standing

log = logging.getLogger("edged.mqtt")

TOPIC_ALIASES = 64
"""So many topics a broker may send as a number."""


class NativeSession:
    """A session; see BrokerSession. Used on one loop only.

    Args:
        options: where the broker is and who we are; a host that begins with / is a Unix socket.
        rng: for the jitter of reconnects.
    """

    def __init__(self, options: SessionOptions, rng: random.Random | None = None) -> None:
        self.options = options
        self._standing = Standing(options, rng)
        self._on_event: OnEvent = _discard
        self.on_pause: Callable[[], None] = _nothing
        self.on_taken: Callable[[int], bool] = _unknown
        self._task: asyncio.Task[None] | None = None
        self._stop_asked = asyncio.Event()
        self._link: BrokerLink | None = None
        self._number = 0
        self._tokens = 0
        self._stale = 0
        self._rejected = 0
        self._received: set[int] = set()

    def start(self, loop: asyncio.AbstractEventLoop, on_event: OnEvent) -> None:
        """Begin to connect; events are delivered on the loop, in order."""
        self._on_event = on_event
        self._stop_asked = asyncio.Event()
        self._standing.state = "connecting"
        self._task = loop.create_task(self._run())

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> int:
        """Subscribe to filters, each with its QoS."""
        token = self._token()
        if (session := self._current(self._number)) is not None:
            session.subscribe(token, tuple(filters))
        return token

    def unsubscribe(self, filters: Sequence[str]) -> int:
        """Unsubscribe from filters."""
        token = self._token()
        if (session := self._current(self._number)) is not None:
            session.unsubscribe(token, list(filters))
        return token

    def publish(self, publication: Publication) -> int:
        """Send on the connection that is up, or not at all."""
        token = self._token()
        if (session := self._current(self._number)) is not None:
            if publication.qos == 0 and session.together.unsent_bytes > UNREAD_BYTES:
                session.refuse(token, FULL_QUEUE, UNREAD_WORDS)
            else:
                session.publish(token, publication)
        return token

    def send(self, publication: Publication) -> None:
        """Send with QoS 0 what nobody waits for: no event tells whether it left, a count does."""
        session = self._current(self._number)
        if session is None:
            return
        if session.together.unsent_bytes > UNREAD_BYTES:
            session.refuse(UNTOLD, FULL_QUEUE, UNREAD_WORDS)
        else:
            session.publish(UNTOLD, publication)

    def publish_together(
        self, topics: Sequence[str], payloads: Sequence[bytes], like: Publication
    ) -> range:
        """Send several that differ in topic and payload alone; their tokens.

        Of QoS 0 nothing is told, as in ``send``.
        """
        tokens = range(self._tokens + 1, self._tokens + 1 + len(topics))
        self._tokens = tokens[-1]
        session = self._current(self._number)
        if session is None:
            return tokens
        if not like.qos and session.together.unsent_bytes > UNREAD_BYTES:
            for _ in tokens:
                session.refuse(UNTOLD, FULL_QUEUE, UNREAD_WORDS)
        elif session.is_over or not session.together.publish(tokens, topics, payloads, like):
            for token, topic, payload in zip(tokens, topics, payloads, strict=True):
                publication = like._replace(topic=topic, payload=payload)
                session.publish(token if like.qos else UNTOLD, publication)
        return tokens

    def ack_together(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages of one connection and of QoS 1 or 2, in this order."""
        link = self._link
        if self._is_current(link, messages[0].connection):
            packet_ids = [message.mid for message in messages]
            if link.session.is_over or not link.session.together.acknowledge(packet_ids):
                for packet_id in packet_ids:
                    link.session.ack(packet_id)
            link.schedule_acks()

    def ack(self, message: Message) -> None:
        """Acknowledge, on the connection the message arrived on or not at all."""
        if not message.qos:
            return
        link = self._link
        if self._is_current(link, message.connection):
            link.session.ack(message.mid)
            link.schedule_acks()

    async def stop(self, timeout_s: float) -> None:
        """Disconnect cleanly; the broker keeps the session."""
        task, link = self._task, self._link
        if task is None:
            return
        self._stop_asked.set()
        if link is not None and link.session.is_up:
            link.session.disconnect()
            link.schedule()
        else:
            task.cancel()  # it waits for a broker, or for the next try
        _, late = await asyncio.wait({task}, timeout=timeout_s)
        if late:
            log.warning("the broker did not close within %.1f s; broken off", timeout_s)
            if link is not None:
                link.end()
            task.cancel()
            await asyncio.wait({task})
        self._task, self._standing.state = None, "stopped"

    def stats(self) -> dict[str, Any]:
        """State, protocol, since when (wall clock), last error, and figures."""
        link = self._link
        return {
            **self._standing.stats(),
            "stale_commands": self._stale,
            "rejected": self._rejected + (link.session.rejected if link is not None else 0),
        }

    @property
    def is_alive(self) -> bool:
        """Whether we are connected and the broker was heard within one and a half keepalives."""
        return self._standing.is_alive

    def _token(self) -> int:
        self._tokens += 1
        return self._tokens

    def _current(self, number: int) -> ClientSession | None:
        """The connection of that number, if it is up; what is said to it is sent this turn."""
        link = self._link
        if not self._is_current(link, number):
            return None
        link.schedule()
        return link.session

    def _is_current(self, link: BrokerLink | None, number: int) -> TypeGuard[BrokerLink]:
        if link is None or number != self._number or link.is_gone or not link.session.is_up:
            self._stale += 1
            return False
        return True

    def _emit(self, event: SessionEvent) -> None:
        if isinstance(event, Connected):
            event = self.options.bounded(event)
            self._standing.connected(event)
        try:
            self._on_event(event)
        except Exception:
            log.exception("an MQTT event could not be handled")

    async def _run(self) -> None:
        try:
            while (following := await self._live()) is not None and following.will_retry:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stop_asked.wait(), following.delay_s)
                if self._stop_asked.is_set():
                    return
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("the MQTT client failed")

    async def _live(self) -> Next | None:
        """One connection from its first packet to its last; then: what now? None = the end."""
        self._number += 1
        if self._number > 1 and self.options.renew is not None:
            self.options = await asyncio.to_thread(renewed, self.options)
        self._standing.begin()
        # mosquitto 2.0 sends more than we take after it resumed a session. Whoever refused that
        # would never get out of it: the same messages come again on the next connection.
        session = ClientSession(
            self._hello(), self._number, self._emit, self._received, bears_excess=True,
            on_unsent=self._standing.left_unsent, on_taken=self.on_taken,
        )  # fmt: skip
        link = self._link = BrokerLink(session, self.options, self._heard, self._paused)
        words, verdict = "", None
        try:
            await asyncio.wait_for(self._open(link), self.options.connect_timeout_s)
            await link.closed()
        except ssl.SSLCertVerificationError as exc:
            words, verdict = f"TLS: {exc.verify_message or exc}", Verdict.SLOWLY
        except asyncio.TimeoutError:
            words = f"no connection within {self.options.connect_timeout_s:g} s"
        except OSError as exc:
            words = _words(exc)
        finally:
            link.end()
            self._link = None
            self._rejected += session.rejected
        excess, found = session.excess
        if excess:
            log.info("the broker sent %d messages more than we take: %s", excess, found)
        if session.rejected:
            log.warning("%d messages were rejected: %s", session.rejected, session.rejection)
        if self._stop_asked.is_set():
            return None
        following = self._standing.ended(
            Ending(
                session.is_up,
                link.reached_broker,
                session.reason_code,
                session.reason,
                link.words or words,
                verdict,
                session.is_broken,
                link.is_silent,
            )
        )
        self._emit(Disconnected(self._number, following.reason, following.will_retry))
        return following

    def _heard(self, now_ns: int) -> None:
        self._standing.heard_ns = now_ns

    def _paused(self) -> None:
        try:
            self.on_pause()
        except Exception:
            log.exception("MQTT messages could not be handled")

    def _hello(self) -> Hello:
        options, is_v5 = self.options, self._standing.protocol == "5"
        return Hello(
            options.client_id,
            is_v5,
            min(0xFFFF, max(1, round(options.keepalive_s))),
            clean_start=options.session_expiry_s == 0,
            username=options.username,
            password=options.password,
            will=options.last_words(),
            session_expiry_s=min(0xFFFF_FFFF, options.session_expiry_s),
            receive_maximum=options.receive_maximum(is_v5=is_v5),
            most_sent=options.max_inflight,
            maximum_packet_bytes=options.max_packet_bytes,
            topic_aliases=TOPIC_ALIASES,
            takes_retained=options.takes_retained,
        )

    async def _open(self, link: BrokerLink) -> None:
        options, loop = self.options, asyncio.get_running_loop()
        if options.host.startswith("/"):
            await loop.create_unix_connection(lambda: link, options.host)
            return
        protocol: asyncio.BaseProtocol = link
        if options.websocket is not None:
            from edged.protocol.websocket import WebSocket  # noqa: PLC0415 - only if used
            from edged.transports.mqtt.websocket_link import WebSocketLink  # noqa: PLC0415

            host = f"[{options.host}]" if ":" in options.host else options.host
            protocol = WebSocketLink(link, WebSocket(f"{host}:{options.port}", options.websocket))
        await loop.create_connection(
            lambda: protocol,
            options.host,
            options.port,
            ssl=options.tls,
            server_hostname=options.host if options.tls is not None else None,
        )


def _words(exc: OSError) -> str:
    """An error of the system in its own words: asyncio's name the call, not what went wrong."""
    if type(exc).__name__ != "gaierror" and exc.errno and exc.errno > 0:
        return f"[Errno {exc.errno}] {os.strerror(exc.errno)}"
    return str(exc) or type(exc).__name__


def _discard(event: SessionEvent) -> None:
    pass


def _nothing() -> None:
    pass


def _unknown(_token: int) -> bool:
    return False
