"""One client of the HTTP socket: its requests one after another, each answered before the next.

Decides how long a request may take to arrive, in which order answers leave and when the connection
ends; what a request asks for is ``requests``'.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from edged.access.visit import Visit
from edged.errors import BusyError, QuotaError
from edged.protocol.frames import Buffer
from edged.protocol.http_answer import CONTINUE, encode_error
from edged.protocol.http_get import RefusedError
from edged.protocol.http_reader import HttpReader, HttpRequest
from edged.transports.awake import AWAKE_NS, read_awake
from edged.transports.http.gathering import Gathering
from edged.transports.http.requests import Requests
from edged.transports.oip_door import Entry

if TYPE_CHECKING:
    from edged.transports.http.endpoint import HttpServer

log = logging.getLogger("edged.http")

_IDLE_S = 120.0
"""Between requests; clients keep a few connections and notice one that was closed."""

_LINGER_S = 1.0
_PACKED_BYTES = 1024
"""A body that is compressed to more becomes a megabyte at most before it leaves the loop's turn."""
_SOON = "Retry-After: 1\r\n"


class Connection(asyncio.Protocol):
    """One client.

    Args:
        server: its limits hold as they were when the connection was made.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._max_bytes = server.max_request_bytes
        self._reader = HttpReader(self._max_bytes)
        self._requests = Requests(server, self._answered, self._write)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[HttpRequest] = deque()
        self._is_busy = self._is_in_turn = self._is_ending = self._is_stuck = False
        self._has_continued = False
        self._is_idle_wait = True
        self._timer: asyncio.TimerHandle | None = None
        self._visit: Visit | None = None
        self._unpacking: asyncio.Task[None] | None = None
        self._due_s = 0.0
        """When the client's time is over; 0 while it waits for us."""
        self._descriptor = -1
        """What is read while awake; none under TLS, whose bytes are read by the loop alone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is; refuse when there are too many."""
        self._transport = transport = cast(asyncio.Transport, transport)
        try:
            guest = self._server.admit(self, transport, self._requests.review)
        except BusyError as exc:
            status = 429 if isinstance(exc, QuotaError) else 503
            self._write(encode_error(status, exc.message, _SOON, keeps_alive=False))
            transport.close()
            return
        self._visit = guest.visit
        self._requests.enter(guest.visit)
        self._requests.origin, self._requests.user = guest.origin, guest.uid
        self._descriptor = guest.descriptor
        self._wait(_IDLE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, and withdraw what still waits: nobody would read the answer."""
        self._transport = None
        self._server.connections.discard(self)
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._requests.withdraw()
        if self._visit is not None:
            self._visit.leave()
        if exc is not None:
            log.debug("a connection of %s broke: %s", self._requests.origin, exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; answer at once where nothing is being answered."""
        gathering = self.gathering
        if (
            gathering is not None
            and gathering.is_crowded
            and gathering.fits(data)
            and self._is_at_rest
            and gathering.join(data, self)
        ):
            # Others ask the same just now: not even a look whether this one is alone.
            self._is_busy = True
            self._due_s = 0.0
            self._server.requests += 1
            self._server.received_bytes += len(data)
        elif self._takes_request(data) and self._descriptor >= 0:
            self._wait_awake()

    def _takes_request(self, data: bytes) -> bool:
        """Take what came; returns whether it was one request, answered on the spot."""
        server = self._server
        before = server.requests
        self._take(data)
        return server.requests == before + 1 and self._is_at_rest

    def _take(self, data: bytes) -> None:
        self._server.received_bytes += len(data)
        if self._requests.is_again(data) and self._is_at_rest:
            self._take_again(data)
            return
        if self._is_ending or self._reader.refusal is not None:
            return
        self._waiting.extend(self._reader.feed(data))
        if not self._is_busy:
            self._go_on()
        if self._waiting and self._transport is not None:
            # What it sends beyond is left in the socket until these are answered. While only one is
            # under way the socket is read on: a client that goes is noticed by nothing else.
            self._transport.pause_reading()

    def _take_again(self, data: bytes) -> None:
        """Answer a request that is known from its first bytes; the parser does not see it."""
        self._is_in_turn = self._is_busy = True
        self._due_s = 0.0
        self._server.requests += 1
        gathering = self._requests.begin_again(data)
        self._is_in_turn = False
        if gathering is not None:
            if not gathering.join(data, self):
                self.ask_apart(data)
        elif self._is_at_rest:
            self._rest()

    @property
    def origin(self) -> str:
        """Who asks."""
        return self._requests.origin

    @property
    def gathering(self) -> Gathering | None:
        """Where its requests may be asked together with those of others."""
        return self._requests.repeats.gathering

    @property
    def entry(self) -> Entry | None:
        """Lets them in there; None where nothing holds them."""
        return self._requests.repeats.entry

    def answer_gathered(self, answer: bytes) -> None:
        """Write the answer to a request that was asked with those of others."""
        transport = self._transport
        if transport is None:
            return
        self._server.sent_bytes += len(answer)
        transport.write(answer)
        self._is_busy = False
        if self._is_ending:
            transport.close()
        elif self._is_at_rest and self._timer is not None:
            # Nothing stopped the reading meanwhile; the timer looks at the time by itself.
            self._due_s = self._loop.time() + _IDLE_S
        else:
            self._go_on()

    def ask_apart(self, data: bytes) -> None:
        """Ask the usual way what could not be asked with others."""
        if self._transport is None or self._requests.ask_apart(data):
            return
        # What it may ask has changed since: read it as what nobody knows.
        (request,) = HttpReader(self._max_bytes).feed(data)
        self._requests.begin(request)

    def _wait_awake(self) -> None:
        """As in native/peer.py: wait a moment for the next request without going to sleep."""
        patience = self._server.patience
        until_ns = time.monotonic_ns() + AWAKE_NS
        buffer = self._server.buffer
        while time.monotonic_ns() < until_ns and patience.is_worth_it():
            count = read_awake(self._descriptor, buffer, patience.wait_ns)
            patience.ended(in_time=count > 0)
            if not count or not self._takes_request(bytes(buffer[:count])):
                return

    def eof_received(self) -> None:
        """The client is gone: those of HTTP do not close one side only."""

    def pause_writing(self) -> None:
        """The client does not read: answer nothing more until it does, or its time is over."""
        self._is_stuck = True
        transport = self._transport
        if transport is None:
            return
        # One answer waits at most: the next request is not looked at before this one has left.
        transport.pause_reading()
        self._requests.hold()
        self._wait(self._server.unread_wait_s)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._is_stuck = False
        self._due_s = 0.0
        if self._is_ending and not self._is_busy:
            # All is said; it gets the rest in time too, or holds its place for ever.
            self._wait(self._server.unread_wait_s)
            return
        self._requests.release()
        transport = self._transport
        if not self._is_busy and not self._is_in_turn:
            self._go_on()
        elif self._is_busy and not (self._is_stuck or self._waiting) and transport is not None:
            # More of the answer is to come, and a client that goes meanwhile is to be noticed.
            transport.resume_reading()

    def end(self) -> None:
        """The daemon stops: close once what is under way has been answered."""
        self._is_ending = True
        self._waiting.clear()
        if self._is_busy:
            self._requests.stop()
        elif self._transport is not None:
            self._transport.close()

    def _go_on(self) -> None:
        """Answer what waits, until something takes its time; then wait for more."""
        self._is_in_turn = True
        while self._waiting and not self._is_busy and not self._is_stuck and self._is_open:
            request = self._waiting.popleft()
            self._is_busy = True
            self._has_continued = False
            self._due_s = 0.0
            self._server.requests += 1
            if self._is_ending:
                request.keeps_alive = False
            if request.coding:
                self._unpack(request)
            else:
                self._requests.begin(request)
        self._is_in_turn = False
        if self._is_busy or self._is_stuck or self._is_ending or not self._is_open:
            return
        if self._reader.refusal is not None:
            self._refuse(self._reader.refusal)
        else:
            self._rest()

    def _unpack(self, request: HttpRequest) -> None:
        """Begin a request whose body is compressed; one that may become long, beside the loop."""
        if len(request.body) > _PACKED_BYTES:
            self._unpacking = self._loop.create_task(self._unpack_aside(request))
            return
        try:
            request.unpack(self._max_bytes)
        except RefusedError as exc:
            self._refuse_packed(exc)
        else:
            self._requests.begin(request)

    async def _unpack_aside(self, request: HttpRequest) -> None:
        try:
            await asyncio.to_thread(request.unpack, self._max_bytes)
        except RefusedError as exc:
            self._refuse_packed(exc)
        except MemoryError:
            self._refuse_packed(RefusedError(503, "no memory to decompress the body"))
        else:
            if self._is_open:
                self._requests.begin(request)

    def _refuse_packed(self, error: RefusedError) -> None:
        self._is_busy = False
        self._waiting.clear()
        self._refuse(error)

    @property
    def _is_at_rest(self) -> bool:
        """Whether nothing is under way, in either direction."""
        return (
            not (self._is_busy or self._is_stuck or self._is_ending)
            and self._is_open
            and not self._waiting
            and self._reader.is_between_requests
            and self._reader.refusal is None
        )

    @property
    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _answered(self, buffers: list[Buffer], keeps_alive: bool) -> None:
        """Write the one answer to the request that is under way, and go on."""
        self._write(buffers)
        self._is_busy = False
        if not keeps_alive or self._is_ending:
            self._is_ending = True
            self._waiting.clear()
            if self._transport is not None:
                self._transport.close()
        elif not self._is_in_turn:
            self._go_on()

    def _rest(self) -> None:
        """Nothing is under way: read, and give the client its time."""
        transport, reader = self._transport, self._reader
        if transport is None:
            return
        if not transport.is_reading():
            transport.resume_reading()
        if reader.is_between_requests:
            self._wait(_IDLE_S)
            return
        if reader.wants_continue and not self._has_continued:
            self._has_continued = True
            self._write([CONTINUE])
        if not self._due_s or self._is_idle_wait:
            self._wait(self._server.frame_timeout_s, is_idle=False)

    def _wait(self, seconds: float, *, is_idle: bool = True) -> None:
        """Give the client so long; a timer that is set looks at the time by itself."""
        self._due_s = self._loop.time() + seconds
        self._is_idle_wait = is_idle
        if self._timer is not None and self._timer.when() <= self._due_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if not self._due_s or self._transport is None:
            return
        if self._loop.time() + 0.001 < self._due_s:
            self._timer = self._loop.call_at(self._due_s, self._on_time)
        elif self._is_idle_wait:
            self._transport.abort()
        else:
            self._refuse(RefusedError(408, "the request did not arrive in time"))

    def _refuse(self, error: RefusedError) -> None:
        """Answer and end.

        What still arrives is thrown away for a moment: who is cut off while it sends does not read
        why.
        """
        self._is_ending = True
        allow = "Allow: GET, POST\r\n" if error.status == 405 else ""
        self._write(encode_error(error.status, error.text, allow, keeps_alive=False))
        transport = self._transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
        if not transport.is_reading():
            transport.resume_reading()
        self._wait(_LINGER_S)

    def _write(self, buffers: list[Buffer]) -> None:
        transport = self._transport
        if transport is None:
            return
        if len(buffers) == 1:
            self._server.sent_bytes += len(buffers[0])
            transport.write(buffers[0])
        else:
            self._server.sent_bytes += sum(memoryview(buffer).nbytes for buffer in buffers)
            transport.writelines(buffers)
