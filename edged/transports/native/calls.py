"""What one client of the native protocol asks about the daemon: its CALL frames.

Decides nothing about the answers; whether the client may have them is ``access.calls``'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from edged.access.calls import check_call, visible
from edged.access.visit import Visit
from edged.errors import EdgedError, NotFoundError, RuntimeFailureError
from edged.messages import Ticket
from edged.protocol import native
from edged.protocol.frames import Buffer, Frame
from edged.transports.native.door import Call, Server

log = logging.getLogger("edged.uds")


class Calls:
    """The calls of one connection.

    Args:
        server: which there are.
        write: sends one frame.
        on_answered: called when an answer was written and no other is on its way.
        in_flight: the connection's requests, with what withdraws them; shared with all others.
    """

    def __init__(
        self,
        server: Server,
        write: Callable[[list[Buffer]], None],
        on_answered: Callable[[], None],
        in_flight: dict[int, Ticket | None],
    ) -> None:
        self.visit: Visit | None = None
        """Whose; None for a peer that may ask for everything."""
        self._server = server
        self._write = write
        self._on_answered = on_answered
        self._in_flight = in_flight
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, frame: Frame) -> tuple[native.CallHead, Call]:
        """What a frame asks for.

        Raises:
            EdgedError: there is no such call, or not for this client.
        """
        head = native.decode_call(frame)
        call = self._server.calls.get(head.verb)
        if call is None:
            known = ", ".join(sorted(self._server.calls))
            raise NotFoundError(f'no call "{head.verb[:64]}"; there are: {known}')
        if self.visit is not None:
            check_call(self.visit, head.verb, head.arguments)
        return head, call

    def begin(self, request_id: int, head: native.CallHead, call: Call, origin: str) -> None:
        """Answer, now or later; the id is free, and there is room for it."""
        self._in_flight[request_id] = None
        work = self._reply(request_id, head, call, origin)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def are_under_way(self) -> bool:
        """Whether any is: what an operator has asked for is done, though nobody waits for it."""
        return bool(self._tasks)

    def stop(self) -> None:
        """The client is gone."""
        for task in self._tasks:
            task.cancel()

    async def _reply(self, request_id: int, head: native.CallHead, call: Call, origin: str) -> None:
        try:
            document = await call(head.arguments)
            if self.visit is not None:
                document = visible(self.visit, head.verb, document)
            buffers = native.encode_reply(request_id, document)
        except EdgedError as exc:
            buffers = native.encode_error(request_id, exc)
        except Exception:
            log.exception("a call from %s failed", origin)
            error = RuntimeFailureError("the call failed; see the daemon's log")
            buffers = native.encode_error(request_id, error)
        del self._in_flight[request_id]
        self._write(buffers)
        if not self._in_flight:
            self._on_answered()
