"""The shortest way from a RUN frame to its ANSWER, for a client that has the loop to itself.

Decides nothing: one copy into the memory that the model reads, the run, and the answer's head in
front of the memory that the model wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edged.errors import InvalidRequestError
from edged.messages import Asker
from edged.protocol import prepared_runs
from edged.protocol.layout import COPY_BYTES, BodyLayout
from edged.tensors import Array, TensorSpec

LANE_ROWS = 64
"""As many rows as a batch of the loop may have; more take longer than the way there."""


class LoneRun(Protocol):
    """See ``edged.serving.lone``."""

    @property
    def is_current(self) -> bool:
        """Whether nothing was swapped, loaded or unloaded since it was made."""
        ...

    def run(self, origin: str, key: Asker = None) -> tuple[int, int, int, int] | None:
        """Run: release, generation, nanoseconds and rows; None when the usual way has to be gone.

        A key keeps it on one side, where there are any.
        What it raises is the caller's, who takes the run over: nothing of it is known here.
        """
        ...


class SharedRun(LoneRun, Protocol):
    """The same, that may be for several askers together."""

    def run_for(self, askers: Sequence[tuple[str, int]]) -> int:
        """Run for these, each with since when it asks; nanoseconds, 0 when it did not run."""
        ...


class Binds(Protocol):
    """A prepared call that can be bound to memory."""

    def bind(
        self, inputs: dict[str, Array], outputs: dict[str, Array], rows: int
    ) -> LoneRun | None:
        """Runs from these inputs to these outputs; None when there are none now."""
        ...


class BindsShared(Protocol):
    """The same, for several askers together."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What an answer holds."""
        ...

    @property
    def release(self) -> int:
        """Who answers."""
        ...

    @property
    def gathers(self) -> int:
        """So many rows may run together."""
        ...

    def bind(
        self, inputs: dict[str, Array], outputs: dict[str, Array], rows: int
    ) -> SharedRun | None:
        """Runs from these inputs to these outputs; None when there are none now."""
        ...


class Lane:
    """Frames of one prepared call and one number of rows.

    Args:
        inputs: the layout of the questions.
        answers: that of the answers.
        rows: of every question.
        call: what is asked.

    Raises:
        InvalidRequestError: there is no lane for such frames, nor ever will be.
    """

    def __init__(self, inputs: BodyLayout, answers: BodyLayout, rows: int, call: Binds) -> None:
        size = inputs.body_bytes(rows) if rows <= LANE_ROWS else COPY_BYTES + 1
        answer_rows = rows if answers.has_rows else 0
        answer_bytes = answers.body_bytes(answer_rows)
        if size > COPY_BYTES or answer_bytes > COPY_BYTES:
            raise InvalidRequestError("what is large is not copied")
        if any(spec.dtype == "bool" for spec in inputs.specs):
            raise InvalidRequestError("every byte of a bool has to be looked at")
        self.rows = rows
        self.size = size
        self._question = bytearray(size)
        self._write = memoryview(self._question)
        self._answer = bytearray(prepared_runs.ANSWER_BODY + answer_bytes)
        self._head = (answer_bytes, answer_rows)
        self.inputs = inputs.unpack(self._question, 0, rows)
        self._run = call.bind(
            self.inputs,
            answers.unpack(self._answer, prepared_runs.ANSWER_BODY, answer_rows),
            rows,
        )

    @property
    def is_current(self) -> bool:
        """Whether it may be used again; otherwise another one has to be made."""
        return self._run is not None and self._run.is_current

    def ask(
        self,
        frame: memoryview,
        request_id: int,
        origin: str,
        at: int = prepared_runs.RUN_BODY,
        key: str | None = None,
    ) -> bytes | None:
        """Answer a RUN frame of these rows, or return None when that has to go the usual way.

        Args:
            frame: begins with the frame.
            request_id: of it.
            origin: who asks.
            at: where its body begins.
            key: of the request.
        """
        run = self._run
        if run is None:
            return None
        self._write[:] = frame[at : at + self.size]
        ran = run.run(origin, key)
        if ran is None:
            return None
        prepared_runs.write_answer_head(self._answer, request_id, ran, self._head)
        return bytes(self._answer)
