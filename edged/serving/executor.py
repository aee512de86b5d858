"""How a batch runs: stack, run, split; on the loop for fast models, on an instance's thread else.

Decides nothing about order or time. A failing batch is run again one by one, so that only the bad
request fails.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edged.errors import EdgedError, RunError
from edged.serving.scheduler import Waiting
from edged.tensors import Array

log = logging.getLogger("edged.serving")


class Runner(Protocol):
    """The part of a Session that running needs."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch."""
        ...


@dataclass(slots=True)
class Outcome:
    """What became of one request: its outputs, or an error."""

    item: Waiting
    outputs: Mapping[str, Array] | None
    error: EdgedError | None


@dataclass(slots=True)
class BatchResult:
    """What became of a batch, and how long the runtime took (nanoseconds)."""

    outcomes: list[Outcome]
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
        except Exception as exc:
            log.warning(
                "a batch of %d requests failed, running them one by one: %s", len(items), exc
            )
            outcomes = [_run_one(runner, item) for item in items]
    return BatchResult(outcomes, time.monotonic_ns() - started_ns, rows)


def _run_together(runner: Runner, items: Sequence[Waiting], rows: int) -> list[Outcome]:
    names = items[0].request.inputs
    stacked = {
        name: np.concatenate([item.request.inputs[name] for item in items]) for name in names
    }
    outputs = runner.run(stacked)
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows:
            raise RunError(
                f'output "{name}" has shape {list(array.shape)} for a batch of {rows} rows; '
                "the bundle promises one row each"
            )
    outcomes: list[Outcome] = []
    start = 0
    for item in items:
        stop = start + item.rows
        parts = {name: array[start:stop] for name, array in outputs.items()}
        outcomes.append(Outcome(item, parts, None))
        start = stop
    return outcomes


def _run_one(runner: Runner, item: Waiting) -> Outcome:
    try:
        return Outcome(item, runner.run(item.request.inputs), None)
    except EdgedError as exc:
        return Outcome(item, None, exc)
    except Exception:
        log.exception('model "%s" failed in an unexpected way', item.request.model)
        return Outcome(item, None, RunError(f'model "{item.request.model}" failed while running'))


class InstanceThread:
    """The thread of one instance; started with the first job, ended by ``close``.

    Runtimes release the interpreter lock while they run, so the event loop stays free.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], Any]) -> None:
        """Run ``job`` on the thread, after those before it. The job must not raise."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        """End the thread after its last job, without waiting for it."""
        if self._thread is not None:
            self._jobs.put(None)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except Exception:
                log.exception("a job of %s raised", self._name)
