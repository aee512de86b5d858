"""A binding at work on one message of a sequence: the model keeps state for its key.

All is as for any message but that the messages of one key are asked one after the other, in the
order of arrival, and that a message counts once: where the connection broke after the model had
answered, the answer is given when the broker delivers the message again, and nothing is asked.
"""

from __future__ import annotations

from edged.errors import EdgedError, InvalidRequestError, SequenceNotFoundError
from edged.messages import InferResponse, SequencedRequest, SequenceStep
from edged.protocol.broker_session import Publication
from edged.tensors import Array
from edged.transports.bindings.forwarding import DUP, identify
from edged.transports.bindings.time_left import has_expired
from edged.transports.bindings.work import Job


class SequenceJob(Job):
    """See above; arguments as for Job."""

    _starts = False
    _is_asked = False
    """Whether the model has it: its state may change, whatever becomes of the connection."""
    _inputs: dict[str, Array] | None = None
    _made: Publication | None = None

    def _take_up(self) -> None:
        if not self._key:
            raise InvalidRequestError(f"it belongs to no sequence: {self._problem}")
        self._outlet.lanes.enter(self._lane, self)

    @property
    def _lane(self) -> tuple[str, str]:
        return self._binding.name, self._key

    def go(self) -> None:
        """Its turn has come."""
        if self._is_done or not self._is_wanted():
            self._outlet.lanes.leave(self._lane, self)
            return
        made = self._outlet.made.get(self._id) if self._message.dup else None
        if made is None:
            self._guard(self._decode)
            return
        self._made = made if DUP in made.properties else made._replace(
            properties=(*made.properties, DUP)
        )  # fmt: skip
        self._outlet.lanes.leave(self._lane, self)
        self._guard(self._answer_again)

    def _answer_again(self) -> None:
        if has_expired(self._message):
            self._expire()
        elif self._made is not None:
            self._deliver(self._made)

    @property
    def _id(self) -> bytes:
        return identify(self._message, self._binding.name)

    def _ask(self, inputs: dict[str, Array]) -> None:
        self._inputs, self._is_asked = inputs, True
        step = SequenceStep(self._key, start=self._starts)
        binding = self._binding
        request = SequencedRequest(
            binding.model, inputs, binding.release, (), self._deadline_ns, binding.origin,
            sequence=step,
        )  # fmt: skip
        self._outlet.door.submit(request, self._on_response)

    def _on_response(self, response: InferResponse, final: bool) -> None:
        if not final:
            return
        self._is_asked = False
        inputs, self._inputs = self._inputs, None
        is_unknown = isinstance(response.error, SequenceNotFoundError) and not self._starts
        if is_unknown and inputs is not None and not self._is_done and self._is_wanted():
            self._starts = True
            self._guard(lambda: self._submit(inputs))
            return
        if response.error is None:
            self._note(response)
        super()._on_response(response, final)
        if self._is_done or response.error is None:
            self._outlet.lanes.leave(self._lane, self)

    def _note(self, response: InferResponse) -> None:
        """Make the answer now; who comes again for it must find it whatever happens meanwhile."""
        try:
            self._made = self._make(response)
        except EdgedError:
            return  # it is a dead letter each time that it is asked
        if self._message.qos:
            self._outlet.made.note(self._id, self._made, self._message.mid)

    def _answer(self, response: InferResponse) -> None:
        if self._made is None:
            super()._answer(response)
        else:
            self._answer_again()

    def abandon(self) -> None:
        """As Job; while the model has it, the next of its key waits all the same."""
        super().abandon()
        if not self._is_asked:
            self._outlet.lanes.leave(self._lane, self)

    def _finish(self) -> None:
        super()._finish()
        if not self._is_asked:
            self._outlet.lanes.leave(self._lane, self)
