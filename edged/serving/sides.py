"""Runs of an asker who is alone, beside a canary or in A/B: each request by the side it belongs to.

Decides nothing: whose side it is says the rollout, and who is alone ``Turn.is_alone``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from edged.messages import Asker
from edged.runtimes.base import BoundRun
from edged.serving.lone import LoneRun, Ran, Watch, bound_run
from edged.serving.rollout import Rollout
from edged.serving.served import Served
from edged.tensors import Array

if TYPE_CHECKING:
    from edged.serving.dataplane import Dataplane


class SideWatch(NamedTuple):
    """The rollout that chooses, who asks by default, and the memory that runs read and write."""

    rollout: Rollout
    asker: Mapping[str, object] | str | None
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


class SidedRun(LoneRun):
    """See above.

    Args:
        plane: as for LoneRun.
        release: likewise; the stable one.
        rows: likewise.
        runs: by release, of every side.
        watch: who chooses, and is told.
    """

    __slots__ = ("_runs", "_side_watch")

    def __init__(
        self,
        plane: Dataplane,
        release: Served,
        rows: int,
        *,
        runs: Mapping[int, LoneRun],
        watch: SideWatch,
    ) -> None:
        super().__init__(plane, release, None, rows)
        self._runs = runs
        self._side_watch = watch

    def run(self, origin: str, key: Asker = None) -> Ran | None:
        """As of LoneRun, by the side of the key; None also while another side is busy.

        A side that is left to the queue more often than the other would get less than its share.
        """
        rollout, asker, _, _ = self._side_watch
        who = asker if key is None else key
        where = rollout.place_of(who, origin)
        number = rollout.side_at(where)
        ran = None
        for other, run in self._runs.items():
            if other != number and not run.is_free:
                break
        else:
            ran = self._runs[number].run(origin)
        if ran is None:
            rollout.put_back(where, who, origin)
        return ran


def bind_sides(plane: Dataplane, stable: Served, watch: SideWatch, rows: int) -> LoneRun:
    """Runs for every side; such that never run where one of them has none here."""
    found: dict[int, tuple[Served, BoundRun]] = {}
    for number in watch.rollout.sides:
        side = watch.rollout.releases.get(number)
        bound = None
        if side is not None and side.answers and side.remote is None:
            bound = bound_run(plane, side, watch.inputs, watch.outputs, rows)
        if side is None or bound is None:
            return LoneRun(plane, stable, None, rows)  # the queue takes them all
        found[number] = side, bound
    runs = {
        number: LoneRun(
            plane, side, bound, rows,
            watch=Watch(watch.rollout, number, watch.inputs, watch.outputs),
        )
        for number, (side, bound) in found.items()
    }  # fmt: skip
    return SidedRun(plane, stable, rows, runs=runs, watch=watch)
