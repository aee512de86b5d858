"""The short way of plain messages: what came together is decoded, run and answered together.

Decides which messages are plain: small JSON-like rows of numbers for a model that runs on the loop,
with nothing about them that wants a look of its own. Whatever is unusual about one, before or after
it ran, sends it the usual way (``work.py``), as if it had just come; that finds the words for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from edged.errors import DeadlineExceededError, EdgedError, FieldError
from edged.messages import InferResponse, PrepareRequest
from edged.processing.columns import ColumnsCodec
from edged.processing.values import are_plain
from edged.protocol.broker_session import BrokerSession, Message, Publication
from edged.protocol.mqtt import rows_properties
from edged.tensors import BATCH, Array, TensorSpec
from edged.topics import check_topic
from edged.transports.bindings.arrival import Arrival
from edged.transports.bindings.binding import Binding, Route
from edged.transports.bindings.binding_set import BindingSet
from edged.transports.bindings.counters import BindingCounters
from edged.transports.bindings.job_kinds import job_kind
from edged.transports.bindings.outlet import Outlet
from edged.transports.bindings.plain_answers import Pauses, PlainAnswers, Shared
from edged.transports.bindings.plain_way import Call, PlainWork, Way
from edged.transports.bindings.work import Job

log = logging.getLogger("edged.mqtt")

PAYLOAD_BYTES: Final = 4096
"""Of larger ones a single one is worth a run of its own."""
TURN_NS: Final = 500_000
"""After so much in one turn of the loop, runs wait for theirs as everybody's do."""
_CODECS: Final = ("json", "cbor", "msgpack", "auto")
_UNMARKED: Final = (None, None, None)
_TARGETS_KEPT: Final = 4096
_LOOK_AGAIN_S: Final = 0.1
"""Where there was no way, so long the next is not looked for: that takes half as long as a message
goes the usual way, and how fast a model is shows in time."""


