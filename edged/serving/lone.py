"""A request whose asker has the loop to itself: run at once, without queue, batch or turn.

Waiting for the end of the loop's turn lets requests of others join; when there are none it is only
time lost. Who is alone is ``Turn.is_alone``'s decision; everything unusual goes the usual way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from edged.errors import RunError
from edged.messages import Asker
from edged.rollout.together import Inputs
from edged.runtimes.base import BoundRun, StillRunningError
from edged.serving.executor import RemoteBatch
from edged.serving.release import ServedRelease
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.served import Served
from edged.tensors import Array

if TYPE_CHECKING:
    from edged.serving.dataplane import Dataplane
    from edged.serving.rollout import Rollout

log = logging.getLogger("edged.serving")


class Ran(NamedTuple):
    """Who answered, how long the run took (nanoseconds), and its rows."""

    release: int
    generation: int
    run_ns: int
    rows: int


class LoneRun:
    """Requests of one layout and one number of rows, from fixed memory to fixed memory.

    Args:
        plane: the door it belongs to.
        release: who answers, by the plane's present table.
        bound: its run; None when it has none.
        rows: of every request.
        watch: who is told of each; None for nobody.
    """

    __slots__ = ("_bound", "_inline", "_moves", "_plane", "_release", "_rows", "_table", "_watch")

    def __init__(
        self,
        plane: Dataplane,
        release: Served,
        bound: BoundRun | None,
        rows: int,
        *,
        watch: Watch | None = None,
    ) -> None:
        self._plane = plane
        self._release = release
        self._bound = bound
        self._rows = rows
        self._inline = release.inline
        self._table = plane.table
        self._moves = ServedRelease.moves
        self._watch = watch
        # Each request has its line in the log at that level; who changes it ends all runs.
        if log.isEnabledFor(logging.DEBUG):
            self._bound = None

    @property
    def is_current(self) -> bool:
        """Whether nothing was swapped, loaded or unloaded since it was made."""
        return self._plane.table is self._table and ServedRelease.moves == self._moves

    @property
    def is_free(self) -> bool:
        """Whether a run would not have to wait, nor be given to others."""
        return (
            self._bound is not None
            and self._release.is_free_for_one
            and self._rows <= self._inline.rows
        )

    def run(self, origin: str, key: Asker = None) -> Ran | None:  # noqa: ARG002
        """Run what the inputs' memory holds, on the loop, now, and count it.

        Args:
            origin: who asks.
            key: what keeps it on a side, where there are any.

        Returns:
            Who answered; None when the request has to go the usual way: something else waits or
            runs, the model is none that runs on the loop, or it failed. Then nothing was counted,
            and the usual way runs it again and says what is wrong.

        Raises:
            StillRunningError: it runs in a worker, and has to be adopted before anything else.
        """
        release, bound, rows = self._release, self._bound, self._rows
        if bound is None or not self._may_run:
            return None
        began_ns = time.monotonic_ns()
        try:
            bound.run()
        except StillRunningError:
            raise
        except Exception:
            return None
        ended_ns = time.monotonic_ns()
        run_ns, generation = ended_ns - began_ns, self._table.generation
        self._inline.learn(run_ns, rows)
        release.counters.ran_alone(origin, run_ns, rows, is_inline=release.remote is None)
        if self._watch is not None:
            self._watch.saw(run_ns, ended_ns, generation)
        return Ran(release.number, generation, run_ns, rows)

    def run_for(self, askers: Sequence[tuple[str, int]]) -> int:
        """As ``run``, for several who asked in one turn; their rows together are those of a run.

        Args:
            askers: who asks, and since when, monotonic nanoseconds.

        Returns:
            How long it took, nanoseconds; 0 when each of them has to go the usual way.
        """
        release, bound, rows = self._release, self._bound, self._rows
        if bound is None or not self._may_run or not release.is_inline:
            return 0
        began_ns = time.monotonic_ns()
        try:
            bound.run()
        except Exception:
            return 0
        ended_ns = time.monotonic_ns()
        run_ns = ended_ns - began_ns or 1
        self._inline.learn(run_ns, rows)
        counters = release.counters
        counters.inline_batches += 1
        counters.ran(run_ns, rows)
        for origin, since_ns in askers:
            counters.served(origin, began_ns - since_ns, ended_ns - since_ns)
        return run_ns

    @property
    def _may_run(self) -> bool:
        """Whether nothing changed, and nobody waits or runs."""
        plane = self._plane
        return (
            plane.table is self._table
            and ServedRelease.moves == self._moves
            and not plane.is_draining
            and self._release.is_free_for_one
            and self._rows <= self._inline.rows
        )


class Watch:
    """What a rollout notes of the runs of one side: each of them, so next to nothing of each.

    Args:
        rollout: that it is a side of.
        number: of the release.
        inputs: the memory that runs read.
        outputs: the memory that they write.
    """

    __slots__ = ("_canary", "_inputs", "_outputs", "_shadow", "_side", "_tally")

    def __init__(self, rollout: Rollout, number: int, inputs: Inputs, outputs: Inputs) -> None:
        self._tally = rollout.entry.tally
        self._side = self._tally.side(number)
        self._shadow = rollout.shadow if number == rollout.config.stable else None
        self._canary = rollout if rollout.is_canary(number) else None
        self._inputs, self._outputs = inputs, outputs

    def saw(self, run_ns: int, now_ns: int, generation: int) -> None:
        """A run took so long and has just ended; its memory is the asker's again after this."""
        self._side.took(run_ns)
        shadow = self._shadow
        if shadow is not None:
            if now_ns < shadow.rests_until_ns:
                self._tally.dropped += 1
            else:
                shadow.see(self._inputs, self._outputs, generation)
        canary = self._canary
        if canary is not None and canary.references:
            canary.look(self._inputs, self._outputs, now_ns)


def bound_run(
    plane: Dataplane,
    release: Served,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    rows: int,
) -> BoundRun | None:
    """A run of one release; None when it has none that nobody need wait for."""
    session = release.session
    is_quick = release.is_quick or release.remote is not None
    is_quick = is_quick and rows <= release.most_rows and release.cache is None
    if session is None or not is_quick or release.key.model in plane.taps:
        return None
    try:
        return session.bind(inputs, outputs)
    except RunError as exc:
        log.warning("%s: requests of %d rows cannot be bound: %s", release.owner, rows, exc)
        return None


def adopt(release: Served, item: Waiting) -> None:
    """Take a run that is under way as if it had been queued and begun."""
    assert isinstance(release, ServedRelease)
    assert release.remote is not None
    release.take_over(item)
    RemoteBatch(release.remote, (item,), release.finished, item.enqueued_ns).adopt()
