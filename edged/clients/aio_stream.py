"""The asyncio client's several answers to one request, as what ``async for`` goes over."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from edged.clients.aio_link import Pending
from edged.errors import CancelledError
from edged.protocol import streams
from edged.protocol.stream_asking import Received, StreamAnswer


class Stream:
    """Answers as they come; made by ``aio.Client.stream``, for one task at a time.

    Leaving it, by ``aclose``, ``async with`` or when nobody refers to it any more, withdraws the
    request; so does cancelling the task that waits for an answer.

    Args:
        pending: the request.
        send: sends it; called when the first answer is asked for.
    """

    def __init__(self, pending: Pending, send: Callable[[], Awaitable[object]]) -> None:
        self._pending = pending
        self._send: Callable[[], Awaitable[object]] | None = send
        self._received: Received | None = None

    def listen(self, ahead: int) -> None:
        """It is about to be sent on the request's link: keep what comes."""
        self._received = Received(self._pending, ahead)
        self._pending.link.listen(self._pending, self._received)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> StreamAnswer:
        """Wait for the next answer.

        Raises:
            EdgedError: what ended the stream: as for ``infer``, at any time.
        """
        pending = self._pending
        if self._send is not None:
            send, self._send = self._send, None
            await send()
        received = self._received
        if received is None or received.is_over:
            raise StopAsyncIteration
        await pending.wait()
        pending.forget_waiters()
        try:
            answer = received.take()
        except BaseException:
            self._leave()
            raise
        if answer is None:
            raise StopAsyncIteration
        if count := received.unsaid():
            pending.link.write(streams.encode_more(pending.request_id, count))
        return answer

    async def aclose(self) -> None:
        """Withdraw the request, if it has not ended; no answer comes after this."""
        self._leave()

    def _leave(self) -> None:
        self._send = None
        received, self._received = self._received, None
        if received is not None and not received.is_over:
            self._pending.link.withdraw(self._pending, CancelledError("withdrawn by the caller"))

    async def __aenter__(self) -> Stream:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def __del__(self) -> None:
        if self._received is not None and not self._received.is_over:
            link, error = self._pending.link, CancelledError("withdrawn by the caller")
            # Whoever collects may be another thread than the loop's, or come after it.
            with contextlib.suppress(RuntimeError):
                link.loop.call_soon_threadsafe(link.withdraw, self._pending, error)