class PlainWay:
    """See above. Used from the event loop only.

    Args:
        outlet: the bindings around it.
        session: whose messages they are.
        shared: see ``Shared``; its works are among those.
        on_done: given each message once that was taken and answered.
        usual: takes a message that goes the usual way after all.
    """

    def __init__(
        self,
        outlet: Outlet,
        session: BrokerSession,
        shared: Shared,
        on_done: Callable[[Sequence[Arrival]], None],
        usual: Callable[[Route, Arrival], None],
    ) -> None:
        self._jobs = shared[0]
        self._answers = PlainAnswers(outlet, session, shared, on_done, self.give_back)
        self._outlet, self._usual = outlet, usual
        self._prepare: Callable[[PrepareRequest], Call] | None
        self._prepare = getattr(outlet.door, "prepare", None)
        self._set: BindingSet | None = None
        self._cap = PAYLOAD_BYTES
        self._ways: dict[Binding, Way | None] = {}
        self._looked_s: dict[Binding, float] = {}
        self._targets: set[str] = set()
        self._way: Way | None = None
        self._works: list[PlainWork] = []
        self._values: list[float] = []
        self._has_pauses = self._answers.has_pauses
        if isinstance(session, Pauses):
            session.on_pause = self.run
        self._turn_s, self._spent_ns, self._queued, self._numbers = 0.0, 0, 0, 0
        self._is_due = False

    def swap(self, bindings: BindingSet) -> None:
        """Other bindings from now on."""
        self.run()
        self._set, self._cap = bindings, min(PAYLOAD_BYTES, bindings.max_request_bytes)
        self._ways.clear()
        self._looked_s.clear()
        self._targets.clear()

    def settle(self) -> None:
        """Acknowledge the messages whose answers are in safety."""
        self._answers.settle()

    def forget(self) -> None:
        """The connection is gone; whoever owns the works has abandoned them."""
        self._works.clear()
        self._values.clear()
        self._answers.forget()

    def takes(
        self, routes: Sequence[Route], arrival: Arrival, counters: dict[str, BindingCounters]
    ) -> bool:
        """Take a message that is plain; no other, which then goes behind those that were taken.

        Args:
            routes: the bindings that it belongs to.
            arrival: the message.
            counters: of the bindings, by name.
        """
        values = way = None
        if len(routes) == 1:
            route, works, message = routes[0], self._works, arrival.message
            # Between two of the same run nothing is swapped: that comes in a turn of its own.
            is_next = works and works[-1].route.binding is route.binding
            way = self._way if is_next else self._way_of(route)
            if way is not None and self._is_plain(message, way, route):
                try:
                    values = way.quick(message.payload)
                except EdgedError:  # the usual way says what is wrong
                    values = None
        if way is None or values is None:
            self.run()
            return False
        if way is not self._way:
            self.run()
            self._way = way
        own = counters.get(way.name) or counters.setdefault(way.name, BindingCounters())
        own.received += 1
        own.in_flight += 1
        self._numbers += 1
        work = PlainWork(self._answers, route, arrival, own, self._numbers)
        self._jobs.add(work)
        self._values += values
        works = self._works  # others, where those before this one were run
        works.append(work)
        if not self._has_pauses:
            self.soon()
        if len(works) >= way.most:
            self.run()
        return True

    def soon(self) -> None:
        """Answer at the end of this turn of the loop those that were taken between two reads.

        No pause comes behind them, and the broker may send nothing before they are answered.
        """
        if self._works and not self._is_due:
            self._is_due = True
            self._outlet.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        self.run()

    def _is_plain(self, message: Message, way: Way, route: Route) -> bool:
        if message.dup or message[8:11] != _UNMARKED or len(message.payload) > self._cap:
            return False
        if message.content_type is not None and way.is_auto:
            return False
        target = route.target
        return target is not None and (target in self._targets or self._may_go_to(target))

    def _may_go_to(self, target: str) -> bool:
        bindings = self._set
        if bindings is None or len(self._targets) >= _TARGETS_KEPT:
            self._targets.clear()
        try:
            check_topic(target, "to")
        except FieldError:
            return False
        if bindings is None or bindings.topics.owns(target):
            return False
        self._targets.add(target)
        return True

    def _way_of(self, route: Route) -> Way | None:
        binding = route.binding
        try:
            way = self._ways[binding]
        except KeyError:
            way = None
        else:
            if way is None or way.call.is_current:
                return way
        if self._prepare is None or not _may_be_plain(route):
            self._ways[binding] = None  # nor ever will be, with this configuration
            return None
        now_s = self._outlet.loop.time()
        if now_s - self._looked_s.get(binding, float("-inf")) < _LOOK_AGAIN_S:
            return None
        try:
            way = self._made(route)
        except EdgedError:
            way = None
        if way is not None:
            self._ways[binding] = way
        else:
            self._ways.pop(binding, None)
            self._looked_s[binding] = now_s
        return way

    def _made(self, route: Route) -> Way | None:
        """The way by what is served now; raises EdgedError where nothing is."""
        binding, door = route.binding, self._outlet.door
        manifest = door.manifest(binding.model, binding.release)
        if manifest is None or self._prepare is None:
            return None
        compiled = binding.compiled(manifest)
        codec = compiled.codecs.first
        if not isinstance(codec, ColumnsCodec) or codec.only_table is None:
            return None
        outputs = manifest.output_specs()
        if not compiled.writer.writes_rows or not all(spec.is_batched for spec in outputs):
            return None
        spec = codec.only_table.spec
        layout = TensorSpec(spec.name, spec.dtype, (BATCH, len(codec.only_table.columns)))
        call = self._prepare(
            PrepareRequest(binding.model, (layout,), binding.release, keeps_order=True)
        )
        if not call.rows_together or call.release != manifest.release:
            return None
        return Way(call, codec, compiled, route)

    def run(self) -> None:
        """Answer those that were taken, once those are done whose answers are safe."""
        self._answers.settle()
        works, values, way = self._works, self._values, self._way
        if not works or way is None:
            return
        self._works, self._values = [], []
        try:
            if not are_plain(values, way.dtype_name):
                self._give_all_back(works)
                return
            self._ask(way, works, values)
        except Exception:
            log.exception("messages could not be answered together")
            self._give_all_back(works)

    def _ask(self, way: Way, works: list[PlainWork], values: list[float]) -> None:
        rows, call = len(works), way.call
        if not call.is_current:
            # Now, in order. And a call that looks up who answers now would be current again, while
            # the way is that of the release before: each message behind would be run twice.
            self._give_all_back(works)
            return
        late = way.late(works, time.monotonic_ns())
        if late:
            self._ask_without(late, way, works, values)
            return
        now_s = self._outlet.loop.time()
        if now_s != self._turn_s:
            self._turn_s, self._spent_ns = now_s, 0
        is_next = call.is_idle and not self._queued
        if is_next and call.turn.is_alone(self) and self._spent_ns < TURN_NS:
            found = way.run(values, rows)
            if found is not None:
                (release, generation, run_ns, _), outputs = found
                self._spent_ns += run_ns
                call.also(way.origin, rows - 1, run_ns)
                self._answer(way, works, outputs, (release, generation))
                return
        began_ns = time.monotonic_ns()

        def on_response(response: InferResponse, final: bool) -> None:
            if not final:
                return
            self._queued -= 1
            try:
                if response.error is not None:
                    self._not_answered(way, works, values, response.error)
                    return
                call.also(way.origin, rows - 1, time.monotonic_ns() - began_ns)
                by = (response.release, response.generation)
                self._answer(way, works, response.outputs, by)
            except Exception:
                log.exception("messages could not be answered together")
                self._give_back_from(way, works)
            finally:
                way.asked.remove(works)

        self._queued += 1
        way.asked.append(works)
        due_ns = way.due_ns(works[0])
        call.submit(way.inputs(values, rows), rows, due_ns, way.origin, on_response)

    def _ask_without(
        self, count: int, way: Way, works: list[PlainWork], values: list[float]
    ) -> None:
        """Leave out the first ones, whose time is over: the others have theirs yet."""
        if len(works) > count:
            self._ask(way, works[count:], values[count * way.columns :])
        self._give_all_back(works[:count])  # behind them, as in ``_send``

    def _not_answered(
        self, way: Way, works: list[PlainWork], values: list[float], error: EdgedError
    ) -> None:
        if isinstance(error, DeadlineExceededError) and not works[0].is_done:
            self._ask_without(max(1, way.late(works, time.monotonic_ns())), way, works, values)
        else:
            self._give_back_from(way, works)

    def _answer(
        self,
        way: Way,
        works: list[PlainWork],
        outputs: Mapping[str, Array],
        by: tuple[int, int],
    ) -> None:
        """Publish the answers: all of them, or those whose turn it is again go the usual way."""
        outlet, manifest = self._outlet, way.compiled.manifest
        works = [work for work in works if not work.is_done]
        payloads = (
            way.compiled.writer.write_rows(manifest.name, by, outputs)
            if by[0] == manifest.release
            else []
        )
        if not works or not outlet.is_current(works[0].arrival.message.connection):
            for work in works:
                work.abandon()
            return
        if len(payloads) != len(works):
            self._give_back_from(way, works)
            return
        if way.by != by:
            way.by = by
            by_whom, words = rows_properties(manifest.name, by), way.compiled.writer.content_type
            way.like = Publication("", b"", way.qos, way.retain, words, None, None, by_whom)
        self._answers.send(way, works, payloads)

    def _give_back_from(self, way: Way, works: list[PlainWork]) -> None:
        """Those, and who came behind them and was asked for as well: or they were overtaken.

        What the others are answered is for nobody then; the usual way asks again, in order.
        """
        works = [work for work in works if not work.is_done]
        if not works:
            return  # they went with those before them
        behind = [one for others in way.asked for one in others if one.number > works[0].number]
        again = {one.number: one for one in (*works, *behind)}
        self._give_all_back([again[number] for number in sorted(again)])

    def _give_all_back(self, works: list[PlainWork]) -> None:
        for work in works:
            self.give_back(work)

    def give_back(self, work: PlainWork) -> None:
        """Let one go the usual way, as if it had just come."""
        if not work.is_done:
            work.is_done = True
            work.counters.in_flight -= 1
            work.counters.received -= 1
            self._jobs.discard(work)
            self._usual(work.route, work.arrival)


def _may_be_plain(route: Route) -> bool:
    binding = route.binding
    return (
        job_kind(route) is Job
        and binding.config.codec in _CODECS
        and binding.suppression is None
        and binding.config.discovery is None
        and binding.shown is None
    )
