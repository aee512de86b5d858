"""One connection of the synchronous client: a blocking socket that several threads share.

One thread at a time reads, for all that wait; when its own answer is there it wakes another. A
thread that is alone sends and receives with one system call each.
"""

from __future__ import annotations

import contextlib
import functools
import math
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

from edged.clients.copies import leave_in_copies
from edged.clients.nearby import Nearby
from edged.clients.places import expect
from edged.errors import DeadlineExceededError, DisconnectedError, EdgedError
from edged.protocol import memory, native
from edged.protocol.conversation import Asked, Conversation, hello_frame
from edged.protocol.frames import Buffer, Kind
from edged.protocol.layout import BodyLayout

_JOIN_BYTES = 64 << 10
"""Joining so little costs less than a second call of the kernel."""
_SHORTEST, _LONGEST = -10, 12
"""2 to these powers are the bounds of a single wait in seconds: no finer than a millisecond, and
who waits for longer than an hour asks again."""
_TELL_S = 0.1
"""How long what is only a courtesy may wait for its turn."""


class NothingSentError(OSError):
    """The connection broke before a byte of the request was sent: sending it elsewhere is safe."""


class Waiter(Asked):
    """A request on its way that threads can wait for.

    Args:
        model: as for Asked.
        until: monotonic time in seconds after which nobody waits; None for no end.
        answers: as for Asked.
    """

    __slots__ = ("link", "signal", "until")

    def __init__(self, model: str, until: float | None, answers: BodyLayout | None = None) -> None:
        super().__init__(model, answers)
        self.until = until
        self.link: Link
        self.signal: queue.SimpleQueue[None]


