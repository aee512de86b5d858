"""Releases that keep state: one gone and another there, workers, and any order of all of it."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edged.config.schema import BatchingConfig, ModelConfig, QueueConfig
from edged.errors import (
    DrainingError,
    InvalidRequestError,
    ModelNotReadyError,
    RunError,
    SequenceNotFoundError,
    TensorMismatchError,
)
from edged.messages import PrepareRequest
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import NEVER_NS, Event, State, Unload, next_action
from edged.serving.manager import Desired
from edged.serving.router import Route
from edged.serving.sequences.open_sequences import OpenSequences
from edged.serving.sequences.stateful import StatefulRelease
from edged.specs import Duration
from edged.tensors import TensorSpec
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.model import FakeStored
from tests.fakes.stateful import NOTHING, THREADED_NS, Ask, load, sequence, serve
from tests.models import remembering

MS = 1_000_000
BAD = np.full((1, 3), np.nan, np.float32)


def retire(release: StatefulRelease) -> None:
    """As the manager does: out of the table, unloaded when nothing holds it."""

    def unload(_: StatefulRelease) -> None:
        if next_action([release.snapshot(is_desired=False)], 0) == Unload(release.key):
            release.move(Event.DRAINED)
            release.close()

    release.on_idle = unload
    release.move(Event.RETIRE)
    unload(release)


class TestAnotherRelease:
    @on_loop
    async def test_goes_on_with_the_states(self):
        sequences = OpenSequences()
        old = serve(sequences, load(remembering()))
        Ask(1, "idle", start=True).to(old)
        await turns()
        busy, lined = Ask(1, "busy", start=True).to(old), Ask(2, "busy").to(old)
        new = serve(sequences, load(remembering()), 2)
        after = [Ask(4, "busy").to(new), Ask(3, "idle").to(new)]
        retire(old)
        assert old.state is State.DRAINING
        await turns(16)
        assert [ask.kept for ask in (busy, lined, *after)] == [(0, 0), (1, 1), (3, 2), (1, 1)]
        assert [ask.answers[0].release for ask in (busy, lined, *after)] == [1, 1, 2, 2]
        assert old.state is State.UNLOADED
        assert sequences.lost == 0

    @on_loop
    async def test_drains_what_it_has(self):
        sequences = OpenSequences()
        old = serve(sequences, load(remembering()), on_swap="drain")
        Ask(1, start=True).to(old)
        await turns()
        new = serve(sequences, load(remembering()), 2, on_swap="drain")
        retire(old)
        assert old.state is State.DRAINING
        ask, other = Ask(2).to(new), Ask(1, "b", start=True).to(new)
        pinned = Ask(2, release=2).to(new)
        assert isinstance(pinned.error, InvalidRequestError)
        assert "belongs to release 1" in pinned.error.message
        await turns()
        assert (ask.kept, ask.answers[0].release) == ((1, 1), 1)
        assert (other.kept, other.answers[0].release) == ((0, 0), 2)
        assert old.state is State.DRAINING
        Ask(NOTHING, end=True).to(new)
        await turns()
        assert old.state is State.UNLOADED
        begun = Ask(1, start=True).to(new)
        await turns()
        assert begun.answers[0].release == 2

    @on_loop
    async def test_which_stands_in_for_one_that_starts_again(self):
        """Its worker died, the states are here: who asks is to come back, not to begin anew."""
        sequences = OpenSequences()
        home = serve(sequences, load(remembering()), 2, on_swap="drain")
        Ask(1, start=True).to(home)
        await turns()
        other = serve(sequences, load(remembering()), 1, on_swap="drain")
        home.move(Event.DIE, "its worker died")
        early = Ask(2).to(other)
        assert isinstance(early.error, ModelNotReadyError)
        assert "is starting again" in early.error.message
        home.retry_at_ns = NEVER_NS
        assert isinstance(Ask(2).to(other).error, SequenceNotFoundError), "nobody starts it again"
        home.retry_at_ns = 0
        home.move(Event.LOAD)
        assert isinstance(Ask(2).to(other).error, ModelNotReadyError)
        home.move(Event.LOADED)
        home.move(Event.WARMED)
        ask = Ask(2).to(other)
        await turns()
        assert (ask.kept, ask.answers[0].release) == ((1, 1), 2)

    @on_loop
    async def test_with_other_states_drains(self):
        sequences = OpenSequences()
        old = serve(sequences, load(remembering()))
        wide = remembering(4)
        new = serve(sequences, load(wide), 2, model=wide)
        Ask(1, start=True).to(old)
        await turns()
        retire(old)
        # It has to fit the one that answers, not the one that is asked.
        unfit, fit = Ask(np.ones((1, 4), np.float32)).to(new), Ask(1).to(new)
        assert isinstance(unfit.error, TensorMismatchError)
        await turns()
        assert (fit.kept, fit.answers[0].release) == ((1, 1), 1)
        anew = Ask(np.ones((1, 4), np.float32), start=True).to(new)
        behind = Ask(np.ones((1, 4), np.float32)).to(new)
        await turns(12)
        assert [ask.answers[0].release for ask in (anew, behind)] == [2, 2]
        assert behind.error is None
        assert old.state is State.UNLOADED

    @on_loop
    async def test_waits_so_long_and_no_longer(self, monkeypatch: pytest.MonkeyPatch):
        clock, sequences = Clock(monkeypatch), OpenSequences()
        fields = {"on_swap": "drain", "drain_timeout": Duration(10 * MS)}
        old = serve(sequences, load(remembering()), **fields)
        new = serve(sequences, load(remembering()), 2, **fields)
        Ask(1, start=True).to(old)
        await turns()
        retire(old)
        await clock.forward(9 * MS)
        assert old.state is State.DRAINING
        await clock.forward(2 * MS)
        assert old.state is State.UNLOADED
        assert (sequences.lost, len(sequences)) == (1, 0)
        gone = Ask(1).to(new)
        assert isinstance(gone.error, SequenceNotFoundError)

    @on_loop
    async def test_one_at_work_when_the_time_is_over(self):
        sequences, session = OpenSequences(), load(remembering())
        session.gate = threading.Event()
        old = serve(sequences, session, on_swap="drain", typical_ns=THREADED_NS)
        serve(sequences, load(remembering()), 2, on_swap="drain")
        busy = Ask(1, start=True).to(old)
        await until(lambda: session.runs)
        retire(old)
        old._waited_enough()
        await turns()
        assert old.state is State.DRAINING
        session.gate.set()
        await until(lambda: old.state is State.UNLOADED)
        assert busy.kept == (0, 0)

    @on_loop
    async def test_nobody_to_go_on_with_holds_nothing(self):
        sequences = OpenSequences()
        old = serve(sequences, load(remembering()), on_swap="drain")
        Ask(1, start=True).to(old)
        await turns()
        retire(old)
        assert old.state is State.UNLOADED
        assert (len(sequences), sequences.lost) == (0, 1)

    def test_other_states_are_another_release(self):
        def key(**sections):
            stored = FakeStored(serve_manifest())
            return Desired("d", stored, ModelConfig(bundle="b", **sections)).key

        def serve_manifest():
            from tests.bundles import make_manifest

            return make_manifest(remembering())[0]

        kept, more = key(sequence=sequence()), key(sequence=sequence(max_sequences=5))
        assert kept == more
        assert kept != key()


class TestTheEnd:
    @on_loop
    async def test_close_answers_all(self):
        sequences = OpenSequences()
        release = serve(sequences, load(remembering()))
        Ask(1, start=True).to(release)
        await turns()
        asks = [Ask(1).to(release) for _ in range(3)]
        release.close()
        assert all(isinstance(ask.error, DrainingError) for ask in asks)
        assert (release.in_flight, len(sequences)) == (0, 0)

    @on_loop
    async def test_close_while_one_runs(self):
        sequences = OpenSequences()
        session = load(remembering())
        session.gate = threading.Event()
        release = serve(sequences, session, typical_ns=THREADED_NS)
        asks = [Ask(1, start=n == 0).to(release) for n in range(3)]
        await until(lambda: session.runs)
        release.close()
        session.gate.set()
        await until(lambda: asks[0].answers)
        assert asks[0].kept == (0, 0)
        assert all(isinstance(ask.error, DrainingError) for ask in asks[1:])

    @on_loop
    async def test_a_release_that_fails(self):
        release = serve(OpenSequences(), load(remembering()))
        asks = [Ask(1, start=n == 0).to(release) for n in range(3)]
        release.move(Event.DIE, "it died")
        release.fail_waiting(ModelNotReadyError("it died"))
        assert isinstance(asks[0].error, ModelNotReadyError)
        assert all(isinstance(ask.error, SequenceNotFoundError) for ask in asks[1:])

    @on_loop
    async def test_one_that_slept_and_is_replaced(self):
        sequences = OpenSequences()
        old = serve(sequences, load(remembering()))
        Ask(1, start=True).to(old)
        await turns()
        old.move(Event.EVICT)
        old.lay_down().close()
        asleep = [Ask(1).to(old), Ask(1).to(old)]
        new = serve(sequences, load(remembering()), 2)
        old.move(Event.RETIRE)
        old.pass_on(new)
        old.close()
        asleep.append(Ask(1).to(new))
        await turns(16)
        assert [ask.kept for ask in asleep] == [(1, 1), (2, 2), (3, 3)]
        assert {ask.answers[0].release for ask in asleep} == {2}
        assert (old.in_flight, new.in_flight) == (0, 0)

    @on_loop
    async def test_one_that_slept_and_is_replaced_by_another_kind(self):
        sequences = OpenSequences()
        old = serve(sequences, load(remembering()))
        Ask(1, start=True).to(old)
        await turns()
        old.move(Event.EVICT)
        old.lay_down().close()
        asleep = [Ask(1).to(old), Ask(1).to(old)]
        new = serve(sequences, load(remembering()), 2, on_swap="drain")
        old.move(Event.RETIRE)
        old.pass_on(new)
        old.close()
        assert all(isinstance(ask.error, ModelNotReadyError) for ask in asleep)
        gone = Ask(1).to(new)
        assert isinstance(gone.error, SequenceNotFoundError)


@on_loop
async def test_the_door():
    release = serve(OpenSequences(), load(remembering()))
    plane = Dataplane()
    plane.swap(ServingTable(1, {"gate": Route("gate", {1: release})}))
    spec = TensorSpec("x", "float32", ("batch", 3))
    with pytest.raises(InvalidRequestError, match="a prepared call belongs to none"):
        plane.prepare(PrepareRequest("gate", (spec,)))
    ask = Ask(1, start=True)
    assert plane.submit(ask.request, ask.on_response) is not None
    await turns()
    assert ask.kept == (0, 0)
    assert release.is_stateful


class Machine(RuleBasedStateMachine):
    """Any order of requests, failures, withdrawals, evictions and releases.

    Each answer tells what the model was given as its state, and that is held against what the
    requests of the same sequence that went well should have left.
    """

    bounds: ClassVar = {"max_sequences": 4, "when_full": "evict_oldest"}

    @initialize(on_swap=st.sampled_from(["keep", "drain"]), threaded=st.booleans())
    def begin(self, on_swap: str, threaded: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.session = load(remembering())
        self.typical_ns = THREADED_NS if threaded else 100
        self.sequences = OpenSequences()
        self.section = sequence(on_swap=on_swap, **self.bounds)
        self.number, self.value = 0, 0
        self.asks: list[Ask] = []
        self.known: dict[tuple, tuple[float, float] | None] = {}
        self.losses = self.void_starts = 0
        self.releases: list[StatefulRelease] = []
        self.loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self.number += 1
        settings = ModelConfig(
            bundle="b",
            sequence=self.section,
            queue=QueueConfig(max_rows=12),
            batching=BatchingConfig(max_batch=8),
        )
        release = serve(
            self.sequences, self.session, self.number, typical_ns=self.typical_ns, settings=settings
        )
        release.session = _Open(release.session)
        self.releases.append(release)

    @rule(
        who=st.integers(0, 5),
        mark=st.sampled_from(["start", "", "", "", "end", "start end"]),
        bad=st.integers(0, 9),
        count=st.integers(1, 3),
    )
    def ask(self, who: int, mark: str, bad: int, count: int) -> None:
        async def go() -> None:
            for _ in range(count):
                self.value += 1
                x = BAD if bad == 0 else float(self.value)
                self._ask(x, who, start="start" in mark, end="end" in mark)

        self.loop.run_until_complete(go())

    @rule(who=st.integers(0, 5))
    def end(self, who: int) -> None:
        async def go() -> None:
            self._ask(NOTHING, who, end=True)

        self.loop.run_until_complete(go())

    def _ask(self, x, who: int, *, start: bool = False, end: bool = False) -> None:
        ask = Ask(x, who % 3, start=start, end=end, origin=f"uds:{who // 3}")
        ask.then = lambda: self._answered(ask)
        self.asks.append(ask)
        ask.to(self.releases[-1])

    def _answered(self, ask: Ask) -> None:
        request = ask.request
        step, key = request.sequence, (request.origin, request.sequence.id)
        known, (answer,) = self.known.get(key), ask.answers
        if answer.error is None:
            if request.only_ends:
                assert known is not None
                self.known[key] = None
                return
            expected = (0.0, 0.0) if step.start else known
            assert ask.kept == expected
            total, count = ask.kept
            self.known[key] = (
                None if step.end else (total + float(request.inputs["x"][0, 0]), count + 1)
            )
        elif step.start:
            # One that ran has left nothing. One that was refused or withdrawn may have changed
            # nothing yet, or will only in its turn.
            if isinstance(answer.error, RunError):
                self.known[key] = None
            else:
                self.void_starts += 1
        elif isinstance(answer.error, SequenceNotFoundError):
            self.losses += known is not None
            self.known[key] = None

    @rule(which=st.integers(0, 30))
    def cancel(self, which: int) -> None:
        async def go() -> None:
            waiting = [one for one in self.asks if not one.answers and one.ticket is not None]
            if waiting:
                waiting[which % len(waiting)].ticket.cancel()

        self.loop.run_until_complete(go())

    @rule(count=st.integers(1, 4))
    def turn(self, count: int) -> None:
        self.loop.run_until_complete(turns(count))

    @precondition(lambda self: self.number < 6)
    @rule()
    def swap(self) -> None:
        async def go() -> None:
            old = self.releases[-1]
            await self._serve()
            retire(old)

        self.loop.run_until_complete(go())

    @rule()
    def lose_patience(self) -> None:
        async def go() -> None:
            for release in self.releases[:-1]:
                if release.state is State.DRAINING:
                    release._waited_enough()

        self.loop.run_until_complete(go())

    @invariant()
    def bounded(self) -> None:
        if not hasattr(self, "sequences"):
            return
        open_ones = self.sequences._open.values()
        assert len(self.sequences) <= self.bounds["max_sequences"]
        assert self.sequences.size_bytes == sum(one.size_bytes for one in open_ones)
        closed = self.sequences.ended + self.sequences.evicted + self.sequences.lost
        assert self.sequences.begun == len(self.sequences) + closed

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.loop.run_until_complete(until(lambda: all(one.answers for one in self.asks)))
            self.loop.run_until_complete(turns())
            assert all(len(one.answers) == 1 for one in self.asks)
            assert all(release.in_flight == 0 for release in self.releases)
            assert all(
                release.state is not State.DRAINING or release.sequences.bound_to(release)
                for release in self.releases
            )
            assert self.losses <= self.sequences.evicted + self.sequences.lost + self.void_starts
            for release in self.releases:
                release.close()
        finally:
            self.sequences._alarm.cancel()
            self.loop.close()


class _Open:
    """A session that several releases share, so that closing one does not end it."""

    def __init__(self, session) -> None:
        self.session = session
        self.run = session.run

    def close(self) -> None:
        pass


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyOrder = Machine.TestCase
