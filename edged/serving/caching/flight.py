"""One run that several requests wait for, because they ask the same.

Each keeps its own deadline, may be withdrawn by itself, and hears of its own release and time. None
waits for a run that could be given up before its own time is over. Used from the event loop only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from edged.errors import CancelledError, DeadlineExceededError, EdgedError, ModelNotReadyError
from edged.messages import InferResponse
from edged.serving.caching.cache import Kept, freeze
from edged.serving.counters import Counters
from edged.serving.lifecycle import State
from edged.serving.scheduling.scheduler import Waiting
from edged.tensors import Array

log = logging.getLogger("edged.serving")


class Asked(Protocol):
    """A release, as those who wait for its runs see it."""

    @property
    def number(self) -> int:
        """The release."""
        ...

    @property
    def owner(self) -> str:
        """Its name in messages."""
        ...

    @property
    def state(self) -> State:
        """Where it is in its life."""
        ...

    @property
    def answers(self) -> bool:
        """Whether requests are taken."""
        ...

    @property
    def counters(self) -> Counters:
        """What it has done."""
        ...

    def withdraw(self, item: Waiting) -> bool:
        """Give up a request that still waits."""
        ...


class Flight:
    """See above.

    Args:
        first: who asked first. The run is its: with its deadline and its tensors, and it is counted
            as the answer to it.
        release: who answers.
        ended: told as soon as nobody may join any more.
        keep: takes an answer, and returns it as it was kept; None when it was not.
        again: asks anew for those whose time is not over when the run's was.
    """

    def __init__(
        self,
        first: Waiting,
        release: Asked,
        ended: Callable[[Flight], None],
        keep: Callable[[Mapping[str, Array]], Kept | None],
        again: Callable[[Sequence[Waiting]], None],
    ) -> None:
        self.askers = [first]
        self.run = Waiting(
            first.request, self._came, first.rows, first.layout, first.size_bytes,
            first.enqueued_ns, first.generation, release,
        )  # fmt: skip
        self._first, self._release = first, release
        self._ended, self._keep, self._again = ended, keep, again
        self._is_parted = False
        first.queue = self

    def takes(self, item: Waiting) -> bool:
        """Whether a request may wait for this run: not when it is due before the run is."""
        until_ns, own_ns = _deadline(self.run), _deadline(item)
        return own_ns is None or (until_ns is not None and own_ns >= until_ns)

    def join(self, item: Waiting) -> None:
        """Let one more wait for it."""
        self.askers.append(item)
        item.queue = self

    def withdraw(self, item: Waiting) -> bool:
        """Give up a request; the last one takes the run along, if that still waits."""
        if item not in self.askers:
            return False
        if len(self.askers) == 1:
            return self.run.cancel()
        self.askers.remove(item)
        error = CancelledError(f"{self._release.owner}: withdrawn before its answer")
        self._give_error(item, error)
        return True

    def _came(self, response: InferResponse, final: bool) -> None:
        """The run has an answer, or a part of one."""
        self._ended(self)
        if not final:
            self._is_parted = True
            self._tell(tuple(self.askers), response, is_final=False)
            return
        askers, self.askers = self.askers, []
        if response.error is None:
            self._tell(askers, response, is_final=True)
        else:
            self._failed(askers, response.error)

    def _tell(self, askers: Sequence[Waiting], response: InferResponse, *, is_final: bool) -> None:
        kept = None if self._is_parted else self._keep(response.outputs)
        if kept is None and len(askers) > 1:
            kept = freeze(response.outputs)
        started_ns = self.run.enqueued_ns + response.queue_ns
        for place, item in enumerate(askers):
            # The first may do with the run's arrays what it likes: no other has them.
            outputs = response.outputs if place == 0 or kept is None else kept.views()
            waited_ns = max(started_ns - item.enqueued_ns, 0)
            if is_final and item is not self._first:
                took_ns = time.monotonic_ns() - item.enqueued_ns
                self._release.counters.served(item.request.origin, waited_ns, took_ns)
            answer = replace(
                response, generation=item.generation, outputs=outputs, queue_ns=waited_ns
            )
            hand_over(item, answer, is_final=is_final)

    def _failed(self, askers: list[Waiting], error: EdgedError) -> None:
        patient = self._patient(askers, error)
        if patient:
            # First: a release that drains is unloaded when nobody waits for it.
            self._again(patient)
        for item in askers:
            if item not in patient:
                self._give_error(item, error)

    def _patient(self, askers: list[Waiting], error: EdgedError) -> list[Waiting]:
        """Those who can wait for longer than the run could, and for whom there will be another."""
        until_ns, release = _deadline(self.run), self._release
        is_about_time = isinstance(error, DeadlineExceededError | ModelNotReadyError)
        if until_ns is None or self._is_parted or not (is_about_time and takes_more(release)):
            return []
        return [item for item in askers if _deadline(item) != until_ns]

    def _give_error(self, item: Waiting, error: EdgedError) -> None:
        if item is not self._first:
            count_error(self._release, item, error)
        give_error(self._release, item, error)


def takes_more(release: Asked) -> bool:
    """Whether somebody looks into its queue: it answers, or has some left to answer."""
    return release.answers or release.state is State.DRAINING


def count_error(release: Asked, item: Waiting, error: EdgedError) -> None:
    """Count one that had no run of its own."""
    took_ns = time.monotonic_ns() - item.enqueued_ns
    release.counters.answered(item.request.origin, error, took_ns)


def give_error(release: Asked, item: Waiting, error: EdgedError) -> None:
    """Answer one with an error."""
    response = InferResponse(item.request.model, release.number, item.generation, error=error)
    hand_over(item, response, is_final=True)


def hand_over(item: Waiting, response: InferResponse, *, is_final: bool) -> None:
    """Give an answer to who asked; what a transport raises is its own trouble."""
    try:
        item.on_response(response, is_final)
    except Exception:
        log.exception("a transport's callback raised for %s", item.request.origin)


def _deadline(item: Waiting) -> int | None:
    return item.request.deadline_ns
