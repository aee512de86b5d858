"""How a batch runs: stack, run, split; on the loop for fast models, on an instance's thread else.

Decides nothing about order or time. A failing batch is run again one by one, so that only the bad
request fails.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from edged.errors import (
    DeadlineExceededError,
    DeviceLostError,
    EdgedError,
    RunError,
    WorkerDiedError,
)
from edged.messages import InferResponse
from edged.resident import Keeping
from edged.serving.scheduling.scheduler import Batch, Waiting
from edged.tensors import Array

log = logging.getLogger("edged.serving")


class Runner(Protocol):
    """The part of a Session that running needs."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch."""
        ...


class Outcome(NamedTuple):
    """What became of one request: its outputs, or an error."""

    item: Waiting
    outputs: Mapping[str, Array] | None
    error: EdgedError | None


@dataclass(slots=True)
class BatchResult:
    """What became of a batch, when its run began and how long it took (nanoseconds)."""

    outcomes: list[Outcome]
    started_ns: int
    run_ns: int
    rows: int


def run_batch(runner: Runner, items: Sequence[Waiting]) -> BatchResult:
    """Run requests of one layout together and give each its rows back, without copying outputs."""
    started_ns = time.monotonic_ns()
    rows = sum(item.rows for item in items)
    if len(items) == 1:
        outcomes = [_run_one(runner, items[0])]
    else:
        try:
            outcomes = _run_together(runner, items, rows)
        except DeviceLostError as exc:  # one by one it would be no better
            outcomes = [Outcome(item, None, exc) for item in items]
        except Exception as exc:
            log.warning(
                "a batch of %d requests failed, running them one by one: %s", len(items), exc
            )
            outcomes = [_run_one(runner, item) for item in items]
    return BatchResult(outcomes, started_ns, time.monotonic_ns() - started_ns, rows)


def run_in_time(runner: Runner, items: Sequence[Waiting]) -> BatchResult:
    """``run_batch`` for requests that waited at a thread: those whose time is over do not run."""
    now_ns = time.monotonic_ns()
    late = [
        item
        for item in items
        if item.request.deadline_ns is not None and item.request.deadline_ns <= now_ns
    ]
    if not late:
        return run_batch(runner, items)
    live = [item for item in items if item not in late]
    result = run_batch(runner, live) if live else BatchResult([], now_ns, 0, 0)
    error = DeadlineExceededError(
        f'model "{late[0].request.model}": the deadline passed while waiting'
    )
    result.outcomes += [Outcome(item, None, error) for item in late]
    return result


def _run_together(runner: Runner, items: Sequence[Waiting], rows: int) -> list[Outcome]:
    return split(items, rows, runner.run(stack(items)))


def stack(items: Sequence[Waiting]) -> Mapping[str, Array]:
    """The inputs of requests of one layout as one batch; a request alone is not copied."""
    first = items[0].request.inputs
    if len(items) == 1:
        return first
    made = {name: np.concatenate([item.request.inputs[name] for item in items]) for name in first}
    if type(first) is Keeping:
        return first.stacked(made, [item.request.inputs for item in items])
    return made


def split(items: Sequence[Waiting], rows: int, outputs: Mapping[str, Array]) -> list[Outcome]:
    """Give each request of a batch its rows, as views.

    Raises:
        RunError: an output does not have a row for each row of the batch.
    """
    if len(items) == 1:
        return [Outcome(items[0], outputs, None)]
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows:
            raise RunError(
                f'output "{name}" has shape {list(array.shape)} for a batch of {rows} rows; '
                "the bundle promises one row each"
            )
    if outputs and rows == len(items):
        # One row each, the usual case: cut by iterating, which costs half of slicing.
        columns = [list(a.reshape(rows, 1, *a.shape[1:])) for a in outputs.values()]
        keys = tuple(outputs)
        return [
            Outcome(item, dict(zip(keys, parts, strict=True)), None)
            for item, parts in zip(items, zip(*columns, strict=True), strict=True)
        ]
    outcomes: list[Outcome] = []
    start = 0
    for item in items:
        stop = start + item.rows
        parts = {name: array[start:stop] for name, array in outputs.items()}
        outcomes.append(Outcome(item, parts, None))
        start = stop
    return outcomes


