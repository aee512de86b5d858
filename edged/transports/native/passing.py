"""Reading a connection with room for descriptors, in the place of its transport.

The loop's own reads have none: the kernel closes what comes along with them, so nobody can fill the
daemon's table of descriptors. Only after a LEND does a connection read this way, until the PASS.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import Callable

_ROOM = socket.CMSG_SPACE(array.array("i").itemsize)
"""For the one that a PASS brings; what does not fit is closed by the kernel, which says so."""
_MOST = 4
"""So many that came along with other frames are kept; then what comes is closed at once."""


def close_all(descriptors: list[int]) -> None:
    """Close descriptors that came."""
    for descriptor in descriptors:
        os.close(descriptor)


class Passing:
    """One such time of a connection.

    Args:
        loop: that reads.
        number: the connection's descriptor.
        buffer: where the next bytes go.
        take: takes note of bytes that were read.
        over: there is nothing more to be read this way: the other end has closed, or it broke.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        buffer: Callable[[], memoryview],
        take: Callable[[int], None],
        over: Callable[[], None],
    ) -> None:
        self._loop = loop
        # A descriptor of its own: a loop does not let anybody watch one of a transport's.
        self._sock = socket.socket(fileno=os.dup(number))
        self._buffer, self._take, self._over = buffer, take, over
        self._received: list[int] = []
        self._is_reading = False

    def start(self) -> None:
        """Read when there is something."""
        if not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def stop(self) -> None:
        """Leave what comes where it is."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._sock.fileno())

    def received(self) -> list[int]:
        """The descriptors that came; they are the caller's to close from now on."""
        received, self._received = self._received, []
        return received

    def close(self) -> None:
        """End it, and close what nobody took."""
        self.stop()
        self._sock.close()
        close_all(self.received())

    def _readable(self) -> None:
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        try:
            count, control, _, _ = self._sock.recvmsg_into([self._buffer()], _ROOM, flags)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._over()
            return
        if control:
            self._keep(control)
        if count:
            self._take(count)
        else:
            self._over()

    def _keep(self, control: list[tuple[int, int, bytes]]) -> None:
        """Note descriptors; a message that was cut off leaves those that did fit."""
        for level, kind, data in control:
            if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
                continue
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            for number in numbers:
                if len(self._received) < _MOST:
                    self._received.append(number)
                else:
                    os.close(number)
