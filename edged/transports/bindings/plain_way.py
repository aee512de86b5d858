"""Plain messages of one binding, for one release: the memory that they are decoded to and run from.

Decides nothing; which messages are plain, and what becomes of them, is ``plain.py``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from edged.messages import OnResponse
from edged.processing.columns import ColumnsCodec
from edged.protocol.broker_session import REFUSED, Publication, Published
from edged.tensors import ALL_DTYPES, Array, TensorSpec
from edged.transports.bindings.arrival import Arrival
from edged.transports.bindings.binding import Compiled, Route
from edged.transports.bindings.counters import BindingCounters

TOGETHER: Final = 16
"""So many at most, though more came: the broker works on their answers meanwhile."""


class Call(Protocol):
    """The part of a prepared call that this needs; see ``serving/prepared.py``."""

    outputs: tuple[TensorSpec, ...]

    @property
    def is_current(self) -> bool:
        """Whether nothing was swapped since."""
        ...

    @property
    def release(self) -> int:
        """Who answers."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer of it."""
        ...

    @property
    def rows_together(self) -> int:
        """So many messages may be the rows of one request; 0 = each needs its own."""
        ...

    @property
    def turn(self) -> Any:
        """The loop's."""
        ...

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int) -> Any:
        """Runs on fixed memory."""
        ...

    def also(self, origin: str, count: int, took_ns: int) -> None:
        """Count those that were the rows of one."""
        ...

    def submit(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        deadline_ns: int | None,
        origin: str,
        on_response: OnResponse,
    ) -> object:
        """Ask, behind others."""
        ...


class Plain(Protocol):
    """Whoever owns the works."""

    def done(self, work: PlainWork) -> None:
        """One has its answer in safety."""
        ...

    def finish(self, works: Sequence[PlainWork]) -> None:
        """Those that are not done are now."""
        ...

    def give_back(self, work: PlainWork) -> None:
        """One is not to be answered here."""
        ...


class PlainWork:
    """A plain message that is worked on; see ``Job`` for the other kind.

    Args:
        plain: whose.
        route: the binding and its target topic.
        arrival: the message.
        counters: the binding's.
        number: higher for those that came later.
    """

    __slots__ = ("arrival", "counters", "is_done", "number", "plain", "route")

    def __init__(
        self,
        plain: Plain,
        route: Route,
        arrival: Arrival,
        counters: BindingCounters,
        number: int = 0,
    ) -> None:
        self.plain = plain
        self.route = route
        self.arrival = arrival
        self.counters = counters
        self.number = number
        self.is_done = False

    def abandon(self) -> None:
        """Leave it un-acknowledged: the broker delivers the message again."""
        if not self.is_done:
            self.is_done = True
            self.counters.in_flight -= 1
            self.counters.abandoned += 1

    def __call__(self, event: Published) -> None:
        """The broker has its answer, or refused it."""
        if event.reason_code >= REFUSED:
            self.plain.give_back(self)
        else:
            self.plain.done(self)

    def kept(self, reason: str) -> None:
        """The outbox has its answer, or never will."""
        if reason:
            self.plain.give_back(self)
        else:
            self.plain.finish([self])


class Way:
    """One binding's, for one release."""

    def __init__(self, call: Call, codec: ColumnsCodec, compiled: Compiled, route: Route) -> None:
        table = codec.only_table
        assert table is not None
        config = route.binding.config
        self.call, self.compiled = call, compiled
        self.quick = codec.quick
        self.name, self.origin = route.binding.name, route.binding.origin
        self.timeout_ns, self.qos, self.retain = int(config.timeout), config.sent_qos, config.retain
        self.is_auto = config.codec == "auto"
        self.most = max(1, min(TOGETHER, call.rows_together))
        self.columns, self._name = len(table.columns), table.spec.name
        self.dtype, self.dtype_name = ALL_DTYPES[table.spec.dtype].numpy, table.spec.dtype
        self._values = np.zeros(self.most * self.columns, self.dtype)
        self._outputs = memory_of(call.outputs, self.most)
        self._runs: list[Any] = [None] * (self.most + 1)
        self.by = (-1, -1)
        self.like = Publication("", b"")
        self.asked: list[list[PlainWork]] = []
        """Those whose runs are somebody else's to begin, and not over."""

    def run(self, values: list[float], rows: int) -> tuple[Any, Mapping[str, Array]] | None:
        """Run at once, where nobody else has to be heeded."""
        if self._outputs is None:
            return None
        run = self._runs[rows]
        if run is None:
            array = self._values[: rows * self.columns].reshape(rows, self.columns)
            outputs = {name: one[:rows] for name, one in self._outputs.items()}
            bound = self.call.bind({self._name: array}, outputs, rows)
            if bound is None:
                return None
            run = self._runs[rows] = (bound, outputs)
        self._values[: rows * self.columns] = values
        ran = run[0].run(self.origin)
        return None if ran is None else (ran, run[1])

    def due_ns(self, work: PlainWork) -> int:
        """When its time is over."""
        return work.arrival.message.arrived_ns + self.timeout_ns

    def late(self, works: Sequence[PlainWork], now_ns: int) -> int:
        """How many of the first ones' time is over; they came one after the other."""
        for count, work in enumerate(works):
            if self.due_ns(work) > now_ns:
                return count
        return len(works)

    def inputs(self, values: list[float], rows: int) -> dict[str, Array]:
        """Memory of their own, for a run that comes later."""
        return {self._name: np.array(values, self.dtype).reshape(rows, self.columns)}


def memory_of(specs: tuple[TensorSpec, ...], rows: int) -> dict[str, Array] | None:
    """Where runs write to; None where the shapes are only known after a run."""
    found = {}
    for spec in specs:
        sizes = [axis for axis in spec.shape[1:] if isinstance(axis, int)]
        if not spec.is_batched or len(sizes) < len(spec.shape) - 1:
            return None
        if spec.dtype not in ALL_DTYPES or ALL_DTYPES[spec.dtype].numpy.kind not in "fiub":
            return None
        found[spec.name] = np.zeros((rows, *sizes), ALL_DTYPES[spec.dtype].numpy)
    return found
