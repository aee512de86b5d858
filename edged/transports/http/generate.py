"""One request of the generate extension: how it is asked, and its answers as they come.

Decides when the answer's head leaves: with the first event, so that what fails before it has a
status of its own; what fails later is an event like any other. Never reads or writes a socket.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from edged.errors import DrainingError, EdgedError, RuntimeFailureError
from edged.flow import Flow
from edged.messages import (
    InferRequest,
    InferResponse,
    SequencedRequest,
    StreamRequest,
    Ticket,
)
from edged.protocol.frames import Buffer
from edged.protocol.http_answer import (
    encode_answer,
    encode_event,
    encode_events_end,
    encode_events_head,
)
from edged.protocol.oip import text_of
from edged.protocol.oip_generate import Generate, encode_generated
from edged.transports.http.routes import Route

log = logging.getLogger("edged.http")


class Asker(Protocol):
    """Who is answered; see ``requests``."""

    def write(self, buffers: list[Buffer]) -> None:
        """Send a part of the answer."""
        ...

    def answer(self, buffers: list[Buffer]) -> None:
        """Send the answer, or the rest of it."""
        ...

    def fail(self, error: EdgedError) -> None:
        """Say what went wrong, where nothing was sent yet."""
        ...


class Generation:
    """One request.

    Args:
        asked: what for.
        asker: who is answered.
        flow: how many events may leave; None where one document is the whole answer.
        is_chunked: whether events come in chunks.
        keeps_alive: whether the connection outlives the answer.
    """

    def __init__(
        self,
        asked: Generate,
        asker: Asker,
        flow: Flow | None = None,
        *,
        is_chunked: bool = True,
        keeps_alive: bool = True,
    ) -> None:
        self._flow = flow
        self._ticket: Ticket | None = None
        self._asked = asked
        self._asker = asker
        self._is_chunked, self._keeps_alive = is_chunked, keeps_alive
        self._has_begun = self._is_over = False

    def begin(
        self,
        route: Route,
        origin: str,
        submit: Callable[[InferRequest, Callable[[InferResponse, bool], None]], Ticket | None],
    ) -> None:
        """Ask the dataplane."""
        asked = self._asked
        deadline_ns = time.monotonic_ns() + asked.timeout_us * 1000 if asked.timeout_us else None
        version = int(route.version) if route.version is not None else None
        asker = {"id": asked.id} if asked.id else None
        what = (route.model, asked.inputs, version, (), deadline_ns, origin, asker)
        if asked.sequence is not None:
            request: InferRequest = SequencedRequest(*what, sequence=asked.sequence)
        elif self._flow is not None:
            request = StreamRequest(*what, flow=self._flow)
        else:
            request = InferRequest(*what)
        self._ticket = submit(request, self._on_response)
        if self._is_over:
            self.withdraw()  # it was answered before there was anything to withdraw

    def withdraw(self) -> None:
        """Nobody reads any more."""
        self._is_over = True
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.cancel()

    def hold(self) -> None:
        """Make no more events for now."""
        if self._flow is not None:
            self._flow.hold()

    def release(self) -> None:
        """Make them again."""
        if self._flow is not None:
            self._flow.release()

    def stop(self) -> None:
        """The daemon stops: events that have begun end with a word of it."""
        if self._has_begun and not self._is_over:
            self._fail(DrainingError("the daemon stops; ask again"))

    def _on_response(self, response: InferResponse, final: bool) -> None:
        if final:
            self._ticket = None
        if self._is_over:
            return
        if response.error is not None:
            self._fail(response.error)
            return
        try:
            data = None
            if response.outputs or not self._has_begun:
                data = encode_generated(self._asked, response)
        except EdgedError as exc:
            self._fail(exc)
            return
        except Exception:
            log.exception("an answer of %s could not be written", response.model)
            self._fail(RuntimeFailureError("the answer could not be written; see the log"))
            return
        if self._flow is not None:
            self._tell(data, final=final)
        elif final and data is not None:
            self._is_over = True
            self._asker.answer(encode_answer([data], keeps_alive=self._keeps_alive))

    def _tell(self, data: bytes | None, *, final: bool) -> None:
        """One event, or none with the end."""
        is_chunked, parts = self._is_chunked, []
        if not self._has_begun:
            self._has_begun = True
            parts = [encode_events_head(is_chunked=is_chunked, keeps_alive=self._keeps_alive)]
        if data is not None:
            parts.append(encode_event(data, is_chunked=is_chunked))
        if not final:
            self._asker.write([b"".join(parts)])
            return
        self._is_over = True
        parts.append(encode_events_end(is_chunked=is_chunked))
        self._asker.answer([b"".join(parts)])

    def _fail(self, error: EdgedError) -> None:
        if self._has_begun:
            self._tell(msgspec.json.encode({"error": text_of(error)}), final=True)
        else:
            self._is_over = True
            self._asker.fail(error)
        self.withdraw()
