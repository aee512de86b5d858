"""A call prepared once and made many times: what cannot change between two calls is looked up once.

The lookup is repeated when the serving table was swapped or any release changed its state; a call
whose layout no longer fits what is served now is refused, never squeezed in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NoReturn

from edged.errors import (
    DeadlineExceededError,
    EdgedError,
    InvalidRequestError,
    LayoutChangedError,
    RuntimeFailureError,
)
from edged.messages import Asker, InferRequest, OnResponse, OrderedRequest, PrepareRequest, Ticket
from edged.serving.layouts import check_layout, outputs_with, row_bytes, row_shape
from edged.serving.lone import LoneRun, Watch, adopt, bound_run
from edged.serving.release import ServedRelease
from edged.serving.rollout import Rollout
from edged.serving.scheduling.inline import INLINE_ROWS
from edged.serving.scheduling.scheduler import Layout, Waiting
from edged.serving.scheduling.turn import Runs, Turn
from edged.serving.served import Served
from edged.serving.sides import SideWatch, bind_sides
from edged.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from edged.serving.dataplane import Dataplane

log = logging.getLogger("edged.serving")


class PreparedCall:
    """A model and a layout, resolved to a release; made by ``Dataplane.prepare``.

    Args:
        plane: the door it belongs to.
        request: what was asked for.

    Raises:
        EdgedError: as for a request: no such model, none ready, or inputs that do not fit it.
    """

    entry = None  # nobody has to be let in; see ``access.guard``

    def __init__(self, plane: Dataplane, request: PrepareRequest) -> None:
        self._plane = plane
        self._request = request
        self._wanted = tuple(request.outputs)
        self._kind = OrderedRequest if request.keeps_order else InferRequest
        self._row_bytes = sum(row_bytes(spec) for spec in request.inputs if spec.is_batched)
        self._fixed_bytes = sum(row_bytes(spec) for spec in request.inputs if not spec.is_batched)
        self.outputs: tuple[TensorSpec, ...] = ()
        """What answers hold: ``batch`` is the rows of the request, other names are only known after
        a run. Set once; a release with other outputs does not fit."""
        self._is_prepared = False
        self._rollout: Rollout | None = None
        self._found_moves = -1  # nothing is looked up yet
        self._table = plane.table
        self._resolve()
        self._is_prepared = True

    @property
    def model(self) -> str:
        """Whose."""
        return self._request.model

    @property
    def release(self) -> int:
        """The release that answered last, or would."""
        return self._release.number

    @property
    def is_current(self) -> bool:
        """Whether nothing was swapped, loaded or unloaded since it was looked up."""
        plane = self._plane
        return (
            plane.table is self._table
            and ServedRelease.moves == self._found_moves
            and not plane.is_draining
        )

    @property
    def numbers(self) -> Collection[int]:
        """The releases that may answer."""
        return (self.release,) if self._moves >= 0 or self._rollout is None else self._rollout.sides

    @property
    def generation(self) -> int:
        """Of the table that the release was found in."""
        return self._table.generation

    @property
    def is_apart(self) -> bool:
        """Whether it runs in another process now."""
        return self._release.remote is not None

    @property
    def turn(self) -> Turn:
        """The loop's, where who answers now has its runs."""
        return self._release.turn

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer of it; while those of one run are told, some do."""
        return not self._release.in_flight

    @property
    def rows_together(self) -> int:
        """So many requests are worth one run as the rows of one; 0 where each needs its own.

        It does where it has a side of a rollout, is looked up in a cache, or heard by somebody.
        """
        release = self._release
        is_apart = self._rollout is not None or self.model in self._plane.taps
        if is_apart or not isinstance(release, ServedRelease) or release.cache is not None:
            return 0
        return release.batch_rows if release.is_inline else 0

    def also(self, origin: str, count: int, took_ns: int) -> None:
        """Count so many more requests that the last run answered as the rows of one."""
        release = self._release
        if count and isinstance(release, ServedRelease):
            release.counters.also(origin, count, took_ns)

    def bind(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int
    ) -> LoneRun | None:
        """Runs of an asker who is alone, from fixed memory to fixed memory.

        Args:
            inputs: arrays of exactly the prepared layout.
            outputs: arrays of what was announced, for as many rows.
            rows: as for ``submit``.

        Returns:
            The runs, as long as they are current; None when the call has to be looked up again,
            which the next request does.
        """
        plane, release, rollout = self._plane, self._release, self._rollout
        if rollout is not None and not rollout.is_sole:
            if plane.table is not self._table or ServedRelease.moves != self._found_moves:
                return None
            sides = SideWatch(rollout, self._request.asker, inputs, outputs)
            return bind_sides(plane, release, sides, rows or self._rows)
        session = release.session
        if plane.table is not self._table or ServedRelease.moves != self._moves or session is None:
            return None
        bound = bound_run(plane, release, inputs, outputs, rows or self._rows)
        watch = None if rollout is None else Watch(rollout, release.number, inputs, outputs)
        return LoneRun(plane, release, bound, rows or self._rows, watch=watch)

    @property
    def gathers(self) -> int:
        """So many rows of requests of several askers may run together on the loop; 0 for none."""
        release = self._release
        if not isinstance(release, ServedRelease) or self._rollout is not None:
            return 0
        is_heard = release.cache is not None or self.model in self._plane.taps
        specs = (*release.inputs, *release.outputs)
        if is_heard or not release.is_inline or not all(spec.is_batched for spec in specs):
            return 0
        return 0 if log.isEnabledFor(logging.DEBUG) else min(release.batch_rows, INLINE_ROWS)

    @property
    def shared(self) -> PreparedCall:
        """What runs for several askers."""
        return self

    @property
    def outlook(self) -> tuple[int, int, int]:
        """The class of who answers, how long its next run may take, and how long one row does."""
        return self._release.rank, self._release.inline.last_ns, self._release.typical_run_ns

    def enlist(self, runs: Runs) -> None:
        """Have what gathers requests of this call pumped at the end of this turn of the loop."""
        self._release.turn.ask(runs, asyncio.get_running_loop())

    def adopt(
        self, inputs: Mapping[str, Array], rows: int, origin: str, on_response: OnResponse
    ) -> None:
        """Answer a request whose lone run raised StillRunningError, when that is over.

        Args:
            inputs: that the run was bound to; they must not change until the answer.
            rows: as for ``submit``.
            origin: who asks.
            on_response: as for ``submit``.
        """
        release = self._release
        request = InferRequest(
            self._request.model, inputs, self._request.release, self._wanted, None, origin
        )
        now_ns, generation = time.monotonic_ns(), self._table.generation
        rows = rows or self._rows
        adopt(release, Waiting(request, on_response, rows, self._layout, 0, now_ns, generation))

    def shuts_out(
        self, rows: int, deadline_ns: int | None, now_ns: int, origin: str
    ) -> EdgedError | None:
        """What a request is told, and counted with, that is refused as the one before it was.

        Spares its sender's tensors being read, and most of the daemon's work where it is asked for
        more than it can do. None for all others: they are submitted.
        """
        release = self._release
        is_one = self._moves >= 0  # and no rollout has to be asked whose request it is
        if not isinstance(release, ServedRelease) or not is_one or not self.is_current:
            return None
        error = release.shuts_out(rows or self._rows, deadline_ns, now_ns)
        if error is not None:
            self._plane.count_refusal(self._request.model, origin, error)
        return error

    def submit(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        deadline_ns: int | None,
        origin: str,
        on_response: OnResponse,
        *,
        key: Asker = None,
    ) -> Ticket | None:
        """Answer a request, now or later.

        Args:
            inputs: arrays of exactly the prepared layout; they must not change until the answer.
            rows: their free axis; 0 where none was left free.
            deadline_ns: monotonic clock, nanoseconds; None for no deadline.
            origin: who asks.
            on_response: as for ``Dataplane.submit``.
            key: what keeps it on one side of a rollout; None for what the call was prepared with.

        Returns:
            What withdraws it; None when it has been answered already.
        """
        plane = self._plane
        request = self._kind(
            self._request.model, inputs, self._request.release, self._wanted, deadline_ns, origin
        )
        if self.model in plane.taps:
            on_response = plane.heard(request, on_response)
        number = 0
        try:
            if (
                plane.table is not self._table
                or ServedRelease.moves != self._moves
                or plane.is_draining
            ):
                self._resolve()
            release = self._release
            if self._rollout is not None:
                request.asker = self._request.asker if key is None else key
                release, on_response = self._rollout.take(release, request, on_response)
            number = release.number
            now_ns = time.monotonic_ns()
            if deadline_ns is not None and deadline_ns <= now_ns:
                _raise_late(release)
            size = self._fixed_bytes + rows * self._row_bytes
            item = Waiting(
                request, on_response, rows or self._rows, self._layout, size, now_ns,
                self._table.generation, release,
            )  # fmt: skip
            return release.ask(item)
        except EdgedError as exc:
            plane.refuse(request, on_response, exc, number)
            return None
        except Exception:
            log.exception("a request from %s could not be handled", origin)
            error = RuntimeFailureError("the request could not be handled; see the daemon's log")
            plane.refuse(request, on_response, error, number)
            return None

    def _resolve(self) -> None:
        """Look up everything again; changes nothing when it raises."""
        moves, table = ServedRelease.moves, self._plane.table
        if self._table is table and self._found_moves == moves and not self._plane.is_draining:
            return
        release = self._plane.admit(table, self._request.model, self._request.release)
        try:
            if release.is_stateful:
                _raise_stateful(release)
            rows = check_layout(release, self._request.inputs)
            outputs = outputs_with(release, self._wanted, self._request.inputs, rows)
        except InvalidRequestError as exc:
            if not self._is_prepared:
                raise
            raise LayoutChangedError(
                f"{exc.message}; the call was prepared for another release: prepare it again"
            ) from exc
        if self._is_prepared and outputs != self.outputs:
            now = ", ".join(f'"{spec.name}" {spec}' for spec in outputs)
            raise LayoutChangedError(
                f"{release.owner} answers {now}, which is not what the call was prepared for: "
                "prepare it again"
            )
        self.outputs = outputs
        self._moves, self._table, self._release = moves, table, release
        self._found_moves, self._rollout = moves, None
        rollout = table.rollouts.get(self.model) if self._request.release is None else None
        if rollout is not None and not rollout.is_over:
            self._rollout = rollout
            if not rollout.is_sole:
                self._moves = -1  # nobody takes a short way that leads to one release
        self._rows = rows or 1
        by_name = {spec.name: spec for spec in self._request.inputs}
        specs = release.inputs if release.needs_layout else ()
        self._layout: Layout = tuple(row_shape(by_name[spec.name])[1:] for spec in specs)


def _raise_late(release: Served) -> NoReturn:
    raise DeadlineExceededError(f"{release.owner}: the deadline had passed on arrival")


def _raise_stateful(release: Served) -> NoReturn:
    raise InvalidRequestError(
        f"{release.owner} keeps state: ask it in a sequence; a prepared call belongs to none"
    )
