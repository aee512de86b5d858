"""One connection to a broker on the event loop: a socket's bytes for a protocol that has none.

Decides when bytes are written and when a silent broker is given up. What is said is
``protocol/mqtt_session.py``'s, whether there will be another connection ``native.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import cast

from edged.protocol.mqtt_session import ClientSession
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.patience import Patience, queued_bytes

READ_BYTES = 256 << 10
"""One read of the socket for a packet that is known to be large."""
SMALL_READ_BYTES = 4 << 10
"""Else: some thirty small messages, whose answers leave before the next ones are read, so that the
broker has something to do meanwhile."""
WRITE_BYTES = 256 << 10
"""So much may wait in the transport before nothing more is given to it."""
ACKS_AT_ONCE = 8
"""So many acknowledgements of messages are written although nothing else is to be said."""
ACK_DELAY_S = 0.001
"""Fewer wait so long for something else to be written. Each write wakes the broker, and its answer
us: a device that asks again when it has its answer saves one of two."""
_LONE_ACKS = 64
"""Where nothing came in that time, so many leave at once before it is tried again."""
FEW_BYTES = 2 << 10
MANY_OPEN = 8
DENSE_NS = 500_000
REST_S = 0.00001
"""Where reads follow one another so closely, bring little each, and so much of ours is still on its
way, the loop rests for so long (less than a tenth of a millisecond, as kernels keep time): the
broker gets a core meanwhile, and what it sends comes together, at half the cost."""
LAST_WORDS_S = 1.0
"""How long a broker has to close its side after DISCONNECT, as it must."""


class BrokerLink(asyncio.BufferedProtocol):
    """Moves bytes between a transport and a session.

    All that one turn of the loop has to say leaves in one write.

    Args:
        session: what is said.
        options: for how long to wait.
        on_heard: called when bytes came, with the clock.
        on_pause: called when the events of those bytes were emitted.
    """

    def __init__(
        self,
        session: ClientSession,
        options: SessionOptions,
        on_heard: Callable[[int], None],
        on_pause: Callable[[], None] = lambda: None,
    ) -> None:
        self.session = session
        self.words = ""
        self.is_gone = False
        self.reached_broker = False
        self.is_silent = False
        self._options = options
        self._on_heard, self._on_pause = on_heard, on_pause
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._small = self._buffer[:SMALL_READ_BYTES]
        self._is_due = self._is_reading = False
        self._patience, self._written = Patience(), 0
        self._acks_at_once = max(1, min(ACKS_AT_ONCE, options.max_inflight // 4))
        self._acks_timer: asyncio.TimerHandle | None = None
        self._lone_acks = 0
        self._is_paused = False
        self._is_ending = False
        self._timer: asyncio.TimerHandle | None = None
        self._read_ns = 0
        self._begun_ns = self._ticked_ns = time.monotonic_ns()
        self._tick_s = max(0.05, min(options.keepalive_s, options.connect_timeout_s) / 4)

    async def closed(self) -> None:
        """Wait until the connection is gone."""
        await self._closed

    def schedule(self) -> None:
        """Write at the end of this turn of the loop."""
        if not self._is_due and not self._is_reading:
            self._is_due = True
            self._loop.call_soon(self._turn)

    def schedule_acks(self) -> None:
        """Write acknowledgements, soon: with what is said next, or when there are several."""
        if self._is_reading:
            return
        if self._lone_acks or self.session.outgoing.acks >= self._acks_at_once:
            self._lone_acks = max(0, self._lone_acks - 1)
            self.schedule()
        elif self._acks_timer is None and not self._is_due:
            self._acks_timer = self._loop.call_later(ACK_DELAY_S, self._on_acks_timer)

    def _on_acks_timer(self) -> None:
        self._acks_timer = None
        if self.session.outgoing.acks:
            self._lone_acks = _LONE_ACKS
            self._flush()

    def end(self, words: str = "") -> None:
        """Break the connection off."""
        self.words = self.words or words
        if self._transport is not None:
            self._transport.abort()

    def _turn(self) -> None:
        self._is_due = False
        self._flush()

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or self._is_paused or self.is_gone:
            return
        data = self.session.take(time.monotonic_ns())
        if data:
            self._written += len(data)
            transport.write(data)
        if self.session.is_over and not self._is_ending:
            self._finish(transport)

    def _finish(self, transport: asyncio.Transport) -> None:
        """Close behind the last words.

        A socket that is closed with bytes unread takes what was sent last with it, so after a
        DISCONNECT the broker is given the time to close first.
        """
        self._is_ending = True
        if self.session.is_broken or self.session.reason_code is not None:
            transport.close()
        self._loop.call_later(LAST_WORDS_S, transport.abort)

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to talk."""
        self._transport = transport = cast("asyncio.Transport", transport)
        self.reached_broker = True
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        self._begun_ns = self._ticked_ns = time.monotonic_ns()
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        self.is_gone = True
        if exc is not None and not self.words:
            self.words = str(exc) or type(exc).__name__
        for timer in (self._timer, self._acks_timer):
            if timer is not None:
                timer.cancel()
        if not self._closed.done():
            self._closed.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio calls it so
        """Where the next bytes go."""
        is_large = self.session.reader.missing_bytes > SMALL_READ_BYTES
        return self._buffer if is_large else self._small

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        now_ns = time.monotonic_ns()
        self._on_heard(now_ns)
        session = self.session
        self._is_reading = True  # what is said meanwhile is written below
        try:
            session.receive(bytes(self._buffer[:nbytes]), now_ns)
            self._on_pause()
        finally:
            self._is_reading = False
        if session.outgoing.is_urgent or session.is_over:
            self._flush()
        elif session.outgoing.acks:
            self.schedule_acks()
        is_dense = now_ns - self._read_ns < DENSE_NS and nbytes < FEW_BYTES
        if is_dense and session.together.unacknowledged >= MANY_OPEN:
            time.sleep(REST_S)
        self._read_ns = now_ns

    def pause_writing(self) -> None:
        """The broker does not read: what is to be said waits here, where it is counted."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._is_paused = False
        self._flush()

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        # When the loop itself stood still, what came meanwhile is read before anyone is judged.
        stood_still = now_ns - self._ticked_ns > 3 * self._tick_s * 1e9
        self._ticked_ns = now_ns
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        self.session.tick(now_ns)
        self._flush()
        if stood_still:
            return
        options = self._options
        if not self.session.is_up and now_ns - self._begun_ns > options.connect_timeout_s * 1e9:
            self.end("the broker did not answer CONNECT in time")
        heard_ns = self.session.heard_ns or self._begun_ns
        if now_ns - heard_ns > 1.5 * options.keepalive_s * 1e9:
            self.is_silent = True
            self.end("the broker was not heard for one and a half keepalives")
        oldest, patience = self.session.together.oldest, self._patience
        if self._is_paused or not patience.waits_for(oldest):
            patience.begin(oldest, now_ns, self._written + self.session.outgoing.size_bytes)
        elif patience.has_ended(now_ns, self._written - unread_bytes(self._transport)):
            self.is_silent = True
            self.end(patience.words)


def waiting_bytes(transport: asyncio.Transport) -> int:
    """What a transport has not given to the system; that of TLS leaves out what is below it."""
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    inner = below.get_write_buffer_size() if below is not None else 0
    return int(transport.get_write_buffer_size() + inner)


def unread_bytes(transport: asyncio.Transport | None) -> int:
    """What was written and did not arrive at the other side, as far as the system says it."""
    size = queued = 0
    # Closed meanwhile; TLS of Python 3.10 has no transport any more then.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if transport is not None:
            size = waiting_bytes(transport)
            queued = queued_bytes(transport.get_extra_info("socket").fileno())
    return size + queued
