"""One client of the gRPC socket: bytes to calls, and answers back.

Decides how much of the loop's turn one client may take, how long a message may take to arrive and
an answer to be read, and when the connection ends; what a call means is ``http2_calls``'.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, cast

from edged.access.visit import Visit
from edged.errors import BusyError, QuotaError
from edged.protocol.frames import Buffer
from edged.protocol.grpc_wire import encode_only
from edged.protocol.http2_frames import BrokenConnectionError, Reason
from edged.transports.awake import AWAKE_NS, read_awake
from edged.transports.grpc.http2_calls import Call, Calls
from edged.transports.grpc.infer import failure

if TYPE_CHECKING:
    from edged.transports.grpc.endpoint import GrpcServer

log = logging.getLogger("edged.grpc")

_IDLE_S: Final = 300.0
"""A connection without a call ends after one to two of these: clients keep a channel open and
connect again by themselves, and those that were forgotten cost descriptors."""
_LINGER_S: Final = 1.0
_TURNED_AWAY: Final = 16
_VIGIL: Final = 2
"""So many times as long as the loop is held up for a client that is alone, it is then watched for:
one of Python's takes some 200 us from an answer to its next call."""
_JOIN_BYTES: Final = 64 << 10
"""Joining so little costs less than a second call of the kernel."""


