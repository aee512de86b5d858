"""ModelStreamInfer: requests of one stream, answered as they are done.

Decides the order of answers: those that are one message leave in the order of their requests, as
Triton has it; a request with several answers has them as they are made. A failed request is a
message like any other, unless the client asked for a status instead.
"""

from __future__ import annotations

import logging
import sys
from collections import deque

from edged.errors import EdgedError, RuntimeFailureError
from edged.flow import Flow
from edged.messages import InferRequest, InferResponse, SequencedRequest, StreamRequest, Ticket
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Head, Outgoing, Reply
from edged.protocol.oip_grpc import Inference, in_stream, stream_error
from edged.transports.grpc.infer import Inferences, failure

log = logging.getLogger("edged.grpc")

_MOST_AT_ONCE = 64
"""Requests of one stream; further ones are not read until half of these are answered. More batch no
better, and each keeps its answer until those before it have left."""


class InferStream:
    """One stream: ``grpc_call.Incoming``.

    Args:
        inferences: who answers.
        head: of the call.
        outgoing: where answers go.
    """

    def __init__(self, inferences: Inferences, head: Head, outgoing: Outgoing) -> None:
        self._inferences = inferences
        self._head = head
        self._outgoing = outgoing
        self._wants_status = ("triton_grpc_error", "true") in head.metadata
        self._open: set[_Item] = set()
        self._in_order: deque[_Item] = deque()
        self._is_held = self._is_paused = self._is_closed = self._is_over = False

    def message(self, data: Buffer) -> None:
        """Begin a request."""
        if self._is_over:
            return
        item = _Item()
        self._in_order.append(item)
        self._open.add(item)
        try:
            inference = self._inferences.read(data)
            item.request_id = inference.asked.id
            self._begin(item, inference)
        except EdgedError as exc:
            self._fail(item, exc)
        except Exception:
            log.exception("a request of %s could not be handled", self._head.origin)
            self._fail(item, RuntimeFailureError("it could not be handled; see the log"))
        self._pace()

    def half_close(self) -> None:
        """No further requests; those that are open are answered."""
        self._is_closed = True
        self._settle()

    def cancel(self) -> None:
        """Nobody reads any more."""
        self._is_over = True
        waiting = list(self._open)
        self._open.clear()  # what is withdrawn answers at once
        self._in_order.clear()
        for item in waiting:
            item.cancel()

    def hold(self) -> None:
        """Make no more answers for now."""
        self._is_held = True
        for item in self._open:
            if item.flow is not None:
                item.flow.hold()
        self._pace()

    def release(self) -> None:
        """Make them again."""
        self._is_held = False
        for item in list(self._open):
            # The first answer may hold it again.
            if item.flow is not None and not self._is_held:
                item.flow.release()
        self._pace()

    def _begin(self, item: _Item, inference: Inference) -> None:
        request = self._inferences.request(self._head, inference)
        if not isinstance(request, SequencedRequest):
            item.flow = flow = Flow(sys.maxsize, self._inferences.limits.unread_wait_s)
            flow.is_held = self._is_held
            request = _streamed(request, flow)

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                item.is_final, item.ticket = True, None
            if item in self._open:
                self._respond(item, inference, response, final)

        item.ticket = self._inferences.submit(request, on_response)
        if item.is_final:
            item.ticket = None
        elif item not in self._open:
            item.cancel()

    def _respond(
        self, item: _Item, inference: Inference, response: InferResponse, final: bool
    ) -> None:
        if response.error is not None:
            self._fail(item, response.error)
            return
        says_nothing = not response.outputs and item.has_parts and not inference.wants_end
        try:
            answer = self._inferences.message(inference.asked, response, is_end=final)
        except EdgedError as exc:
            self._fail(item, exc)
            return
        except Exception:
            log.exception("an answer to %s could not be written", self._head.origin)
            self._fail(item, RuntimeFailureError("the answer could not be written; see the log"))
            return
        if not final:
            item.has_parts = True
            self._outgoing.send(in_stream(answer))
            self._flush()
        else:
            self._done(item, [] if says_nothing else in_stream(answer))

    def _fail(self, item: _Item, error: EdgedError) -> None:
        reply = failure(error)
        if self._wants_status:
            self.cancel()
            self._outgoing.end(reply)
            return
        self._open.discard(item)
        item.cancel()
        self._done(item, stream_error(reply.text, item.request_id))

    def _done(self, item: _Item, parts: list[Buffer]) -> None:
        self._open.discard(item)
        item.answer = parts
        if item.has_parts:
            # It gave up its place with its first answer.
            self._send(item)
        self._flush()
        self._pace()
        self._settle()

    def _flush(self) -> None:
        """Send what is answered, in order, up to the first that is not."""
        while self._in_order and (self._in_order[0].has_parts or self._in_order[0].answer):
            item = self._in_order.popleft()
            if not item.has_parts:
                self._send(item)

    def _send(self, item: _Item) -> None:
        if item.answer:
            self._outgoing.send(item.answer)

    def _pace(self) -> None:
        """Read while there is room for requests and answers."""
        if self._is_over or self._is_closed:
            return
        waiting = max(len(self._open), len(self._in_order))
        most = _MOST_AT_ONCE // 2 if self._is_paused else _MOST_AT_ONCE - 1
        is_full = self._is_held or waiting > most
        if is_full and not self._is_paused:
            self._is_paused = True
            self._outgoing.pause_reading()
        elif not is_full and self._is_paused:
            self._is_paused = False
            self._outgoing.resume_reading()

    def _settle(self) -> None:
        if self._is_closed and not self._open and not self._is_over:
            self._is_over = True
            self._outgoing.end(Reply([]))


class _Item:
    """One request of the stream."""

    def __init__(self) -> None:
        self.request_id = ""
        self.flow: Flow | None = None
        self.ticket: Ticket | None = None
        self.answer: list[Buffer] = []
        self.has_parts = False
        self.is_final = False
        """Whether there is nothing left to withdraw."""

    def cancel(self) -> None:
        """Drop it where it still waits."""
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            ticket.cancel()


def _streamed(request: InferRequest, flow: Flow) -> StreamRequest:
    """The same request, for as many answers as there are."""
    return StreamRequest(
        request.model,
        request.inputs,
        request.release,
        request.outputs,
        request.deadline_ns,
        request.origin,
        request.asker,
        flow=flow,
    )
