"""How a release answers: outcomes become responses, are counted, and go to whoever asked.

Decides nothing about order or time. Used from the event loop only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edged.errors import DeadlineExceededError, DeviceLostError, EdgedError, ModelNotReadyError
from edged.messages import InferResponse
from edged.serving.executor import BatchResult, log_answer, only
from edged.serving.lifecycle import ReleaseKey, State
from edged.serving.parts import Part, Spent
from edged.serving.scheduling.forecast import Forecast
from edged.serving.scheduling.precedence import NEVER_NS
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.standing import Standing
from edged.tensors import Array

log = logging.getLogger("edged.serving")

BACK_NS = 1_000_000_000
"""A session that was lost with its process or device is made again; half a second is usual."""


class Answering(Standing):
    """The part of a release that knows who has to be answered."""

    on_idle: Callable[[Any], None] | None = None
    """Called with the release when it drains and has given its last answer."""
    is_stateful = False
    """Whether requests belong to sequences."""

    def __init__(self, key: ReleaseKey, number: int) -> None:
        super().__init__(key, number)
        self.forecast = Forecast()

    def deliver(self, result: BatchResult) -> None:
        """Answer those of a batch."""
        is_logged = log.isEnabledFor(logging.DEBUG)
        counters, now_ns = self.counters, time.monotonic_ns()
        if result.rows:
            counters.ran(result.run_ns, result.rows)
        model, number, run_ns, rows = self.key.model, self.number, result.run_ns, result.rows
        for item, outputs, error in result.outcomes:
            wanted = item.request.outputs
            if wanted and error is None:
                outputs, error = only(outputs or {}, wanted, self.owner)  # noqa: PLW2901
            if type(item) is Part:
                item.ended(outputs, error and self.heed(error), result)
                continue
            waited_ns = result.started_ns - item.enqueued_ns
            duration_ns = now_ns - item.enqueued_ns
            if error is None:
                counters.served(item.request.origin, waited_ns, duration_ns)
            else:
                error = self.heed(error)  # noqa: PLW2901
                counters.waited(waited_ns)
                counters.answered(item.request.origin, error, duration_ns)
            response = InferResponse(
                model, number, item.generation, outputs or {}, error, waited_ns, run_ns, rows
            )
            self._hand_over(item, response, is_logged)

    def heed(self, error: EdgedError) -> EdgedError:
        """What a run's error is to who asked: where the device is lost, asking again helps."""
        if type(error) is not DeviceLostError:
            return error
        self.lose(error)
        words = f"{self.owner} lost its device while running, ask again: {error.message}"
        return ModelNotReadyError(words, retry_after_ns=BACK_NS)

    def lose(self, error: DeviceLostError) -> None:
        """The session is of no use any more."""
        raise NotImplementedError

    def expire(self, expired: Sequence[Waiting], now_ns: int) -> None:
        """Answer those whose time is over, or too short for a run."""
        for item in expired:
            deadline_ns = item.request.deadline_ns or 0
            why = (
                "the deadline passed while waiting"
                if deadline_ns <= now_ns
                else "the deadline is too near for a run; it waited too long"
            )
            self.fail(item, DeadlineExceededError(f"{self.owner}: {why}"))
        self.regret(expired, NEVER_NS, now_ns)

    def regret(self, items: Sequence[Waiting], until_ns: int, now_ns: int) -> None:
        """Learn from those whose deadline was before ``until_ns``: they were let in and were late.

        Those that had no time for a run from the first say nothing of how long queues last.
        """
        for item in items:
            deadline_ns, since_ns = item.request.deadline_ns, item.enqueued_ns
            if deadline_ns is None or deadline_ns >= until_ns:
                continue
            if deadline_ns - since_ns > self.forecast.likely_ns(item.rows):
                self.forecast.missed(since_ns, now_ns)

    def fail(self, item: Waiting, error: EdgedError) -> None:
        """Answer one that did not run."""
        if type(item) is Part:
            item.ended(None, error)
            return
        duration_ns = time.monotonic_ns() - item.enqueued_ns
        self.counters.answered(item.request.origin, error, duration_ns)
        response = InferResponse(self.key.model, self.number, item.generation, error=error)
        self._hand_over(item, response, log.isEnabledFor(logging.DEBUG))

    def complete(
        self, item: Waiting, outputs: Mapping[str, Array], error: EdgedError | None, spent: Spent
    ) -> None:
        """Answer one that ran in parts."""
        now_ns = time.monotonic_ns()
        waited_ns = (spent.started_ns or now_ns) - item.enqueued_ns
        self.counters.waited(waited_ns)
        self.counters.answered(item.request.origin, error, now_ns - item.enqueued_ns)
        response = InferResponse(
            self.key.model, self.number, item.generation, outputs, error,
            waited_ns, spent.run_ns, spent.rows,
        )  # fmt: skip
        self._hand_over(item, response, log.isEnabledFor(logging.DEBUG))

    @property
    def asked(self) -> int:
        """Answers for which it had to be in memory."""
        return self.counters.requests - self.counters.cached

    def stay(self) -> Callable[[], None]:
        """Stay loaded, as for a request in its queue, until what this returns is called."""
        self.in_flight += 1
        return self.let_go

    def let_go(self) -> None:
        """The opposite; the last one lets a release that was replaced be unloaded."""
        self.in_flight -= 1
        if self.in_flight == 0 and self.state is State.DRAINING and self.on_idle is not None:
            self.on_idle(self)

    def _hand_over(self, item: Waiting, response: InferResponse, is_logged: bool) -> None:
        self.in_flight -= 1
        if is_logged:
            log_answer(self.owner, item, response)
        try:
            item.on_response(response, True)
        except Exception:
            log.exception("a transport's callback raised for %s", item.request.origin)
        if self.in_flight == 0 and self.state is State.DRAINING and self.on_idle is not None:
            self.on_idle(self)
