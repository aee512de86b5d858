"""One request on its way through a pipeline: steps are begun when what they need is there.

Used from the event loop only; slow steps are done on the workshop's threads, models are asked
through their own queues, so that they batch with whoever else asks. Fast models of a request that
is alone run one after the other without a turn of the loop between them.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    EdgedError,
    InvalidRequestError,
)
from edged.messages import InferRequest, InferResponse, Ticket
from edged.pipelines.awaited import NO_THREAD, Awaited
from edged.pipelines.checks import (
    check_promise,
    holds,
    named,
    nothing,
    rows_of,
    size_of,
    unexpected,
)
from edged.pipelines.graph import Node, Plan
from edged.pipelines.home import Home
from edged.pipelines.items import Do, Items, Then
from edged.resident import Keeping, on_host, place_of
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.served import Served
from edged.tensors import DTYPES, Array, TensorSpec

log = logging.getLogger("edged.pipelines")

_INLINE_BYTES = 1 << 16
"""NumPy on more than this may hold up the loop for longer than a thread costs."""
_BUDGET_NS = 500_000
"""Runs of one request on the loop in one go; see serving/scheduling/turn.py."""


class PipelineRun:
    """One request.

    Args:
        home: the pipeline.
        item: the request.
        members: the release for each model of the plan.
        plan: what is done of it, where that is not the whole of the pipeline.
    """

    paused_ns = 0
    """Time in which it was not its own doing that nothing was done."""

    def __init__(
        self,
        home: Home,
        item: Waiting,
        members: Mapping[Any, Served],
        plan: Plan | None = None,
    ) -> None:
        plan = plan or home.plan
        self.item = item
        self.members = members
        self.ends: Sequence[Callable[[], None]] = ()  # called after it: its models may go
        self.started_ns = time.monotonic_ns()
        self._home, self._plan = home, plan
        self._staying = home.staying if plan is home.plan else {}
        self._deadline_ns = item.request.deadline_ns
        self._origin = f"pipeline:{plan.name}"
        self._values: list[Any] = [None] * plan.slots
        for slot, spec in enumerate(plan.inputs):
            self._values[slot] = item.request.inputs[spec.name]
        self._missing = [len(node.after) for node in plan.nodes]
        self._ready = deque(place for place, count in enumerate(self._missing) if not count)
        self._begun_ns = [0] * len(plan.nodes)
        self._open = self._token = 0
        self._tickets: dict[int, Ticket] = {}
        self._errands: dict[int, Awaited] = {}
        self._spent_ns = 0
        self._is_alone = False
        self._is_advancing = self._is_over = self._is_stopping = False
        self._error: EdgedError | None = None

    def start(self, *, is_alone: bool) -> None:
        """Begin.

        Args:
            is_alone: no other request came with it, so there is nobody to share a batch with.
        """
        self._is_alone = is_alone
        self._advance()
        self._is_alone = False

    def cancel(self) -> bool:
        """Give up; returns whether it has been answered. What runs is waited for."""
        self._stop(CancelledError(f"{self._home.owner}: withdrawn"))
        self._advance()
        return self._is_over

    def _stop(self, error: EdgedError) -> None:
        """End with an error as soon as nothing of the request is used any more."""
        if self._error is None:
            self._error = error
        if self._is_stopping:
            return  # called by what the loop below brought about
        self._is_stopping = True
        for ticket in list(self._tickets.values()):
            ticket.cancel()
        for token, awaited in list(self._errands.items()):
            if awaited.withdraw():
                del self._errands[token]
                self.close()
        self._is_stopping = False

    def _advance(self) -> None:
        if self._is_advancing or self._is_over:
            return
        self._is_advancing = True
        while self._ready and self._error is None:
            if self._is_late():
                node = self._plan.nodes[self._ready[0]]
                text = f'{self._home.owner}: the deadline passed before step "{node.name}"'
                self._stop(DeadlineExceededError(text))
                break
            place = self._ready.popleft()
            try:
                self._begin(place, self._plan.nodes[place])
            except Exception as exc:
                self._broke(place, exc)
        self._is_advancing = False
        if not self._open:
            self._is_over = True
            self._home.over(self, {} if self._error else self._results(), self._error)

    def _is_late(self) -> bool:
        return self._deadline_ns is not None and time.monotonic_ns() >= self._deadline_ns

    def _results(self) -> dict[str, Array]:
        plan, wanted = self._plan, self.item.request.outputs
        made: dict[str, Array] = {}
        for spec, slot in zip(plan.outputs, plan.results, strict=True):
            if not wanted or spec.name in wanted:
                value = self._values[slot]
                # Not a view of what was sent: the sender may use that memory again.
                made[spec.name] = value if slot in plan.fresh else np.array(value, order="C")
        return {name: made[name] for name in wanted if name in made} if wanted else made

    def _begin(self, place: int, node: Node) -> None:
        self._begun_ns[place] = time.monotonic_ns()
        values = self._values
        given = {name: values[slot] for name, slot in node.reads}
        mode = node.work.mode if node.work is not None else "map"
        if mode == "first" and not node.each:
            given = {name: value for name, value in given.items() if value is not None}
            if not given:
                self._skip(place, node)
                return
        elif any(value is None for value in given.values()):
            self._skip(place, node)
            return
        if node.each:
            Items(self, place, node, given).begin()
            return
        if node.when is None:
            self._do(place, node, given)
            return

        def judged(verdicts: Sequence[bool]) -> None:
            if verdicts[0]:
                self._do(place, node, given)
            else:
                self._skip(place, node)

        self.judge(place, node, [None], judged)

    def _do(self, place: int, node: Node, given: Mapping[str, Any]) -> None:
        if node.member is not None:
            self.ask(place, node, given, self._asked)
        elif node.work is not None:
            self.work(place, node, given)

    def judge(
        self,
        place: int,
        node: Node,
        items: Sequence[int | None],
        then: Callable[[Sequence[bool]], None],
    ) -> None:
        """Find out for which items a step's condition holds; where it is long, on a thread."""
        values = {name: self._values[slot] for name, slot in node.when_reads}
        when = node.when
        assert when is not None

        def decide() -> list[bool]:
            return [holds(when, values, index) for index in items]

        if size_of(values) <= _INLINE_BYTES:
            then(decide())
        else:
            self._elsewhere(place, decide, then)

    def _elsewhere(self, place: int, do: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do something on a thread, and go on with what came out of it."""

        def job() -> Any:
            if self._is_late():
                return DeadlineExceededError(NO_THREAD)
            try:
                return do()
            except BaseException as exc:  # an exit, too, would leave nobody to answer
                return exc

        def came(result: Any) -> None:
            self._errands.pop(token).cancel()
            self.close()
            try:
                if isinstance(result, BaseException):
                    self._broke(place, result)
                elif self._error is None:
                    then(result)
            except Exception as exc:
                self._broke(place, exc)
            self._advance()

        token, work = self.open(), self._plan.nodes[place].work
        is_foreign = work is not None and work.is_foreign
        errand = self._home.workshop.do(job, came, is_foreign=is_foreign)
        self._errands[token] = Awaited(errand, came, self._deadline_ns)

    def work(self, place: int, node: Node, given: Mapping[str, Any], do: Do | None = None) -> None:
        """Do a step that is no model, here or on a thread; ``do`` in place of its own work."""
        assert node.work is not None
        do = do or node.work.run
        most = self._plan.config.max_items
        if node.work.count is not None and (count := node.work.count(given)) > most:
            raise InvalidRequestError(f"makes {count} items; the limit is {most} (max_items)")
        if not node.work.is_slow and size_of(given) <= _INLINE_BYTES:
            self.done(place, node, do(given))
            return
        self._elsewhere(place, lambda: do(given), lambda made: self.done(place, node, made))

    def settle(self, place: int, node: Node, result: Mapping[str, Any]) -> None:
        """``done``, but what is wrong with the result ends the run."""
        try:
            self.done(place, node, result)
        except EdgedError as exc:
            self._fail(place, exc)

    def ask(
        self, place: int, node: Node, given: Mapping[str, Array], then: Then, index: int = -1
    ) -> None:
        """Ask a model: at once when nobody else wants anything, else through its queue."""
        assert node.member is not None
        release = self.members[node.member]
        rows = rows_of(release.inputs, given)
        if rows == 0:
            then(place, node, index, nothing(node.promised, release.outputs), None)
            return
        session = release.session
        if self._staying:
            given = self._on_device(place, session, given)
        if (
            self._is_alone
            and session is not None
            and release.is_inline
            and release.is_free
            and rows <= release.inline.rows
            and self._spent_ns < _BUDGET_NS
        ):
            began_ns = time.monotonic_ns()
            outputs = session.run(given)
            run_ns = time.monotonic_ns() - began_ns
            self._spent_ns += run_ns
            release.inline.learn(run_ns, rows)
            release.counters.ran_alone(self._origin, run_ns, rows, is_inline=True)
            then(place, node, index, outputs, None)
            return
        request = InferRequest(node.member.model, given, None, (), self._deadline_ns, self._origin)
        token = self.open()

        def answered(response: InferResponse, _final: bool) -> None:
            self._tickets.pop(token, None)
            self.close()
            try:
                then(place, node, index, response.outputs, response.error)
            except Exception as exc:
                self._broke(place, exc)
            self._advance()

        try:
            ticket = self._home.offer_to(release, self.item.generation, request, answered)
        except EdgedError:
            self.close()
            raise
        if ticket is not None:
            self._tickets[token] = ticket

    def _on_device(
        self, place: int, session: object, given: Mapping[str, Array]
    ) -> Mapping[str, Array]:
        """The arguments as the model's session takes them; it may be another one meanwhile."""
        if not place_of(session):
            return on_host(given)
        names = self._staying.get(place)
        return Keeping(given, names) if names else given

    def _asked(
        self,
        place: int,
        node: Node,
        _index: int,
        outputs: Mapping[str, Array],
        error: EdgedError | None,
    ) -> None:
        if error is not None:
            self._fail(place, error)
        elif self._error is None:
            self.settle(place, node, outputs)

    def open(self) -> int:
        """Something is under way outside of this run; returns a number for it."""
        self._open += 1
        self._token += 1
        return self._token

    def close(self) -> None:
        """It has come back."""
        self._open -= 1

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._error is not None

    def fail(self, place: int, error: EdgedError) -> None:
        """End the run because of a step."""
        self._fail(place, error)

    def _broke(self, place: int, exc: BaseException) -> None:
        self._fail(place, exc if isinstance(exc, EdgedError) else unexpected(exc))

    def _fail(self, place: int, error: EdgedError) -> None:
        node = self._plan.nodes[place]
        if self._error is None:
            self._home.tally_of(node.name).failed += 1
        self._stop(named(error, f'{self._home.owner} step "{node.name}"'))

    def done(self, place: int, node: Node, outputs: Mapping[str, Any]) -> None:
        """Keep what a step made, and see who waited for it.

        Raises:
            EdgedError: it is not what was promised.
        """
        self._home.tally_of(node.name).did(time.monotonic_ns() - self._begun_ns[place])
        if node.work is not None:
            self._check(node, outputs)
        for name, slot in node.writes:
            self._values[slot] = outputs[name]
        self._go_on(place)

    def _check(self, node: Node, outputs: Mapping[str, Any]) -> None:
        assert node.work is not None
        if node.work.is_foreign and not node.each:
            check_promise(node.promised, outputs)

    def _skip(self, place: int, node: Node) -> None:
        self._home.tally_of(node.name).skipped += 1
        if node.default is not None:
            for (_, slot), spec in zip(node.writes, node.promised, strict=True):
                self._values[slot] = self.filled(spec, node.default)
        self._go_on(place)

    def filled(self, spec: TensorSpec, value: float) -> Array:
        """What stands for an output that was not made; axes that nobody knows have no length."""
        lengths: dict[Any, int] = {}
        for given in self._plan.inputs:
            shape = self.item.request.inputs[given.name].shape
            lengths.update(zip(given.shape, shape, strict=True))
        axes = [axis if isinstance(axis, int) else lengths.get(axis, 0) for axis in spec.shape]
        return np.full(axes, value, DTYPES[spec.dtype].numpy)

    def _go_on(self, place: int) -> None:
        for follower in self._plan.followers[place]:
            self._missing[follower] -= 1
            if not self._missing[follower]:
                self._ready.append(follower)
