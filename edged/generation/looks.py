"""What a configuration's window is judged by: the figures of every model that serves.

Hundreds of models are looked at in several turns of the event loop, and only where a request failed
or a release changed its state since they were looked at last; else what was seen then holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from typing import NamedTuple

from edged.errors import Code
from edged.generation.pace import TURNS
from edged.serving.counters import Counters
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import State
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.serving.standing import Standing

_PIECE = 32
"""Models that are looked at in one turn of the loop; each takes 3 us."""
_ASKERS = {
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.PERMISSION_DENIED,
    Code.CANCELLED,
    Code.RESOURCE_EXHAUSTED,  # else whoever asks too much could undo what an operator changed
}
"""The askers' doing, not ours."""

Look = Generator[None, None, "Seen"]
"""Yields between two pieces of it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The figures of one moment.

    Args:
        answers: by model and anything else, how many there were and how many failed by our doing.
        lost: by model that does not answer, why, as far as known.
        failed: those of them that will not by themselves.
        link: why the broker is out of reach, empty while it is not; None where that does not count.
    """

    answers: Mapping[tuple[str, object], tuple[int, int]]
    lost: Mapping[str, str]
    failed: frozenset[str] = frozenset()
    link: str | None = None

    @property
    def failures(self) -> int:
        """How many answers failed, of all models together."""
        return sum(failed for _, failed in self.answers.values())


class _Mark(NamedTuple):
    """What changes with everything that a look tells apart but the answers that went well."""

    moves: int
    failures: int
    refused: int
    serving: tuple[object, ...]

    @classmethod
    def now(cls, dataplane: Dataplane, table: ServingTable) -> _Mark:
        serving = tuple(one.serve for one in table.rollouts.values())
        return cls(Standing.moves, Counters.failures_of_all, dataplane.refused, serving)


class Looks:
    """Looks at what serves, and at what was refused before it came to that.

    Args:
        dataplane: whose models they are.
        link: why the broker is out of reach; see ``Seen``.
    """

    def __init__(self, dataplane: Dataplane, link: Callable[[], str | None] = lambda: None) -> None:
        self._dataplane = dataplane
        self._link = link
        self._table: ServingTable | None = None
        self._mark: _Mark | None = None
        self._seen = Seen({}, {})
        self._ahead: ServingTable | None = None

    def steps(self) -> Look:
        """At what serves now; where nothing failed since the last look, that one holds.

        So there may have been more answers that went well. Who finds too many failures among fewer
        answers would have found so at the last look.
        """
        table = self._dataplane.table
        if table is not self._table or self._mark != _Mark.now(self._dataplane, table):
            yield from self._whole(table)
        return self._told()

    async def ahead(self, table: ServingTable) -> None:
        """In several turns, at a table that is about to serve."""
        for _ in self._whole(table):
            await asyncio.sleep(0)
        self._ahead = table

    def begun(self) -> Seen:
        """What serves now, all of it as it is now; at once where it was looked at ``ahead``."""
        table = self._dataplane.table
        ahead, self._ahead = self._ahead, None
        is_ahead = ahead is table and self._table is table  # no other look ended since
        if not is_ahead or self._mark != _Mark.now(self._dataplane, table):
            for _ in self._whole(table):
                pass
        return self._told()

    def _told(self) -> Seen:
        link = self._link()
        return self._seen if link is None else replace(self._seen, link=link)

    def _whole(self, table: ServingTable) -> Generator[None, None, None]:
        mark = _Mark.now(self._dataplane, table)  # what comes meanwhile is looked at once more
        answers: dict[tuple[str, object], tuple[int, int]] = {}
        lost: dict[str, str] = {}
        failed: set[str] = set()
        routes = list(table.routes.items())
        for start in range(0, len(routes), _PIECE):
            for name, route in routes[start : start + _PIECE]:
                _look_at(name, route, answers, lost, failed)
            yield from repeat(None, TURNS)
        for (model, transport, code), count in self._dataplane.refusals.items():
            if model in table.routes and code not in _ASKERS:
                answers[model, (transport, code)] = (count, count)
        self._seen = Seen(answers, lost, frozenset(failed))
        self._table, self._mark = table, mark


def _look_at(
    name: str,
    route: Route,
    answers: dict[tuple[str, object], tuple[int, int]],
    lost: dict[str, str],
    failed: set[str],
) -> None:
    served = [one for one in route.releases.values() if isinstance(one, ServedRelease)]
    for one in served:
        counters = one.counters
        failed_by = counters.failed
        ours = sum(failed_by[code] for code in failed_by.keys() - _ASKERS) if failed_by else 0
        answers[name, one.key] = (counters.requests, ours)
    if served and not route.is_ready:
        bad = [one for one in served if one.state is State.FAILED]
        lost[name] = "; ".join(one.reason for one in bad)
        if len(bad) == len(served):
            failed.add(name)
