"""One connection of the asyncio client: how bytes move on the loop, and how a task waits.

What is said, and which answer is whose, is ``protocol/conversation.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Generator
from typing import Any, cast

from edged.clients.copies import leave_in_copies
from edged.clients.nearby import Nearby
from edged.clients.places import expect
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    DisconnectedError,
    EdgedError,
)
from edged.protocol import memory, native
from edged.protocol.conversation import Asked, Conversation, InferResult, hello_frame
from edged.protocol.frames import Buffer, Kind

_JOIN_BYTES = 64 << 10
"""Joining so little costs less than a second call of the kernel."""
_others: list[asyncio.Transport | None] = []
"""In a copy of a process, what is the original's."""


class Link(Conversation, asyncio.BufferedProtocol):
    """One connection with all that is on its way over it.

    Args:
        path: of the socket, for messages.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.closed = self.loop.create_future()
        self._path = path
        self._transport: asyncio.Transport | None = None
        self._spare: socket.socket | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lending = asyncio.Lock()
        self._held: list[list[Buffer]] | None = None
        self.nearby = Nearby()
        leave_in_copies(self)

    def leave(self) -> None:
        """The connection is that of the process this is a copy of; see ``copies.py``."""
        # Neither written to nor closed, whoever lets go of it: both loops have one list of what is
        # waited for, and the other would not hear of its answers any more.
        _others.append(self._transport)
        self._transport = None
        self.end(DisconnectedError("the connection is that of the process this was forked from"))
        if not self.closed.done():
            self.closed.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who calls; the answer is not waited for."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        # A second descriptor: when a write fails, uvloop closes its own before it tells us.
        with contextlib.suppress(OSError):
            number = os.dup(transport.get_extra_info("socket").fileno())
            self._spare = socket.socket(fileno=number)
        self.write(hello_frame())

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits."""
        self._transport = None
        if self._spare is not None:
            with self._spare as spare:
                if exc is not None:
                    self._read_last_words(spare)
        text = str(exc) if exc is not None else "the daemon closed the connection"
        self.end(DisconnectedError(f"the connection to {self._path} broke: {text}"))
        self._writable.set()
        if not self.closed.done():
            self.closed.set_result(None)

    def _read_last_words(self, sock: socket.socket) -> None:
        """The daemon closed while we wrote: it may have said why, and that is worth more."""
        with contextlib.suppress(OSError):
            while self.error is None:
                count = sock.recv_into(self.reader.next_buffer(), 0, socket.MSG_DONTWAIT)
                if not count:
                    return
                self.buffer_updated(count)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes go."""
        return self.reader.next_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Hand out the answers that are now whole."""
        try:
            self.take(nbytes)
        except ConnectionError as exc:
            self.drop(DisconnectedError(f"the connection to {self._path} broke: {exc}"))
        except EdgedError as exc:
            self.drop(exc)

    def pause_writing(self) -> None:
        """The daemon does not read for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It reads again."""
        self._writable.set()

    async def drained(self, until: float | None) -> None:
        """Wait until the daemon reads, so that what is not sent does not fill the memory.

        Raises:
            DeadlineExceededError: it does not.
        """
        if self._writable.is_set():
            return
        left_s = None if until is None else max(0.0, until - self.loop.time())
        try:
            await asyncio.wait_for(self._writable.wait(), left_s)
        except asyncio.TimeoutError:
            raise DeadlineExceededError("the daemon does not read; is it stopped?") from None

    def ask(self, pending: Pending, encode: Callable[[int], list[Buffer]]) -> None:
        """Send a request under the next id.

        Args:
            pending: gets the answer.
            encode: makes the frame for that id.

        Raises:
            EdgedError: the connection has ended; nothing was sent, and nothing waits.
        """
        if self.error is not None:
            raise self.error
        pending.link = self
        number = self.add(pending)
        try:
            buffers = encode(number)
        except BaseException:
            del self.waiting[number]
            raise
        self.write(buffers)

    async def lend(self, descriptor: int, size: int, until: float | None) -> int:
        """Lend memory to the daemon; returns its region on this connection.

        Raises:
            EdgedError: the daemon does not take it, or the connection broke.
        """
        # Whoever gives up does not stop it half-way: the daemon would wait for the rest.
        task = self.loop.create_task(self._lend(os.dup(descriptor), size, until))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._recall)
            raise

    def _recall(self, task: asyncio.Task[int]) -> None:
        """Nobody waits for it any more, and nobody else knows the region."""
        if not task.cancelled() and task.exception() is None:
            self.write(memory.encode_recall(task.result()))

    async def _lend(self, descriptor: int, size: int, until: float | None) -> int:
        try:
            # One at a time: between LEND and PASS the daemon takes no other.
            async with self._lending:
                asked, passed = Pending("", until), Pending("", until)
                self.ask(asked, lambda number: memory.encode_lend(number, size))
                await asked.wait()
                expect(asked.answer(), Kind.READY)
                await self._pass(passed, descriptor)
                await passed.wait()
                return memory.decode_lent(expect(passed.answer(), Kind.LENT)).region
        finally:
            os.close(descriptor)

    async def _pass(self, pending: Pending, descriptor: int) -> None:
        """Send a PASS past the transport, which knows no descriptors, between two frames of its."""
        self._held = []
        try:
            # What was written before leaves at the end of the turn, or when the daemon reads.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            while not self._is_passed(pending, descriptor):
                if pending.until is not None and self.loop.time() >= pending.until:
                    raise DeadlineExceededError("the daemon does not read; is it stopped?")
                await asyncio.sleep(0.001)
        finally:
            held, self._held = self._held, None
            for buffers in held:
                self.write(buffers)

    def _is_passed(self, pending: Pending, descriptor: int) -> bool:
        transport, spare = self._transport, self._spare
        if transport is None or spare is None or self.error is not None:
            raise self.error or DisconnectedError(f"the connection to {self._path} broke")
        if transport.get_write_buffer_size():
            return False
        number = self.next_id
        data = b"".join(memory.encode_pass(number))
        try:
            count = socket.send_fds(spare, [data], [descriptor], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as exc:
            raise DisconnectedError(f"the connection to {self._path} broke: {exc}") from exc
        pending.link = self
        self.add(pending)
        if count < len(data):
            # The kernel takes so little whole or not at all.
            self.drop(DisconnectedError(f"{count} of {len(data)} bytes were sent"))
        return True

    def write(self, buffers: list[Buffer]) -> None:
        """Send a frame, at once or when the daemon reads."""
        transport = self._transport
        if self._held is not None:
            self._held.append(buffers)
            return
        if transport is None or transport.is_closing():
            return
        if len(buffers) > 1 and sum(map(len, buffers)) <= _JOIN_BYTES:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            transport.write(buffer)

    def drop(self, error: EdgedError) -> None:
        """End the connection."""
        self.end(error)
        if self._transport is not None:
            self._transport.abort()

    def drop_from_afar(self, error: EdgedError) -> None:
        """End a connection of another loop, which may run in another thread, or not any more."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(self.drop, error)

    def abandon(self, error: EdgedError) -> None:
        """End a connection that was given up while it was made: uvloop may tell it nothing."""
        self.drop(error)
        if self._spare is not None:
            self._spare.close()

    def withdraw(self, asked: Asked, error: EdgedError) -> None:
        """End a request here, and tell the daemon so that it need not run it."""
        if self.fail_one(asked, error):
            self.write(native.encode_cancel(asked.request_id))


class Pending(Asked):
    """An answer that may still be on its way: ``await`` it."""

    __slots__ = ("_waiters", "link", "until")

    def __init__(self, model: str, until: float | None) -> None:
        super().__init__(model)
        self.link: Link
        self.wake = self._wake
        self.until = until
        self._waiters: list[asyncio.Future[None]] = []

    def __await__(self) -> Generator[Any, None, InferResult]:
        return self.result().__await__()

    async def result(self) -> InferResult:
        """Wait for the answer; when the task is cancelled meanwhile, the request is withdrawn.

        Raises:
            EdgedError: what the server says went wrong, or DisconnectedError.
        """
        await self.wait()
        return self.infer_result()

    async def wait(self) -> None:
        """Wait until it is answered, failed, or out of time."""
        if self.is_done:
            return
        loop = self.link.loop
        future = loop.create_future()
        self._waiters.append(future)
        timer = None if self.until is None else loop.call_at(self.until, self._expire)
        try:
            await future
        except asyncio.CancelledError:
            self.link.withdraw(self, CancelledError("the task that waited was cancelled"))
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def cancel(self) -> bool:
        """Withdraw the request; whoever waits gets ``edged.errors.CancelledError``.

        Returns:
            False when it had been answered before.
        """
        if self.is_done:
            return False
        self.link.withdraw(self, CancelledError("withdrawn by the caller"))
        return True

    def forget_waiters(self) -> None:
        """What they waited for was read; another answer may follow."""
        self._waiters.clear()

    def _expire(self) -> None:
        self.link.withdraw(self, DeadlineExceededError("no answer came in time"))

    def _wake(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)
