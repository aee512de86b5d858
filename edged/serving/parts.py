"""A request of more rows than a run may have: cut into parts that wait by themselves, then joined.

So one large request holds a device no longer at a time than any other, and memory for no more rows
than ``max_batch``. Used from the event loop only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from edged.errors import CancelledError, EdgedError, TooLargeError
from edged.manifest import Manifest
from edged.serving.executor import BatchResult
from edged.serving.scheduling.backlog import Backlog
from edged.serving.scheduling.scheduler import RunTimes, Waiting
from edged.tensors import Array

MOST_PARTS = 1 << 16
"""Each is an object: as many take a third of a second of the loop to make."""
_PART_NS = 10_000_000
"""Others wait for the end of a part; handing over shorter ones would cost more than it saves."""


def can_cut(manifest: Manifest) -> bool:
    """Whether rows may run apart and be joined: each has one shape, whatever it is run with."""
    axes = [axis for spec in manifest.output_specs() for axis in spec.shape[1:]]
    return manifest.is_row_wise and all(isinstance(axis, int) for axis in axes)


def part_rows(batch_rows: int, max_rows: int, times: RunTimes) -> int:
    """How many rows a part should have.

    Args:
        batch_rows: the rows of a batch that pay; a part never has fewer.
        max_rows: the most rows of a run.
        times: what runs take.

    Returns:
        As many as run in 10 ms, for fewer and longer runs cost less in all.
    """
    rows = batch_rows
    while rows * 2 <= max_rows and times.likely_ns(rows * 2) <= _PART_NS:
        rows *= 2
    return rows


def check_parts(owner: str, rows: int, part: int) -> None:
    """Refuse a request that makes too many parts of so many rows; raises TooLargeError."""
    if rows > MOST_PARTS * part:
        raise TooLargeError(
            f"{owner}: {rows} rows, and at most {MOST_PARTS * part} can be asked for at once "
            f"({MOST_PARTS} runs of {part}): ask in several requests, or raise batching.max_batch"
        )


class Owner(Protocol):
    """A release, as its large requests see it."""

    owner: str
    backlog: Backlog

    def fail(self, item: Waiting, error: EdgedError) -> None:
        """Count and answer one that did not run."""
        ...

    def complete(
        self, item: Waiting, outputs: Mapping[str, Array], error: EdgedError | None, spent: Spent
    ) -> None:
        """Count and answer one whose runs have ended."""
        ...


@dataclass(slots=True)
class Spent:
    """When the first run of a request began and what its runs took, nanoseconds; the most rows."""

    started_ns: int = 0
    run_ns: int = 0
    rows: int = 0

    def add(self, result: BatchResult) -> None:
        """Note a run."""
        self.started_ns = min(self.started_ns or result.started_ns, result.started_ns)
        self.run_ns += result.run_ns
        self.rows = max(self.rows, result.rows)


@dataclass(slots=True, eq=False)
class Part(Waiting):
    """Some rows of a request."""

    whole: Whole | None = None
    outputs: Mapping[str, Array] = field(default_factory=dict)

    def ended(
        self,
        outputs: Mapping[str, Array] | None,
        error: EdgedError | None,
        result: BatchResult | None = None,
    ) -> None:
        """It ran, or never will."""
        assert self.whole is not None
        self.outputs = outputs or {}
        if result is not None:
            self.whole.spent.add(result)
        self.whole.note(error)


@dataclass(slots=True, eq=False)
class Whole:
    """A request whose parts wait or run; answered when the last of them has ended.

    Args:
        item: the request.
        owner: the release that it waits for.
    """

    item: Waiting
    owner: Owner
    parts: list[Part] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
    _ended: int = 0
    _error: EdgedError | None = None

    def cut(self, rows: int) -> list[Part]:
        """Cut it into parts of at most so many rows; they are viewed, not copied."""
        item, asked = self.item, self.item.request
        for start in range(0, item.rows, rows):
            stop = min(start + rows, item.rows)
            inputs = {name: array[start:stop] for name, array in asked.inputs.items()}
            size = item.size_bytes * (stop - start) // item.rows
            request = replace(asked, inputs=inputs)
            self.parts.append(
                Part(
                    request,
                    item.on_response,
                    stop - start,
                    item.layout,
                    size,
                    item.enqueued_ns,
                    item.generation,
                    item.queue,
                    whole=self,
                )
            )
        item.queue = self
        return self.parts

    def withdraw(self, item: Waiting) -> bool:
        """Take back what waits; True when all of it did, and it was answered with CancelledError.

        One that has begun is answered so when what runs of it has ended: the rest would keep others
        out for an answer that nobody wants.
        """
        waiting = self._waiting()
        if not waiting:
            return False
        has_begun = self._ended > 0 or len(waiting) < len(self.parts)
        self.owner.backlog.remove(waiting)
        self._ended += len(waiting)
        if not has_begun:
            self.owner.fail(item, CancelledError(f"{self.owner.owner}: withdrawn before its turn"))
            return True
        if self._error is None:
            self._error = CancelledError(f"{self.owner.owner}: withdrawn before all of it had run")
        if self._ended < len(self.parts):
            return False
        self._finish()
        return True

    def note(self, error: EdgedError | None) -> None:
        """One part has ended; after an error those that wait are of no use any more."""
        self._ended += 1
        if error is not None and self._error is None:
            self._error = error
            waiting = self._waiting()
            self.owner.backlog.remove(waiting)
            self._ended += len(waiting)
        if self._ended == len(self.parts):
            self._finish()

    def _finish(self) -> None:
        outputs: dict[str, Array] = {}
        if self._error is None:
            first = self.parts[0].outputs
            outputs = {n: np.concatenate([part.outputs[n] for part in self.parts]) for n in first}
        self.owner.complete(self.item, outputs, self._error, self.spent)

    def _waiting(self) -> tuple[Part, ...]:
        there = set(map(id, self.owner.backlog.items))
        return tuple(part for part in self.parts if id(part) in there)


def wholes(items: Iterable[Waiting]) -> list[Waiting]:
    """The requests that these are, or are parts of, each once; for when no part is running."""
    found: dict[int, Waiting] = {}
    for item in items:
        one = item.whole.item if type(item) is Part and item.whole is not None else item
        found.setdefault(id(one), one)
    return list(found.values())
