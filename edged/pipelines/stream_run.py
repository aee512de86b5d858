"""One request that gets an answer for each item: items go their way one by one, and leave in order.

What is done once is done as for any request. From there each item is a small run of its own, a few
at a time, so that models still batch them; the first is answered while the last has not begun. When
the asker takes no more, no further items are begun.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from edged.errors import DeadlineExceededError, EdgedError
from edged.flow import Flow
from edged.messages import InferRequest, OnResponse, Ticket
from edged.pipelines.graph import Node, Plan, Streamed
from edged.pipelines.home import Home, StreamHome
from edged.pipelines.run import PipelineRun
from edged.pipelines.staying import Staying
from edged.pipelines.tally import StepTally
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.served import Served
from edged.serving.workshop import Workshop
from edged.tensors import Array

_AT_ONCE = 32
"""Items that were begun and not given: a full batch, and the most that waits for an asker."""
_BUDGET_NS = 500_000
"""So long items are begun and given in one go; then others have their turn."""


class StreamRun(PipelineRun):
    """One request.

    Args:
        home: as for PipelineRun.
        item: as for PipelineRun.
        members: as for PipelineRun.
        streamed: what is done once and what for each item.
        flow: how many answers the asker takes.
    """

    def __init__(
        self,
        home: StreamHome,
        item: Waiting,
        members: Mapping[Any, Served],
        streamed: Streamed,
        flow: Flow,
    ) -> None:
        super().__init__(home, item, members, streamed.outer)
        self._giver, self._streamed, self._flow = home, streamed, flow
        self._count = self._next = self._given = 0
        self._made: dict[int, Mapping[str, Array]] = {}
        self._kept: dict[int, list[Array | None]] = {}
        self._running: dict[int, _ItemRun] = {}
        self._has_items = self._is_giving = self._is_due = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._stalled_ns = 0

    def start(self, *, is_alone: bool) -> None:
        """As PipelineRun; an asker that takes nothing must not outlast the deadline."""
        if self._deadline_ns is not None:
            left_s = max(0, self._deadline_ns - time.monotonic_ns()) / 1e9
            self._deadline = asyncio.get_running_loop().call_later(left_s, self._late)
        super().start(is_alone=is_alone)

    def _advance(self) -> None:
        super()._advance()
        if self._is_over:
            self._rest()
            if self._deadline is not None:
                self._deadline.cancel()

    def _stop(self, error: EdgedError) -> None:
        super()._stop(error)
        for run in list(self._running.values()):
            run.cancel()
        self._settle()

    def _begin(self, place: int, node: Node) -> None:
        if place != self._streamed.place:
            super()._begin(place, node)
            return
        self._count = len(self._values[self._streamed.count])
        self._kept = {slot: [None] * self._count for slot in self._streamed.kept}
        self._has_items = True
        self.open()
        self._flow.on_room = self._more
        self._more()

    def _more(self) -> None:
        """Give what may be given, and begin what may be begun."""
        if self._is_giving or not self._has_items:
            return
        self._is_giving = True
        try:
            self._give_and_begin()
        except Exception as exc:
            self._broke(self._streamed.place, exc)
        self._is_giving = False
        self._settle()

    def _give_and_begin(self) -> None:
        until_ns = time.monotonic_ns() + _BUDGET_NS
        while self._error is None:
            if self._given in self._made and self._flow.has_room:
                outputs = self._made.pop(self._given)
                self._flow.give()
                self._given += 1
                self._giver.give(self, self._given - 1, outputs)
            elif self._next < self._count and self._next - self._given < _AT_ONCE:
                self._next += 1
                self._begin_item(self._next - 1)
            else:
                break
            if time.monotonic_ns() > until_ns:
                self._go_on_soon()
                return
        self._watch()

    def _go_on_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._is_due = False
        self._more()

    def _begin_item(self, index: int) -> None:
        values = list(self._values)
        for slot in self._streamed.items:
            values[slot] = values[slot][index]
        home = _ItemHome(self._giver, self, index)
        run = _ItemRun(home, self.item, self.members, self._streamed.inner, values)
        self._running[index] = run
        run.start(is_alone=False)

    def item_over(self, index: int, outputs: Mapping[str, Array], error: EdgedError | None) -> None:
        """One item is done, or has failed."""
        run = self._running.pop(index)
        if error is None:
            self._made[index] = outputs
            for slot, values in self._kept.items():
                values[index] = run.value(slot)
        elif self._error is None:
            self._stop(error)
        self._more()

    def _settle(self) -> None:
        """Go on when all items were given, or nothing of them is used any more."""
        if not self._has_items or self._running or self._is_giving:
            return
        if self._error is None and self._given < self._count:
            return
        self._has_items = False
        self._flow.on_room = None
        self._made.clear()
        self.close()
        if self._error is None:
            for slot, values in self._kept.items():
                self._values[slot] = values
            self._go_on(self._streamed.place)
        self._advance()

    def _watch(self) -> None:
        """Note since when an answer waits for its asker."""
        if self._error is not None or self._given not in self._made:
            self._rest()
        elif self._stall is None:
            self._stalled_ns = time.monotonic_ns()
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(self._flow.patience_s, self._give_up, self._given)

    def _rest(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
            self.paused_ns += time.monotonic_ns() - self._stalled_ns

    def _give_up(self, given: int) -> None:
        self._rest()
        if given != self._given:
            self._watch()
            return
        self._stop(
            DeadlineExceededError(
                f"{self._home.owner}: the asker took no answer for {self._flow.patience_s:g} s "
                "(limits.stream_wait)"
            )
        )
        self._advance()

    def _late(self) -> None:
        text = f"{self._home.owner}: the deadline passed after {self._given} answers"
        self._stop(DeadlineExceededError(text))
        self._advance()


class _ItemRun(PipelineRun):
    """One item on its way: a run with what was made before it."""

    def __init__(
        self,
        home: Home,
        item: Waiting,
        members: Mapping[Any, Served],
        plan: Plan,
        values: list[Any],
    ) -> None:
        super().__init__(home, item, members, plan)
        self._values = values

    def value(self, slot: int) -> Any:
        """What was made."""
        return self._values[slot]


class _ItemHome:
    """The pipeline as one item sees it."""

    staying: Staying = MappingProxyType({})

    def __init__(self, home: Home, run: StreamRun, index: int) -> None:
        self._home, self._run, self._index = home, run, index

    @property
    def plan(self) -> Plan:
        return self._home.plan

    @property
    def owner(self) -> str:
        return self._home.owner

    @property
    def workshop(self) -> Workshop:
        return self._home.workshop

    def tally_of(self, step: str) -> StepTally:
        return self._home.tally_of(step)

    def offer_to(
        self, release: Served, generation: int, request: InferRequest, on_response: OnResponse
    ) -> Ticket | None:
        return self._home.offer_to(release, generation, request, on_response)

    def over(
        self, _run: PipelineRun, outputs: Mapping[str, Array], error: EdgedError | None
    ) -> None:
        self._run.item_over(self._index, outputs, error)
