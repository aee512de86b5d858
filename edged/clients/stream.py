"""The synchronous client's several answers to one request, as what a loop goes over."""

from __future__ import annotations

import contextlib

from edged.clients.link import Waiter
from edged.errors import CancelledError
from edged.protocol import streams
from edged.protocol.stream_asking import Received, StreamAnswer


class Stream:
    """Answers as they come; made by ``Client.stream``, for one thread at a time.

    Leaving it, by ``close``, ``with`` or when nobody refers to it any more, withdraws the request.

    Args:
        waiter: the request, which the caller sends.
    """

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._received: Received | None = None

    def listen(self, ahead: int) -> None:
        """It is about to be sent on the waiter's link: keep what comes."""
        self._received = Received(self._waiter, ahead)
        self._waiter.link.listen(self._waiter, self._received)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> StreamAnswer:
        """Wait for the next answer.

        Raises:
            EdgedError: what ended the stream: as for ``infer``, at any time.
        """
        waiter, received = self._waiter, self._received
        if received is None or received.is_over:
            raise StopIteration
        waiter.link.read_until_done(waiter)
        # What woke for this answer is not to wake for the next.
        waiter.wake = None
        try:
            answer = received.take()
        except BaseException:
            self.close()
            raise
        if answer is None:
            raise StopIteration
        if count := received.unsaid():
            waiter.link.say(streams.encode_more(waiter.request_id, count), waiter.until)
        return answer

    def close(self) -> None:
        """Withdraw the request, if it has not ended; no answer comes after this."""
        received, self._received = self._received, None
        if received is not None and not received.is_over:
            self._waiter.link.withdraw(self._waiter, CancelledError("withdrawn by the caller"))

    def __enter__(self) -> Stream:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()