class Link(Conversation):
    """A connection and all that is on its way over it.

    Args:
        path: the Unix socket.
        until: monotonic time in seconds until which the daemon must take the connection.

    Raises:
        DisconnectedError: it did not.
    """

    def __init__(self, path: str, until: float | None) -> None:
        super().__init__()
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            if until is not None:
                # A daemon that is stopped takes no connections once its backlog is full.
                left_s = max(0.001, until - time.monotonic())
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(left_s))
            self.sock.connect(path)
        except OSError as exc:
            self.sock.close()
            raise DisconnectedError(
                f"cannot connect to {path}: {exc.strerror or exc}; is the daemon running "
                "(edged run), and may this user use its socket?"
            ) from exc
        self.send_lock = threading.Lock()
        self.greeting = hello_frame()
        self._limit_s = 0.0
        self.read_lock = threading.Lock()
        self._sleepers: list[Waiter] = []
        self._sleep_lock = threading.Lock()
        self._lend_lock = threading.Lock()
        self.nearby = Nearby()
        leave_in_copies(self)

    def leave(self) -> None:
        """The connection is that of the process this is a copy of; see ``copies.py``."""
        self.send_lock, self._sleep_lock = threading.Lock(), threading.Lock()
        # Closed, not shut down: it is up for the other.
        self.sock.close()
        self.end(DisconnectedError("the connection is that of the process this was forked from"))

    def ask(
        self, waiter: Waiter, encode: Callable[[int], list[Buffer]], *, is_new: bool = False
    ) -> None:
        """Send a request under the next id.

        Args:
            waiter: gets the answer.
            encode: makes the frame for that id.
            is_new: the connection was made for this request, so the daemon's last words are about
                it, and another connection would fare no better.

        Raises:
            NothingSentError: the connection had ended already.
            EdgedError: the request cannot be sent as it is, or the connection broke.
        """
        with self.send_lock:
            waiter.link = self
            number = self.add(waiter)
            try:
                buffers = encode(number)
            except BaseException:
                del self.waiting[number]
                raise
            try:
                self._send(buffers, waiter.until)
            except NothingSentError as exc:
                if not is_new:
                    self.waiting.pop(number, None)
                    waiter.error = None
                    self.drop(exc)
                    raise
                self._read_last_words()
                raise self.drop(exc) from exc
            except (OSError, ValueError, EdgedError) as exc:
                if not isinstance(exc, TimeoutError):
                    self._read_last_words()
                raise self.drop(exc) from exc

    def lend(self, descriptor: int, size: int, until: float | None) -> int:
        """Lend memory to the daemon; returns its region on this connection.

        Raises:
            EdgedError: the daemon does not take it, or the connection broke.
        """
        # One at a time: between LEND and PASS the daemon takes no other.
        with self._lend_lock:
            asked = Waiter("", until)
            self.ask(asked, lambda number: memory.encode_lend(number, size))
            self.read_until_done(asked)
            expect(asked.answer(), Kind.READY)
            passed = Waiter("", until)
            self._pass(passed, descriptor)
            self.read_until_done(passed)
            return memory.decode_lent(expect(passed.answer(), Kind.LENT)).region

    def _pass(self, waiter: Waiter, descriptor: int) -> None:
        with self.send_lock:
            waiter.link = self
            data = b"".join(memory.encode_pass(self.add(waiter)))
            try:
                while True:
                    try:
                        count = socket.send_fds(
                            self.sock, [data], [descriptor], socket.MSG_DONTWAIT
                        )
                        break
                    except BlockingIOError:
                        self._wait_to_write(waiter.until)
                if count < len(data):
                    # The kernel takes so little whole or not at all.
                    raise ConnectionAbortedError(f"{count} of {len(data)} bytes were sent")
            except (OSError, ValueError, EdgedError) as exc:
                raise self.drop(exc) from exc

    def tell(self, buffers: list[Buffer]) -> None:
        """Send something small that matters little and has no answer.

        Less than a page is taken whole or, when the daemon does not read, not at all.
        """
        if self.send_lock.acquire(timeout=_TELL_S):
            try:
                self.sock.send(b"".join(buffers), socket.MSG_DONTWAIT)
            except OSError:
                pass  # whoever reads will see what is wrong
            finally:
                self.send_lock.release()

    def say(self, buffers: list[Buffer], until: float | None) -> None:
        """Send something that has no answer and must arrive; readers notice what breaks."""
        with self.send_lock:
            try:
                self._send(buffers, until)
            except (OSError, ValueError, EdgedError) as exc:
                self.drop(exc)

    def withdraw(self, waiter: Waiter, error: EdgedError) -> None:
        """End a request here, and tell the daemon so that it need not run it."""
        if self.fail_one(waiter, error):
            self.tell(native.encode_cancel(waiter.request_id))

    def _send(self, buffers: list[Buffer], until: float | None) -> None:
        """Send everything; when the daemon waits for us to read first, read.

        Raises:
            NothingSentError: see there.
            OSError: part of it was sent, so the connection is of no more use.
        """
        if self.greeting:
            # Not waited for: the answer to it is read with the first one that is.
            buffers, self.greeting = [*self.greeting, *buffers], []
        if len(buffers) > 1 and sum(map(len, buffers)) <= _JOIN_BYTES:
            buffers = [b"".join(buffers)]
        is_begun = False
        for buffer in buffers:
            view: Buffer = buffer
            while view:
                try:
                    count = self.sock.send(view, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    self._wait_to_write(until)
                    continue
                except OSError as exc:
                    if is_begun:
                        raise
                    raise NothingSentError(exc.errno, exc.strerror) from exc
                is_begun = True
                if count == len(view):
                    break
                view = memoryview(view)[count:]

    def read_until_done(self, waiter: Waiter) -> None:
        """Read for everybody until ``waiter`` has its answer, failed, or has no more time."""
        lock = self.read_lock
        while waiter.frame is None and waiter.error is None:
            if lock.acquire(blocking=False):
                try:
                    while waiter.frame is None and waiter.error is None:
                        self._read_some(waiter)
                finally:
                    lock.release()
            else:
                self._sleep(waiter)
        self.wake_a_reader()

    def drop(self, cause: BaseException) -> EdgedError:
        """End the connection; returns what ended it, which may have been something before this."""
        error = cause if isinstance(cause, EdgedError) else _disconnected(self.path, cause)
        error = self.end(error)
        # Wakes the thread that reads before the descriptor is given back.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        return error

    def _read_last_words(self) -> None:
        """The daemon closed while we wrote: it may have said why, and that is worth more."""
        with self.read_lock:
            try:
                while self.error is None:
                    self._receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except (OSError, ValueError) as exc:
                del exc
            except EdgedError as exc:
                self.end(exc)

    def _read_some(self, waiter: Waiter) -> None:
        if self.error is not None:
            waiter.fail(self.error)
            return
        left_s = None
        if waiter.until is not None:
            left_s = waiter.until - time.monotonic()
            if left_s <= 0:
                self._give_up(waiter)
                return
        try:
            self.limit_reads(left_s)
            self._receive(0)
        except BlockingIOError:
            pass
        except (OSError, ValueError, EdgedError) as exc:
            # ValueError: another thread closed the socket between two lines of this one.
            self.drop(exc)

    def _receive(self, flags: int) -> None:
        """Take what is there and hand out whole frames."""
        count = self.sock.recv_into(self.reader.next_buffer(), 0, flags)
        self.took(count)

    def took(self, count: int) -> None:
        """Take note of bytes that were read; hand out whole frames.

        Raises:
            ConnectionError: there were none, or they are no frames.
            EdgedError: what the server says of the connection.
        """
        if count == 0:
            raise ConnectionResetError("the daemon closed the connection")
        self.take(count)

    def _give_up(self, waiter: Waiter) -> None:
        """No answer came in time; one that comes late is nobody's."""
        self.withdraw(waiter, DeadlineExceededError("no answer came in time"))

    def limit_reads(self, left_s: float | None) -> None:
        """Let the kernel end a read that takes longer.

        The limit is a power of two below what is left, so that calls with one timeout leave it as
        it is; a read that it ended is begun again while time is left.
        """
        have = self._limit_s
        if left_s is None:
            wanted = 0.0
        elif have and have <= left_s < 8 * have:
            return
        else:
            wanted = _below(left_s)
        if wanted == have:
            return
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(wanted))
        self._limit_s = wanted

    def _sleep(self, waiter: Waiter) -> None:
        """Wait until the thread that reads has this answer, or has no more need to read."""
        with self._sleep_lock:
            if waiter.wake is None:
                waiter.signal = queue.SimpleQueue()
                waiter.wake = functools.partial(waiter.signal.put, None)
            self._sleepers.append(waiter)
        try:
            # Looked at after it can be woken, so that no wake-up is missed.
            if waiter.is_done or not self.read_lock.locked():
                return
            left_s = None if waiter.until is None else max(0.0, waiter.until - time.monotonic())
            waiter.signal.get(timeout=left_s)
        except queue.Empty:
            self._give_up(waiter)
        finally:
            with self._sleep_lock:
                self._sleepers.remove(waiter)
            if waiter.is_done:
                waiter.signal.put(None)  # another thread may wait for the same answer

    def wake_a_reader(self) -> None:
        """Let another thread read, when one waits and nobody reads."""
        if not self._sleepers:
            return
        if not self.read_lock.locked():
            with self._sleep_lock:
                sleepers = self._sleepers[:1]
            for sleeper in sleepers:
                sleeper.signal.put(None)

    def _wait_to_write(self, until: float | None) -> None:
        left_s = None if until is None else until - time.monotonic()
        if left_s is not None and left_s <= 0:
            raise TimeoutError("the daemon does not read; is it stopped?")
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT | select.POLLIN)
        # Never longer than poll can count; who waits for longer asks again.
        poll.poll(None if left_s is None else min(left_s, 3600.0) * 1000)
        if self.read_lock.acquire(blocking=False):
            try:
                self._receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            finally:
                self.read_lock.release()
            self.wake_a_reader()


def _below(seconds: float) -> float:
    """The greatest power of two that is no longer, within bounds."""
    return 2.0 ** max(_SHORTEST, min(_LONGEST, math.frexp(seconds)[1] - 1))


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("@ll", whole, int((seconds - whole) * 1e6))


def _disconnected(path: str, cause: BaseException) -> DisconnectedError:
    text = getattr(cause, "strerror", None) or str(cause)
    return DisconnectedError(f"the connection to {path} broke: {text}")