class Peer(asyncio.Protocol):
    """One client.

    Args:
        server: its limits hold as they were when the connection was made.
    """

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._asker = server.service.asker()
        self._visit: Visit | None = None
        self.calls = Calls(
            self._asker, self._on_output, max_message_bytes=server.max_message_bytes,
            max_unread_bytes=server.max_unread_bytes,
        )  # fmt: skip
        self._connection = self.calls.connection
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._is_in_turn = self._is_stuck = self._has_more = self._is_over = False
        self._is_scheduled = self._was_used = False
        self._descriptor = -1
        """What is read while awake; -1 where what is read has yet to be decrypted."""
        self._sweep: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._unfinished: set[tuple[Call, int]] | None = None
        self._was_between = True
        self._looked = 0
        self._written = 0
        self._stalled_at: tuple[int, float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is; refuse when there are too many."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        try:
            guest = self._server.admit(self, transport, self._asker.review)
        except BusyError as exc:
            self._turn_away(exc)
            return
        self._visit = guest.visit
        self._asker.enter(guest.visit)
        self.calls.origin = guest.origin
        self._descriptor = guest.descriptor
        self._flush()
        self._watch()
        self._idle = self._loop.call_later(_IDLE_S, self._on_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, and withdraw what still waits: nobody would read the answers."""
        self._transport = None
        self._is_over = True
        self._server.connections.discard(self)
        if self._server.latest is self:
            self._server.latest = None
            self._server.vigil.end(in_time=False)
        self._server.turned_away.discard(self)
        for timer in (self._sweep, self._idle):
            if timer is not None:
                timer.cancel()
        self.calls.end_all()
        self._asker.leave()
        if self._visit is not None:
            self._visit.leave()
        if exc is not None:
            log.debug("a connection of %s broke: %s", self.calls.origin, exc)

    def _turn_away(self, error: BusyError) -> None:
        """Refuse what it asks for a moment, so that its user reads why, and end.

        Of many at once only a few are told so, and none where all connections there may be are
        open: each costs a descriptor that no bound counts.
        """
        server, transport = self._server, cast(asyncio.Transport, self._transport)
        if not isinstance(error, QuotaError) or len(server.turned_away) >= _TURNED_AWAY:
            self._connection.fail(BrokenConnectionError(Reason.ENHANCE_YOUR_CALM, error.message))
            self._flush()
            self._is_over = True
            transport.close()
            return
        server.turned_away.add(self)
        self.calls.refusal = encode_only(failure(error))
        self._flush()
        self._idle = self._loop.call_later(_LINGER_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take what came, as much as one turn allows."""
        server = self._server
        before, server.latest = server.latest, self
        server.vigil.end(in_time=before is self)
        # Where several ask in turn, the next one to ask is another.
        if self._takes_call(data) and before is self:
            self._wait_awake()

    def _takes_call(self, data: bytes) -> bool:
        """Take what came; returns whether it was one call, answered on the spot."""
        self._server.received_bytes += len(data)
        if self._is_over:
            return False
        calls, connection = self.calls, self._connection
        self._was_used = True
        if not self._is_stuck and not self._has_more:
            answer = calls.answer_alone(data)
            if answer is not None:
                connection.out.append(answer)
                self._flush()
                return True
        work = connection.streams.work
        self._is_in_turn = True
        self._turned(connection.receive(data, time.monotonic_ns()))
        is_answered = connection.streams.work == work + 1 and not calls.live
        if is_answered:
            calls.short.learn(data)
        return is_answered

    def _wait_awake(self) -> None:
        """As in native/peer.py: wait a moment for the next call without going to sleep."""
        server = self._server
        patience, buffer = server.patience, server.buffer
        until_ns = time.monotonic_ns() + AWAKE_NS
        while self._is_readable and patience.is_worth_it():
            count = 0
            if self._descriptor >= 0 and time.monotonic_ns() < until_ns:
                count = read_awake(self._descriptor, buffer, patience.wait_ns)
            if not count:
                # Clients of gRPC take longer between two calls than the loop may be held up.
                server.vigil.begin(patience, _VIGIL * patience.wait_ns)
                return
            patience.ended(in_time=True)
            if not self._takes_call(bytes(buffer[:count])):
                return

    @property
    def _is_readable(self) -> bool:
        """Whether more may be read of it now."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._is_stuck

    def eof_received(self) -> None:
        """The client is gone: those of HTTP/2 do not close one side only."""

    def pause_writing(self) -> None:
        """The client does not read: take nothing more from it until it does."""
        self._is_stuck = True
        self.calls.hold(True)
        if self._transport is not None and not self._is_over:
            self._transport.pause_reading()
            self._watch()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._is_stuck = False
        self.calls.hold(False)
        if self._has_more:
            self._loop.call_soon(self._next_turn)
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def end(self) -> None:
        """The daemon stops: take no new calls, and close once those under way are answered."""
        self._connection.end()
        self.calls.end_streams()
        self._flush()
        self._close_if_done()

    def _turned(self, has_more: bool) -> None:
        """A turn has ended: write what it gave."""
        calls, connection, transport = self.calls, self._connection, self._transport
        calls.relieve()
        self._is_in_turn = False
        if connection.out:
            self._flush()
        if connection.failure is not None:
            self._refuse(connection.failure)
        elif has_more:
            self._has_more = True
            if transport is not None and not transport.is_closing():
                transport.pause_reading()
                self._loop.call_soon(self._next_turn)
        elif calls.live or not connection.is_between:
            self._watch()
        elif connection.streams.is_ending:
            self._close_if_done()

    def _next_turn(self) -> None:
        """Others had their turn."""
        transport = self._transport
        if not self._has_more or self._is_stuck or transport is None or self._is_over:
            return
        self._has_more = False
        self._is_in_turn = True
        self._turned(self._connection.go_on(time.monotonic_ns()))
        if not self._has_more and not self._is_stuck and not transport.is_closing():
            transport.resume_reading()

    def _on_output(self) -> None:
        """Something is to be written: with what else this turn gives."""
        if self._is_in_turn or self._is_scheduled:
            return
        if self.calls.live:
            # Answers to calls that ran together come together.
            self._is_scheduled = True
            self._loop.call_soon(self._on_scheduled)
        else:
            self._flush()
            self._close_if_done()

    def _on_scheduled(self) -> None:
        self._is_scheduled = False
        self._flush()
        self._close_if_done()

    def _close_if_done(self) -> None:
        streams = self._connection.streams
        if streams.is_ending and not streams.by_number and self._transport is not None:
            self._transport.close()

    def _refuse(self, fault: BrokenConnectionError) -> None:
        """Say why, and end: who is cut off while it sends does not read it."""
        if self._is_over:
            return
        self._is_over = True
        log.warning("closing a connection of %s: %s", self.calls.origin, fault.message)
        transport = self._transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
        self._loop.call_later(_LINGER_S, transport.abort)

    # --- time ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Something is under way: look again when it should be over.

        One timer that is not touched while calls come and go: only what was unfinished at one look
        and still is at the next is given up, so each has between one and two times the limit.
        """
        if self._sweep is None and self._transport is not None and not self._is_over:
            self._sweep = self._loop.call_later(self._server.frame_timeout_s, self._on_sweep)

    def _on_sweep(self) -> None:
        self._sweep = None
        if self._transport is None or self._is_over:
            return
        calls, connection, seconds = self.calls, self._connection, self._server.frame_timeout_s
        is_reading = not self._is_stuck and not self._has_more
        unfinished = calls.unfinished() if is_reading else set()
        for call, _ in unfinished & (self._unfinished or set()):
            calls.give_up(call, seconds)
        self._unfinished = unfinished
        is_between = connection.is_between or not is_reading
        if not is_between and not self._was_between and self._looked == connection.progress:
            text = f"a frame was not whole after {seconds:g} s (limits.frame_timeout)"
            connection.fail(BrokenConnectionError(Reason.ENHANCE_YOUR_CALM, text))
        self._was_between, self._looked = is_between, connection.progress
        self._turned(has_more=False)
        if not self._is_over and self._is_unread_too_long():
            log.warning("closing a connection of %s: it does not read", calls.origin)
            self._transport.abort()

    def _is_unread_too_long(self) -> bool:
        """Whether answers wait, and the client has taken nothing for a long time."""
        waiting = self._connection.streams.outflow.waiting_bytes
        if not waiting and not self._is_stuck:
            self._stalled_at = None
            return False
        transport, now = cast(asyncio.Transport, self._transport), self._loop.time()
        left = self._written - transport.get_write_buffer_size()
        self._watch()
        if self._stalled_at is None or self._stalled_at[0] != left:
            self._stalled_at = (left, now)
            return False
        return now - self._stalled_at[1] > self._server.unread_wait_s

    def _on_idle(self) -> None:
        self._idle = self._loop.call_later(_IDLE_S, self._on_idle)
        if not self._was_used and not self.calls.live:
            self.end()
        self._was_used = False

    # --- writing ------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Write what is to be written, in as few pieces as is cheap."""
        out = self._connection.out
        transport = self._transport
        if not out:
            return
        if transport is None or transport.is_closing():
            out.clear()
            return
        if (
            self._is_stuck
            and transport.get_write_buffer_size() > self._server.max_unread_bytes
        ):  # fmt: skip
            log.warning("closing a connection of %s: it does not read", self.calls.origin)
            out.clear()
            transport.abort()
            return
        few: list[Buffer] = []
        size = total = 0
        for buffer in out:
            few.append(buffer)
            count = buffer.nbytes if type(buffer) is memoryview else len(buffer)
            size += count
            if size > _JOIN_BYTES:
                total += size
                if count > _JOIN_BYTES and len(few) > 1:
                    transport.write(b"".join(few[:-1]))
                    transport.write(buffer)
                else:
                    transport.write(b"".join(few))
                few, size = [], 0
        out.clear()
        if few:
            transport.write(few[0] if len(few) == 1 else b"".join(few))
        if not self._connection.streams.outflow.is_empty:
            self._watch()
        self._written += total + size
        self._server.sent_bytes += total + size