def only(
    outputs: Mapping[str, Array], wanted: Sequence[str], owner: str
) -> tuple[Mapping[str, Array], EdgedError | None]:
    """The outputs that a request asked for, or what is wrong with them."""
    if missing := [name for name in wanted if name not in outputs]:
        return {}, RunError(f'{owner} gave no output "{missing[0]}"')
    return {name: outputs[name] for name in wanted}, None


def _run_one(runner: Runner, item: Waiting) -> Outcome:
    try:
        return Outcome(item, runner.run(item.request.inputs), None)
    except EdgedError as exc:
        cause: BaseException | None = exc
        while cause is not None:
            # The frames of a traceback hold what was run on until the collector comes by, and
            # that may be a GPU's memory, or a client's.
            cause.__traceback__ = None
            cause = cause.__cause__ or cause.__context__
        return Outcome(item, None, exc)
    except Exception:
        log.exception('model "%s" failed in an unexpected way', item.request.model)
        return Outcome(item, None, RunError(f'model "{item.request.model}" failed while running'))


def log_answer(owner: str, item: Waiting, response: InferResponse) -> None:
    """One line for each request, at level debug."""
    log.debug(
        "%s answers %s: %s; waited %d us, ran %d us in a batch of %d",
        owner,
        item.request.origin,
        response.error.message if response.error is not None else "ok",
        response.queue_ns // 1000,
        response.run_ns // 1000,
        response.batch_rows,
    )


class RemoteSession(Protocol):
    """The part of a worker's session that running through the loop needs."""

    def begin(
        self,
        inputs: Mapping[str, Array],
        on_done: Callable[[Mapping[str, Array], EdgedError | None], None],
    ) -> None:
        """Start a run; its end is told on the loop."""
        ...

    def await_run(self, on_done: Callable[[Mapping[str, Array], EdgedError | None], None]) -> None:
        """Take over a run that a bound run left under way."""
        ...


class RemoteBatch:
    """A batch that runs in a worker process, answered through the loop.

    Args:
        session: with no run under way.
        items: requests of one layout.
        on_done: called once, on the loop.
        started_ns: when a run began that is taken over.
    """

    def __init__(
        self,
        session: RemoteSession,
        items: Sequence[Waiting],
        on_done: Callable[[BatchResult], None],
        started_ns: int = 0,
    ) -> None:
        self._session = session
        self._items = items
        self._on_done = on_done
        self._rows = sum(item.rows for item in items)
        self._outcomes: list[Outcome] = []
        self._started_ns = started_ns or time.monotonic_ns()

    def begin(self) -> None:
        """Start it."""
        self._session.begin(stack(self._items), self._ran)

    def adopt(self) -> None:
        """Take over one that is under way."""
        self._session.await_run(self._ran)

    def _ran(self, outputs: Mapping[str, Array], error: EdgedError | None) -> None:
        if error is None:
            try:
                self._finish(split(self._items, self._rows, outputs))
                return
            except RunError as exc:
                error = exc
        if len(self._items) == 1 or isinstance(error, WorkerDiedError | DeviceLostError):
            self._finish([Outcome(item, None, error) for item in self._items])
            return
        log.warning(
            "a batch of %d requests failed, running them one by one: %s",
            len(self._items),
            error.message,
        )
        self._next()

    def _next(self) -> None:
        item = self._items[len(self._outcomes)]
        self._session.begin(item.request.inputs, self._ran_alone)

    def _ran_alone(self, outputs: Mapping[str, Array], error: EdgedError | None) -> None:
        item = self._items[len(self._outcomes)]
        self._outcomes.append(Outcome(item, None if error else outputs, error))
        if len(self._outcomes) == len(self._items):
            self._finish(self._outcomes)
        else:
            self._next()

    def _finish(self, outcomes: list[Outcome]) -> None:
        run_ns = time.monotonic_ns() - self._started_ns
        self._on_done(BatchResult(outcomes, self._started_ns, run_ns, self._rows))


class Claim:
    """A batch that one of two gets: the thread that would run it, or who takes it back."""

    __slots__ = ("_left", "batch")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._left = [None]

    @property
    def is_taken(self) -> bool:
        """Whether somebody has it."""
        return not self._left

    def take(self) -> bool:
        """Whether it is ours; says so once, to whoever asks first on any thread."""
        try:
            self._left.pop()
        except IndexError:
            return False
        return True


def tell(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *given: object) -> None:
    """Call something on the loop from a thread; a run may end after the loop did."""
    try:
        loop.call_soon_threadsafe(call, *given)
    except RuntimeError:
        log.debug("a run ended after the loop")
