"""Runs of an asker who is alone, beside a canary or in A/B: each request by the side it belongs to.

Decides nothing: whose side it is says the rollout, and who is alone ``Turn.is_alone``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from edged.messages import Asker
from edged.serving.lone import LoneRun, Ran, ask_again, bound_run
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
        for run in self._runs.values():
            if not run.is_free:
                return None
        rollout, asker, inputs, outputs = self._side_watch
        who = asker if key is None else key
        where = rollout.place_of(who, origin)
        number = rollout.side_at(where)
        ran = self._runs[number].run(origin)
        if ran is None:
            rollout.put_back(where, who, origin)
            return None
        rollout.note_lone(number, ran.run_ns, inputs, outputs)
        if rollout.shadow is not None and number == rollout.config.stable:
            ask_again(rollout.shadow, inputs, outputs, ran)
        return ran


def bind_sides(plane: Dataplane, stable: Served, watch: SideWatch, rows: int) -> LoneRun:
    """Runs for every side; such that never run where one of them has none here."""
    runs: dict[int, LoneRun] = {}
    for number in watch.rollout.sides:
        side = watch.rollout.releases.get(number)
        bound = None
        if side is not None and side.answers and side.remote is None:
            bound = bound_run(plane, side, watch.inputs, watch.outputs, rows)
        if side is None or bound is None:
            return LoneRun(plane, stable, None, rows)  # the queue takes them all
        runs[number] = LoneRun(plane, side, bound, rows)
    return SidedRun(plane, stable, rows, runs=runs, watch=watch)
