"""A persistent session with a broker, over as many connections as it takes.

Decides when to connect, with which version of MQTT, and which command belongs to which connection.
The network side runs in a thread of its own: the loop hands over commands, the thread hands back
events, each side waking the other once for many. Never decides what a message means, and knows the
MQTT library only by the narrow view below.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import select
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import replace
from typing import Any

from edged.protocol.broker_session import (
    Connected,
    Disconnected,
    Message,
    OnEvent,
    Publication,
    Published,
    SessionEvent,
)
from edged.protocol.mqtt_session import UNTOLD
from edged.system.cores import spread
from edged.transports.mqtt.connection import Connection, MakeConnection, SessionOptions
from edged.transports.mqtt.reconnect import Verdict
from edged.transports.mqtt.renewal import renewed
from edged.transports.mqtt.standing import Ending, Next, Standing

log = logging.getLogger("edged.mqtt")

_ANSWER_S = 1.0
"""How long the loop may take to say how many messages we take."""


class Session:
    """A session; see BrokerSession.

    Args:
        options: where and who.
        make_connection: the library's side.
        rng: for the jitter of reconnects.
    """

    def __init__(
        self,
        options: SessionOptions,
        make_connection: MakeConnection,
        rng: random.Random | None = None,
    ) -> None:
        self.options = options
        self._make_connection = make_connection
        self._standing = Standing(options, rng)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_event: OnEvent = _discard
        self.on_pause: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()
        self._wake_fd = -1
        self._commands: deque[tuple[int, Callable[[Connection], None]]] = deque()
        self._is_woken = False
        self._events: deque[SessionEvent] = deque()
        self._is_announced = False
        self._tokens = 0
        self._delivered = 0  # the connection the loop knows of; written on the loop
        self._epoch = 0  # the connection the thread is on
        self._stop_asked = threading.Event()
        self._stale = 0

    def start(self, loop: asyncio.AbstractEventLoop, on_event: OnEvent) -> None:
        """Begin to connect; events are delivered on the loop, in order."""
        self._loop, self._on_event = loop, on_event
        self._ended = asyncio.Event()
        self._stop_asked.clear()
        self._is_woken = False
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._standing.state = "connecting"
        self._thread = threading.Thread(target=self._run, name="edged-mqtt", daemon=True)
        self._thread.start()

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> int:
        """Subscribe to filters, each with its QoS."""
        token, wanted = self._token(), tuple(filters)
        self._command(self._delivered, lambda connection: connection.subscribe(token, wanted))
        return token

    def unsubscribe(self, filters: Sequence[str]) -> int:
        """Unsubscribe from filters."""
        token, unwanted = self._token(), list(filters)
        self._command(self._delivered, lambda connection: connection.unsubscribe(token, unwanted))
        return token

    def publish(self, publication: Publication) -> int:
        """Send on the connection that is up, or not at all."""
        token = self._token()
        self._command(self._delivered, lambda connection: connection.publish(token, publication))
        return token

    def send(self, publication: Publication) -> None:
        """Send with QoS 0 what nobody waits for: no event tells whether it left, a count does."""
        self._command(self._delivered, lambda connection: connection.publish(UNTOLD, publication))

    def ack(self, message: Message) -> None:
        """Acknowledge, on the connection the message arrived on or not at all."""
        if message.qos:
            mid = message.mid
            self._command(message.connection, lambda connection: connection.ack(mid))

    async def stop(self, timeout_s: float) -> None:
        """Disconnect cleanly and end the thread; the broker keeps the session."""
        thread = self._thread
        if thread is None:
            return
        self._stop_asked.set()
        os.eventfd_write(self._wake_fd, 1)
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except asyncio.TimeoutError:
            log.warning("the broker thread did not end within %.1f s", timeout_s)
            return
        thread.join()
        os.close(self._wake_fd)
        self._thread, self._wake_fd = None, -1
        self._standing.state = "stopped"

    def stats(self) -> dict[str, Any]:
        """State, protocol, since when (wall clock), last error, and figures."""
        return {**self._standing.stats(), "stale_commands": self._stale}

    @property
    def is_alive(self) -> bool:
        """Whether we are connected and the broker was heard within one and a half keepalives."""
        return self._standing.is_alive

    def _token(self) -> int:
        self._tokens += 1
        return self._tokens

    def _command(self, connection: int, act: Callable[[Connection], None]) -> None:
        if self._wake_fd < 0:
            return
        self._commands.append((connection, act))
        if not self._is_woken and self._loop is not None:
            self._is_woken = True
            # Not at once: the thread would wait for the interpreter lock that we hold.
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    def _deliver(self) -> None:
        self._is_announced = False
        # Not what comes meanwhile, it announces itself: a flood must not keep sockets waiting.
        for _ in range(len(self._events)):
            event = self._events.popleft()
            if isinstance(event, Connected):
                self._delivered = event.connection
            try:
                self._on_event(event)
            except Exception:
                log.exception("an MQTT event could not be handled")
        self.on_pause()

    # From here on: in the thread.

    def _emit(self, event: SessionEvent) -> None:
        if isinstance(event, Connected):
            event = self.options.bounded(event)
            self._standing.connected(event)
        elif isinstance(event, Published) and event.token == UNTOLD:
            if event.reason_code:
                self._standing.left_unsent(event.reason)
            return
        self._events.append(event)

    def _announce(self) -> None:
        """Wake the loop once for all of it: it would wait for the interpreter lock that we hold."""
        if self._events and not self._is_announced and self._loop is not None:
            self._is_announced = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop was closed before us: nobody is left to tell
                self._stop_asked.set()

    def _run(self) -> None:
        spread()
        try:
            while (following := self._live()) is not None and following.will_retry:
                self._pause(following.delay_s)
                if self._stop_asked.is_set():
                    break
        except Exception:
            log.exception("the broker thread failed")
        finally:
            with contextlib.suppress(RuntimeError):
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._ended.set)

    def _live(self) -> Next | None:
        """One connection from its first packet to its last; then: what now? None = the end."""
        self._epoch += 1
        if self._epoch > 1:
            self.options = renewed(self.options)
        self._standing.begin()
        options = self.options
        if options.places is not None:
            options = replace(options, places=self._places)
        connection = self._make_connection(
            options, self._standing.protocol, self._epoch, self._emit
        )
        words, verdict, is_silent = "", None, False
        try:
            connection.connect()
            if not self._stop_asked.is_set():  # nothing was sent yet: it takes over nobody's name
                self._serve(connection)
        except ssl.SSLCertVerificationError as exc:
            words, verdict = f"TLS: {exc.verify_message or exc}", Verdict.SLOWLY
        except OSError as exc:
            words, is_silent = str(exc) or type(exc).__name__, isinstance(exc, TimeoutError)
        except Exception as exc:
            log.exception("the MQTT client failed")
            words = f"the MQTT client failed: {type(exc).__name__}"
        if self._stop_asked.is_set():
            return None
        following = self._standing.ended(
            Ending(
                connection.is_up,
                connection.reached_broker,
                connection.reason_code,
                connection.reason,
                words,
                verdict,
                is_silent=is_silent,
            )
        )
        self._emit(Disconnected(self._epoch, following.reason, following.will_retry))
        self._announce()
        return following

    def _places(self, is_v5: bool) -> int:
        """How many messages we take, as the loop says it: what it looks at is not for threads."""
        said: futures.Future[int] = futures.Future()
        ask, loop = self.options.places, self._loop
        if ask is None or loop is None:
            return self.options.max_inflight
        try:
            loop.call_soon_threadsafe(lambda: said.set_result(ask(is_v5)))
            return said.result(_ANSWER_S)
        except (RuntimeError, futures.TimeoutError):  # closed, or too busy
            return self.options.max_inflight

    def _serve(self, connection: Connection) -> None:
        """Move bytes until the connection ends; raises TimeoutError for a silent broker."""
        options = self.options
        tick_ms = max(50.0, min(options.keepalive_s, options.connect_timeout_s) * 250)
        begun = heard = time.monotonic()
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        said_goodbye = False
        while (fd := connection.fileno()) >= 0:
            writes = select.POLLOUT if connection.wants_write() else 0
            poller.register(fd, select.POLLIN | writes)
            is_pending = connection.pending()
            ready = dict(poller.poll(0 if is_pending else tick_ms))
            now = time.monotonic()
            is_readable = is_pending or bool(ready.get(fd, 0) & ~select.POLLOUT)
            if is_readable:
                heard, self._standing.heard_ns = now, time.monotonic_ns()
            self._run_commands(connection)
            if self._stop_asked.is_set() and not said_goodbye:
                said_goodbye = True
                connection.disconnect()
            goes_on = connection.step(is_readable=is_readable)
            self._announce()
            if not goes_on:
                return
            if not connection.is_up and now - begun > options.connect_timeout_s:
                raise TimeoutError("the broker did not answer CONNECT in time")
            if now - heard > 1.5 * options.keepalive_s:
                raise TimeoutError("the broker was not heard for one and a half keepalives")

    def _run_commands(self, connection: Connection | None) -> None:
        # The flag falls after the read and before the look: a command put in between is either seen
        # here or wakes us again.
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        self._is_woken = False
        while self._commands:
            number, act = self._commands.popleft()
            if connection is None or number != self._epoch or not connection.is_up:
                self._stale += 1
            else:
                act(connection)

    def _pause(self, delay_s: float) -> None:
        until = time.monotonic() + delay_s
        while not self._stop_asked.is_set() and (left := until - time.monotonic()) > 0:
            select.select([self._wake_fd], [], [], left)
            self._run_commands(None)


def _discard(event: SessionEvent) -> None:
    pass
