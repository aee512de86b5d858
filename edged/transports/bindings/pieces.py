"""A binding at work on one message that asks for a text, piece by piece.

All is as for any message but that each piece is published as it comes. The message is acknowledged
when the last one is in the broker's hands; where the connection breaks before, the text ends, the
broker delivers the message again, and the pieces begin anew.
"""

from __future__ import annotations

from edged.errors import EdgedError
from edged.flow import Flow
from edged.generating import FINISH, TEXT, TOKENS, text_of
from edged.messages import InferResponse, StreamRequest, Ticket
from edged.protocol.mqtt import JSON, answer_properties, encode_answer
from edged.tensors import Array
from edged.transports.bindings.answers import Answer
from edged.transports.bindings.binding import Compiled
from edged.transports.bindings.work import Job

_AHEAD = 16
"""Pieces on their way that the broker has not acknowledged: then what comes is put together."""
_PATIENCE_S = 60.0
"""As ``limits.stream_wait``; the deadline of a message is mostly sooner."""


class PieceJob(Job):
    """See above; arguments as for Job."""

    _index = 0
    _flow: Flow | None = None
    _ticket: Ticket | None = None

    def _ask(self, inputs: dict[str, Array]) -> None:
        self._index, self._flow = 0, Flow(_AHEAD, _PATIENCE_S)
        binding = self._binding
        request = StreamRequest(
            binding.model, inputs, binding.release, (), self._deadline_ns, binding.origin,
            self._asker, flow=self._flow,
        )  # fmt: skip
        self._ticket = self._outlet.door.submit(request, self._on_response)

    def _on_response(self, response: InferResponse, final: bool) -> None:
        if final:
            self._ticket = None
            super()._on_response(response, final)
        elif not self._is_done and self._is_wanted():
            self._guard(lambda: self._give(response))

    def _give(self, response: InferResponse) -> None:
        flow, payload = self._flow, self._encode_piece(response, is_last=False)
        properties = answer_properties(response, is_dup=self._message.dup)
        publication = self._publication(payload, properties)

        def passed() -> None:
            if flow is not None:
                flow.grant(1)

        self._pass_on(publication, passed)

    def _encode(self, response: InferResponse, compiled: Compiled) -> Answer:
        del compiled
        return Answer(self._encode_piece(response, is_last=True), JSON, [])

    def _encode_piece(self, response: InferResponse, *, is_last: bool) -> bytes:
        outputs = response.outputs
        row = {
            "index": self._index,
            "final": is_last,
            TEXT: text_of(outputs[TEXT]),
            TOKENS: outputs[TOKENS].tolist(),
        }
        if is_last:
            row[FINISH] = text_of(outputs[FINISH])
        self._index += 1
        return encode_answer(response, [row])

    def _fail(self, error: EdgedError) -> None:
        self._withdraw()
        super()._fail(error)

    def abandon(self) -> None:
        """As Job; nobody wants the rest of the text."""
        super().abandon()
        self._withdraw()

    def _withdraw(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.cancel()
