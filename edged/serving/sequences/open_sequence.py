"""One open sequence, and its requests one by one: what each has to wait for and leaves behind.

Decides nothing about other sequences; whose turn it is, ``open_sequences.py`` decides. Used from
the event loop only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edged.errors import EdgedError
from edged.messages import InferResponse, OnResponse, SequencedRequest
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.sequences.room import Idle, Key
from edged.tensors import Array

if TYPE_CHECKING:
    from edged.serving.sequences.stateful import StatefulRelease


@dataclass(eq=False, slots=True)
class Sequence:
    """One that is open, or about to be.

    Args:
        key: whose it is.
        home: the release that its last request was taken by.
        rows: that its requests have, where its states have rows.
        size_bytes: of its states.
        used_ns: when its last request ended, monotonic nanoseconds.
        states: by input; None before the first request has run, and after the last.
        now: the request that waits in a release's queue or runs.
        line: those after it.
        is_moving: whether the line is being worked off.
    """

    key: Key
    home: StatefulRelease
    rows: int
    size_bytes: int
    used_ns: int = 0
    states: Mapping[str, Array] | None = None
    now: Step | None = None
    line: deque[Step] = field(default_factory=deque)
    is_moving: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits for it."""
        return self.now is None and not self.line and not self.is_moving

    @property
    def idle(self) -> Idle:
        """What deciding may know."""
        return Idle(self.key, self.size_bytes, self.used_ns, self.home.sequence.idle_timeout)


@dataclass(eq=False, slots=True)
class Step:
    """One request of a sequence.

    Args:
        item: what waits; its request is the client's until its turn, then has the states too.
        request: the client's.
        on_response: the client's.
        sequence: that it belongs to.
        release: that answers it.
        is_over: whether it was answered while it stood in the line.
    """

    item: Waiting
    request: SequencedRequest
    on_response: OnResponse
    sequence: Sequence
    release: StatefulRelease
    is_over: bool = False

    @property
    def starts(self) -> bool:
        """Whether it begins with fresh states."""
        return self.request.sequence.start

    def hand_to(self, release: StatefulRelease) -> None:
        """Stand in the line of another release."""
        self.release = self.item.queue = release
        release.stand_in_line(self)

    def answered(self, response: InferResponse, final: bool) -> None:
        """The release has answered: keep the next states, tell the client, let the next one go."""
        if not final:
            self.on_response(response, False)
            return
        if response.error is None:
            self._keep(response)
        try:
            self.on_response(response, True)
        finally:
            self.sequence.now = None
            self.release.sequences.go_on(self.sequence)

    def _keep(self, response: InferResponse) -> None:
        layout = self.release.states
        try:
            states = layout.taken(response.outputs, self.item.rows, self.release.owner)
        except EdgedError as exc:
            response.outputs, response.error = {}, exc
            return
        hidden = {one.output for one in layout.tensors}
        response.outputs = {
            name: array for name, array in response.outputs.items() if name not in hidden
        }
        self.sequence.states = None if self.request.sequence.end else states
