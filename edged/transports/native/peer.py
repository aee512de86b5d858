"""One client of the Unix socket: its frames to requests, and answers back.

Decides how much of the loop's turn one client may take, how long a frame may take to arrive, and
what becomes of its requests when it goes; never what a request means to a model.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from typing import TYPE_CHECKING, cast

from edged.access.visit import Visit
from edged.errors import (
    BusyError,
    EdgedError,
    RemoteProtocolError,
    RuntimeFailureError,
)
from edged.protocol import native
from edged.protocol.frames import Buffer, FrameReader, Kind
from edged.transports.awake import AWAKE_NS, read_awake
from edged.transports.native.passing import Passing, close_all
from edged.transports.native.requests import Requests

if TYPE_CHECKING:
    from edged.transports.native.uds import UnixServer

log = logging.getLogger("edged.uds")

_TURN = range(64)
"""Frames of one client that are handled in one turn of the loop: about half a millisecond of
decoding, and two full batches at the default ``max_batch``. What else it sent waits a turn. A CALL
ends the turn: a whole status is as much work as all these frames."""
_JOIN_BYTES = 64 << 10
"""Joining so little costs less than a second call of the kernel."""
_RUN, _INFER, _CALL = int(Kind.RUN), int(Kind.INFER), int(Kind.CALL)


class Connection(asyncio.BufferedProtocol):
    """One client.

    Args:
        server: its limits hold as they were when the connection was made.
    """

    def __init__(self, server: UnixServer) -> None:
        self._server = server
        self._limits = server.limits
        self._reader = FrameReader(self._limits)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._requests = Requests(server, self._write, self._on_answered, self)
        self._passing: Passing | None = None
        self._is_ending = False
        self._has_more = False
        self._is_stuck = False
        self._frames = 0
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = -1
        self._held: bytearray | None = None
        """What is written while frames that came together are handled, but for what is large."""
        self._visit: Visit | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is; refuse when there are too many."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        try:
            guest = self._server.admit(self, transport, self._requests.review)
        except BusyError as exc:
            self._write(native.encode_error(0, exc))
            transport.close()
            return
        self._visit = guest.visit
        self._requests.enter(guest.visit)
        self._requests.origin = guest.origin
        self._descriptor = guest.descriptor

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, and withdraw what still waits: nobody would read the answers."""
        self._transport = None
        self._server.connections.discard(self)
        close_all(self.end_passing())
        self._reader.drop()
        if self._timer is not None:
            self._timer.cancel()
        self._requests.withdraw_all()
        if self._visit is not None:
            self._visit.leave()
        if exc is not None:
            log.debug("a connection of %s broke: %s", self._requests.origin, exc)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes go: straight into a large frame's own memory."""
        return self._reader.next_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Handle the frames that are now complete, as many as one turn allows."""
        if self._takes_run(nbytes):
            self._wait_awake()

    def _take(self, nbytes: int) -> None:
        reader = self._reader
        reader.take(nbytes)
        # A full buffer means that more waits in the socket, which the loop would read at once.
        is_full = reader.is_full
        if self._serve() or is_full:
            self._go_on_next_turn()

    def eof_received(self) -> bool:
        """Keep the write side open while answers are on their way, and somebody may read them."""
        self._requests.streams.free()
        self._is_ending = self._requests.are_in_flight and not self._is_gone()
        return self._is_ending

    def _is_gone(self) -> bool:
        """Whether the client has closed both sides, as one that dies: nobody reads answers."""
        if self._transport is None:
            return True
        if self._requests.are_calls_under_way:
            return False  # a reload is not broken off because its operator looks away
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def pause_writing(self) -> None:
        """The client does not read: read nothing more from it until it does."""
        self._is_stuck = True
        self._requests.streams.hold()
        if self._transport is not None:
            self._read_no_more(self._transport)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._is_stuck = False
        if self._has_more:
            self._loop.call_soon(self._next_turn)
        elif self._transport is not None and not self._transport.is_closing():
            self._read_on(self._transport)
        self._requests.streams.release()

    def begin_passing(self) -> None:
        """Read with room for descriptors from now on, and wait for nothing awake meanwhile."""
        transport = self._transport
        if self._passing is None and transport is not None and not transport.is_closing():
            transport.pause_reading()
            self._passing = Passing(
                self._loop,
                self._descriptor,
                self._reader.next_buffer,
                self.buffer_updated,
                self._over,
            )
            self._descriptor = -1
            if not self._is_stuck and not self._has_more:
                self._passing.start()

    def end_passing(self) -> list[int]:
        """Read as always from now on; the descriptors that came are the caller's."""
        passing, self._passing = self._passing, None
        if passing is None:
            return []
        transport, descriptors = self._transport, passing.received()
        passing.close()
        if transport is not None:
            self._descriptor = transport.get_extra_info("socket").fileno()
            if not self._is_stuck and not self._has_more and not transport.is_closing():
                transport.resume_reading()
        return descriptors

    def _over(self) -> None:
        """The transport finds out what it is."""
        close_all(self.end_passing())

    def _read_on(self, transport: asyncio.Transport) -> None:
        if self._passing is None:
            transport.resume_reading()
        else:
            self._passing.start()

    def _read_no_more(self, transport: asyncio.Transport) -> None:
        if self._passing is None:
            transport.pause_reading()
        else:
            self._passing.stop()

    def end(self) -> None:
        """The daemon stops: say so where answers were to follow, and end the connection."""
        self._requests.streams.stop()
        self.close()

    def close(self) -> None:
        """End the connection after what was written."""
        self._let_go()
        if self._transport is not None:
            self._transport.close()
        close_all(self.end_passing())

    def _takes_run(self, nbytes: int) -> bool:
        """Handle what was read; returns whether to wait awake for the next."""
        self._server.received_bytes += nbytes
        data = self._reader.peek()
        is_answered = None
        if data is not None and not self._is_stuck:
            try:
                is_answered = self._requests.take_run(data, nbytes)
            except Exception as exc:
                self._end_badly(exc)
                return False
        if is_answered is None:
            self._take(nbytes)
            return False
        self._frames += 1
        return is_answered

    def _wait_awake(self) -> None:
        """Wait a moment for the next request of a client that is alone, without going to sleep.

        Others have their turn when there is nothing, and after half a millisecond at the latest.
        """
        patience = self._server.patience
        until_ns = time.monotonic_ns() + AWAKE_NS
        while time.monotonic_ns() < until_ns and patience.is_worth_it():
            count = self._read_awake(patience.wait_ns)
            patience.ended(in_time=count > 0)
            if not count or not self._takes_run(count):
                return

    def _read_awake(self, wait_ns: int) -> int:
        """Bytes read into the reader's buffer; 0 when none came, or the loop has to see to it."""
        transport = self._transport
        if self._is_stuck or transport is None or transport.is_closing():
            return 0
        return read_awake(self._descriptor, self._reader.next_buffer(), wait_ns)

    def _serve(self) -> bool:
        """Handle whole frames; returns whether more may be there.

        What is answered at once leaves together: in a flood most of it is refusals, and to write
        them one by one is a third of the work.
        """
        self._held = bytearray()
        try:
            return self._serve_frames()
        finally:
            self._let_go()

    def _serve_frames(self) -> bool:
        reader, requests = self._reader, self._requests
        try:
            for _ in _TURN:
                frame = reader.next_frame()
                if frame is None:
                    break
                self._frames += 1
                kind = frame.kind
                if kind == _RUN:
                    requests.run(frame)
                elif kind == _INFER:
                    requests.infer(frame)
                else:
                    requests.handle(frame)
                    if kind == _CALL:
                        return True
            else:
                return True
        except Exception as exc:
            self._end_badly(exc)
        else:
            if self._timer is None and not reader.is_between_frames:
                self._time_frame()
        return False

    def _go_on_next_turn(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._has_more = True
            self._read_no_more(self._transport)
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        """Others had their turn."""
        transport = self._transport
        if not self._has_more or self._is_stuck or transport is None or transport.is_closing():
            return
        self._has_more = False
        if self._serve():
            self._go_on_next_turn()
        elif not self._is_stuck and not transport.is_closing():
            self._read_on(transport)

    def _time_frame(self) -> None:
        """A frame has begun and is not whole: look again when it should be.

        One timer that is not touched while frames come and go: it closes the connection only when
        the same frame is still unfinished, so a frame has between one and two times the limit.
        """
        self._timer = self._loop.call_later(
            self._server.frame_timeout_s, self._on_frame_timeout, self._frames
        )

    def _on_frame_timeout(self, frames: int) -> None:
        self._timer = None
        if self._reader.is_between_frames or self._transport is None:
            return
        if frames != self._frames or self._is_stuck or self._has_more:
            # Another frame, or one that we ourselves do not read.
            self._time_frame()
            return
        self._fail(
            RemoteProtocolError(
                f"a frame was not whole after {self._server.frame_timeout_s:g} s "
                "(limits.frame_timeout)"
            )
        )

    def _end_badly(self, exc: Exception) -> None:
        """A frame that broke the protocol, or us."""
        if isinstance(exc, RemoteProtocolError):
            self._fail(exc)
            return
        log.error(
            "closing a connection of %s: its frame could not be handled", self._requests.origin,
            exc_info=exc,
        )  # fmt: skip
        self._end_with(RuntimeFailureError("the frame could not be handled; see the daemon's log"))

    def _fail(self, error: RemoteProtocolError) -> None:
        log.warning("closing a connection of %s: %s", self._requests.origin, error.message)
        self._end_with(error)

    def _end_with(self, error: EdgedError) -> None:
        self._write(native.encode_error(0, error))
        self.close()

    def _on_answered(self) -> None:
        """Nothing is in flight any more."""
        if self._is_ending:
            self.close()

    def _write(self, buffers: list[Buffer]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        # Nothing is kept while it reads: one byte left is over the high-water mark.
        if self._is_stuck and transport.get_write_buffer_size() > self._server.max_unread_bytes:
            log.warning(
                "closing a connection of %s: it does not read its answers", self._requests.origin
            )
            transport.abort()
            return
        size = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        self._server.sent_bytes += size
        held = self._held
        if held is not None:
            if len(held) + size <= _JOIN_BYTES:
                for buffer in buffers:
                    held += buffer
                return
            self._let_go()
        if len(buffers) == 1:
            transport.write(buffers[0])
        elif size <= _JOIN_BYTES:
            transport.write(b"".join(buffers))
        else:
            # Not writelines: asyncio's does not call pause_writing on Python 3.12 and 3.13.
            for buffer in buffers:
                transport.write(buffer)

    def _let_go(self) -> None:
        """Write what is held, and hold nothing more."""
        held, self._held = self._held, None
        if held and self._transport is not None and not self._transport.is_closing():
            self._transport.write(held)
