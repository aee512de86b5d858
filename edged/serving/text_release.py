"""A release whose model makes texts: its requests are answered token by token, or once at the end.

It queues like any release; what differs is the run. A text is made in a worker process, because the
package that makes it holds up all threads of its own; it ends at the next token when nobody wants
it any more or its time is over, and what it keeps in memory ends with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edged.config.generation import GenerationConfig
from edged.config.schema import ModelConfig
from edged.costs import Costs
from edged.errors import CancelledError, DeadlineExceededError, EdgedError
from edged.flow import Flow
from edged.generating import CAPS, REQUEST, TOKENS, Caps, read_request
from edged.messages import InferResponse, StreamRequest
from edged.runtimes.base import Session
from edged.serving.executor import BatchResult, Outcome
from edged.serving.release import ServedRelease
from edged.serving.scheduling.scheduler import Batch, Waiting
from edged.tensors import Array
from edged.workers.isolation import TextSession


class TextRelease(ServedRelease):
    """See above."""

    _texts: dict[int, Text]

    def configure(self, config: ModelConfig) -> None:
        """Take over class, queue and what is allowed; a text that is being made goes on."""
        generation = config.generation or GenerationConfig()
        self.caps = Caps(generation.max_new_tokens, generation.max_prompt)
        super().configure(config)

    def loaded(
        self, session: Session, runtime: str, typical_run_ns: int, costs: Costs = ()
    ) -> None:
        """Take the session that was loaded."""
        del costs  # those of the golden sample, which is shorter or longer than what is asked
        self._texts = {}
        super().loaded(session, runtime, typical_run_ns)

    def offer(self, item: Waiting) -> Waiting:
        """Queue a request.

        Raises:
            InvalidRequestError: it asks nothing that makes sense.
            QueueFullError: as for ServedRelease.
        """
        read_request(item.request.inputs[REQUEST].tobytes(), self.owner)
        return super().offer(item)

    def withdraw(self, item: Waiting) -> bool:
        """Take out a request that waits, or end its text; answer it with CancelledError."""
        text = self._texts.get(id(item)) if self.session is not None else None
        if text is None:
            return super().withdraw(item)
        text.end(CancelledError(f"{self.owner}: withdrawn after {text.tokens} tokens"))
        return True

    def learn(self, result: BatchResult, now_ns: int, *, is_queued: bool) -> None:
        """Nothing: texts differ in length, and who asks says how long."""

    def _start(self, batch: Batch) -> None:
        remote = self.remote
        assert isinstance(remote, TextSession)
        self.running += 1
        self.running_rows += batch.rows
        item = batch.items[0]
        text = self._texts[id(item)] = Text(self, item)
        text.begin(remote)

    def ended(self, text: Text, result: BatchResult) -> None:
        """A text is over, and its way free."""
        self._texts.pop(id(text.item), None)
        self.finished(result, text.item.rows)


class Text:
    """One request while its text is made.

    Args:
        release: whose.
        item: the request.
    """

    def __init__(self, release: TextRelease, item: Waiting) -> None:
        self.item, self.tokens = item, 0
        self._release = release
        request = item.request
        self._flow: Flow | None = request.flow if isinstance(request, StreamRequest) else None
        self._made: list[Mapping[str, Array]] = []
        self._started_ns = time.monotonic_ns()
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._stop: Callable[[], None] | None = None

    def begin(self, remote: TextSession) -> None:
        """Have it made."""
        deadline_ns = self.item.request.deadline_ns
        if deadline_ns is not None:
            left_s = max(0, deadline_ns - self._started_ns) / 1e9
            self._timer = asyncio.get_running_loop().call_later(left_s, self._late)
        if self._flow is not None:
            self._flow.on_room = self._give
        inputs = {
            REQUEST: self.item.request.inputs[REQUEST],
            CAPS: np.array(self._release.caps, np.int64),
        }
        self._stop = remote.stream(inputs, self._part, self._done)

    def end(self, error: EdgedError) -> None:
        """Answer with an error now, and let the worker stop."""
        if self._is_over:
            return
        self._leave()
        if self._stop is not None:
            self._stop()
        self._release.fail(self.item, error)

    def _late(self) -> None:
        words = f"{self._release.owner}: the deadline passed after {self.tokens} tokens"
        self.end(DeadlineExceededError(words))

    def _leave(self) -> None:
        self._is_over = True
        if self._flow is not None:
            self._flow.on_room = None
        if self._timer is not None:
            self._timer.cancel()

    def _part(self, outputs: Mapping[str, Array]) -> None:
        if self._is_over:
            return
        self.tokens += outputs[TOKENS].size
        self._made.append(outputs)
        if self._flow is not None and self._flow.has_room:
            self._give()

    def _give(self) -> None:
        """Give what is made and not given yet, as one answer."""
        if not self._made or self._flow is None:
            return
        outputs, self._made = joined(self._made), []
        item, release = self.item, self._release
        if wanted := item.request.outputs:
            outputs = {name: array for name, array in outputs.items() if name in wanted}
        self._flow.give()
        response = InferResponse(release.key.model, release.number, item.generation, outputs)
        item.on_response(response, False)

    def _done(self, outputs: Mapping[str, Array], error: EdgedError | None) -> None:
        run_ns = time.monotonic_ns() - self._started_ns
        result = BatchResult([], self._started_ns, run_ns, 0)
        if not self._is_over:
            self._leave()
            found: Mapping[str, Array] | None = None
            if error is None:
                self.tokens += outputs[TOKENS].size
                found = joined([*self._made, outputs])
            result.outcomes, result.rows = [Outcome(self.item, found, error)], self.item.rows
        self._release.ended(self, result)


def joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Pieces as one; what only the last has is its own."""
    if len(parts) == 1:
        return dict(parts[0])
    found: dict[str, Array] = {}
    for name in parts[-1]:
        arrays = [part[name] for part in parts if name in part]
        found[name] = np.concatenate(arrays)
    return found
