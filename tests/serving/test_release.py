"""A release on a real loop with a fake session: queue, batches, deadlines, draining."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.schema import BatchingConfig, ModelConfig, QueueConfig
from edged.errors import (
    DeadlineExceededError,
    DrainingError,
    ModelNotReadyError,
    QueueFullError,
    RunError,
    WorkerDiedError,
)
from edged.messages import InferRequest, InferResponse
from edged.serving.instance_threads import Job
from edged.serving.lifecycle import Event, ReleaseKey, State
from edged.serving.release import ServedRelease
from edged.serving.scheduling.precedence import Rules
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.scheduling.slots import Devices
from edged.serving.scheduling.turn import Turn
from edged.specs import Duration, Size
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.model import FakeSession, doubler
from tests.fakes.worker import ThreadProcess, Workers

MS = 1_000_000
INLINE_NS, THREADED_NS = 100, 10**9


class Ask:
    """One request and what was answered."""

    def __init__(
        self,
        rows: int = 1,
        deadline_ns: int | None = None,
        outputs: tuple[str, ...] = (),
        then: Callable[[], None] | None = None,
    ) -> None:
        x = np.random.default_rng(rows).random((rows, 4), dtype=np.float32)
        self.request = InferRequest("gate", {"x": x}, None, outputs, deadline_ns)
        self.answers: list[InferResponse] = []
        self.then = then

    def waiting(self, now_ns: int) -> Waiting:
        x = self.request.inputs["x"]
        return Waiting(self.request, self.on_response, len(x), (), x.nbytes, now_ns, 5)

    def on_response(self, response: InferResponse, final: bool) -> None:
        assert final
        self.answers.append(response)
        if self.then is not None:
            self.then()

    @property
    def answer(self) -> InferResponse:
        (answer,) = self.answers
        return answer

    def check(self) -> None:
        assert self.answer.error is None
        np.testing.assert_array_equal(self.answer.outputs["y"], self.request.inputs["x"] * 2)


def config(**sections) -> ModelConfig:
    return ModelConfig(bundle="b", **sections)


def serve(
    session: FakeSession,
    typical_ns: int = INLINE_NS,
    settings: ModelConfig | None = None,
    manifest=None,
    devices: Devices | None = None,
) -> ServedRelease:
    manifest = manifest or doubler()
    release = ServedRelease(
        ReleaseKey("gate", "d", ""),
        manifest,
        settings or config(),
        200_000,
        devices=devices or Devices(Rules(4)),
    )
    for event in (Event.LOAD, Event.LOADED, Event.WARMED):
        if event is Event.WARMED:
            release.loaded(session, "onnxruntime", typical_ns)
        release.move(event)
    return release


def offer(release: ServedRelease, clock: Clock, *asks: Ask) -> None:
    for ask in asks:
        release.offer(ask.waiting(clock.now_ns))


class TestInline:
    @on_loop
    async def test_submits_of_one_loop_turn_share_a_run(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        release = serve(session)
        asks = [Ask(rows) for rows in (1, 2, 3)]
        offer(release, clock, *asks)
        assert not session.runs, "it ran before the loop turn was over"
        assert release.in_flight == 3
        await turns()
        assert session.runs == [6]
        assert session.threads == {threading.get_ident()}
        for ask in asks:
            ask.check()
            assert (ask.answer.batch_rows, ask.answer.release, ask.answer.generation) == (6, 1, 5)
        assert release.in_flight == 0
        counters = release.counters
        assert (counters.requests, counters.rows, counters.batches) == (3, 6, 1)
        assert (counters.inline_batches, counters.failures) == (1, 0)
        release.close()

    @on_loop
    async def test_more_than_a_batch_takes_more_runs(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        release = serve(session, settings=config(batching=BatchingConfig(max_batch=4)))
        asks = [Ask() for _ in range(10)]
        offer(release, clock, *asks)
        await turns(10)
        assert session.runs == [4, 4, 2]
        for ask in asks:
            ask.check()
        release.close()

    @on_loop
    async def test_many_rows_of_a_fast_model_leave_the_loop(self, monkeypatch: pytest.MonkeyPatch):
        """Its measured time is that of one row; 1,000 of them must not hold up the loop."""
        clock, session = Clock(monkeypatch), FakeSession()
        release = serve(session, settings=config(batching=BatchingConfig(max_batch=1000)))
        few, many = Ask(64), Ask(1000)
        offer(release, clock, few)
        await turns()
        assert session.threads == {threading.get_ident()}
        offer(release, clock, many)
        await until(lambda: many.answers)
        assert threading.get_ident() in session.threads
        assert len(session.threads) == 2
        assert release.counters.inline_batches == 1
        release.close()

    @on_loop
    async def test_rows_that_take_long_leave_the_loop_and_come_back(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """How many rows run on the loop follows what they take, not what one row promised."""
        clock, session = Clock(monkeypatch), FakeSession()
        settings = config(batching=BatchingConfig(max_batch=64))
        release = serve(session, settings=settings)

        def slowly(inputs):
            clock.now_ns += 2 * MS
            return {"y": inputs["x"] * 2}

        async def ask(rows: int) -> int:
            before, asked = release.counters.inline_batches, Ask(rows)
            offer(release, clock, asked)
            await until(lambda: asked.answers)
            return release.counters.inline_batches - before

        quickly, session.function = session.function, slowly
        assert await ask(32) == 1
        session.function = quickly
        assert await ask(32) == 1, "one slow run says little"
        session.function = slowly
        assert [await ask(32) for _ in range(5)] == [1, 1, 1, 1, 0]
        session.function = quickly
        assert await ask(17) == 0, "half of the slow ones is the most now"
        assert await ask(17) == 1, "it was quick, if on the thread: it comes back"
        release.close()

    @on_loop
    async def test_a_model_with_a_fixed_batch_runs_one_by_one(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        clock, session = Clock(monkeypatch), FakeSession()
        release = serve(session, manifest=doubler(shape=(1, 4)))
        offer(release, clock, Ask(), Ask())
        await turns()
        assert session.runs == [1, 1]
        release.close()

    @on_loop
    async def test_an_answer_that_asks_again(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        release = serve(session)
        second = Ask()
        offer(release, clock, Ask(then=lambda: offer(release, clock, second)))
        await turns()
        assert session.runs == [1, 1]
        second.check()
        release.close()

    @on_loop
    async def test_outputs_wanted(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        release = serve(FakeSession(lambda inputs: {"y": inputs["x"], "z": inputs["x"]}))
        ask = Ask(outputs=("z",))
        offer(release, clock, ask)
        await turns()
        assert set(ask.answer.outputs) == {"z"}
        release.close()

    @on_loop
    async def test_an_output_that_the_session_does_not_give(self, monkeypatch: pytest.MonkeyPatch):
        """Whoever asked for it gets an error; the others of the batch their answer."""
        clock = Clock(monkeypatch)
        release = serve(FakeSession())
        asks = [Ask(), Ask(outputs=("z",)), Ask()]
        offer(release, clock, *asks)
        await turns()
        asks[0].check()
        asks[2].check()
        assert isinstance(asks[1].answer.error, RunError)
        assert '"z"' in asks[1].answer.error.message
        assert release.in_flight == 0
        release.close()


class TestThreaded:
    @on_loop
    async def test_the_loop_is_free_while_it_runs(self):
        session = FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS)
        first, second = Ask(2), Ask(3)
        release.offer(first.waiting(0))
        await until(lambda: session.runs)
        release.offer(second.waiting(0))
        await turns()
        assert not first.answers
        assert threading.get_ident() not in session.threads
        session.gate.set()
        await until(lambda: second.answers)
        first.check()
        second.check()
        assert session.runs == [2, 3]
        release.close()

    @on_loop
    async def test_what_waits_while_it_runs_shares_the_next_run(self):
        session = FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS)
        asks = [Ask() for _ in range(9)]
        release.offer(asks[0].waiting(0))
        await until(lambda: session.runs)
        for ask in asks[1:]:
            release.offer(ask.waiting(0))
            await turns(1)
        session.gate.set()
        await until(lambda: all(ask.answers for ask in asks))
        assert session.runs == [1, 8]
        assert len(session.threads) == 1
        release.close()

    @on_loop
    async def test_deadline_passes_while_another_runs(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS)
        running = Ask()
        offer(release, clock, running)
        await until(lambda: session.runs)
        late, later, never = Ask(2, clock.now_ns + 5 * MS), Ask(2, clock.now_ns + 9 * MS), Ask(3)
        offer(release, clock, later, late, never)
        await clock.forward(4 * MS)
        assert not late.answers
        await clock.forward(2 * MS)
        assert isinstance(late.answer.error, DeadlineExceededError)
        assert not later.answers
        await clock.forward(4 * MS)
        assert isinstance(later.answer.error, DeadlineExceededError)
        assert not running.answers
        session.gate.set()
        await until(lambda: never.answers)
        running.check()
        never.check()
        assert session.runs == [1, 3]
        release.close()

    @on_loop
    async def test_deadline_of_one_that_did_not_fit_into_the_batch(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Queued before the run began: its deadline must not wait for the run's end."""
        clock, session = Clock(monkeypatch), FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS, config(batching=BatchingConfig(max_batch=1)))
        running, left = Ask(1, clock.now_ns + 4 * MS), Ask(1, clock.now_ns + 5 * MS)
        offer(release, clock, left, running)
        await until(lambda: session.runs)
        await clock.forward(6 * MS)
        assert isinstance(left.answer.error, DeadlineExceededError)
        assert not running.answers
        session.gate.set()
        await until(lambda: running.answers)
        release.close()

    @on_loop
    async def test_close_while_it_runs_answers_what_waits(self):
        """The house stops without waiting: nobody is left without an answer."""
        session = FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS)
        running, waiting = Ask(), Ask()
        release.offer(running.waiting(0))
        await until(lambda: session.runs)
        release.offer(waiting.waiting(0))
        release.close()
        assert isinstance(waiting.answer.error, DrainingError)
        session.gate.set()
        await until(lambda: running.answers)
        running.check()
        await until(lambda: session.closed)
        assert release.in_flight == 0


class TestDelay:
    DELAY = config(batching=BatchingConfig(max_batch=4, max_queue_delay=Duration(2 * MS)))

    @on_loop
    async def test_waits_for_company_and_no_longer(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        release = serve(session, settings=self.DELAY)
        asks = [Ask(), Ask()]
        offer(release, clock, asks[0])
        await clock.forward(MS)
        assert not session.runs
        offer(release, clock, asks[1])
        await clock.forward(MS - 1)
        assert not session.runs
        await clock.forward(2)
        assert session.runs == [2]
        assert [ask.answer.queue_ns for ask in asks] == [2 * MS + 1, MS + 1]
        release.close()

    @on_loop
    async def test_a_full_batch_leaves_at_once(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        release = serve(session, settings=self.DELAY)
        offer(release, clock, *[Ask() for _ in range(5)])
        await turns()
        assert session.runs == [4]
        await clock.forward(2 * MS + 1)
        assert session.runs == [4, 1]
        release.close()


class TestBounds:
    @on_loop
    async def test_rows_and_bytes(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        for queue, fits in (
            (QueueConfig(max_rows=5), (2, 3)),
            (QueueConfig(max_size=Size(5 * 16)), (2, 3)),
        ):
            release = serve(FakeSession(), settings=config(queue=queue))
            asks = [Ask(rows) for rows in fits]
            offer(release, clock, *asks)
            with pytest.raises(
                QueueFullError, match=r"its queue is full .5 rows, 80 bytes"
            ) as full:
                offer(release, clock, Ask(1))
            assert full.value.retry_after_ns >= MS
            assert release.in_flight == 2
            await turns()
            offer(release, clock, Ask(5))
            await turns()
            assert release.in_flight == 0
            for ask in asks:
                ask.check()
            release.close()

    @on_loop
    async def test_an_empty_queue_takes_one_of_any_size(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        release = serve(FakeSession(), settings=config(queue=QueueConfig(max_rows=5)))
        ask = Ask(50)
        offer(release, clock, ask)
        await turns()
        ask.check()
        release.close()

    @on_loop
    async def test_expired_ones_give_their_place_back(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS, config(queue=QueueConfig(max_rows=2)))
        offer(release, clock, Ask())
        await until(lambda: session.runs)
        offer(release, clock, Ask(2, clock.now_ns + MS))
        with pytest.raises(QueueFullError):
            offer(release, clock, Ask())
        await clock.forward(2 * MS)
        last = Ask(2)
        offer(release, clock, last)
        session.gate.set()
        await until(lambda: last.answers)
        release.close()

    @on_loop
    async def test_configure_keeps_what_waits(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        release = serve(session)
        asks = [Ask(), Ask(), Ask()]
        offer(release, clock, *asks)
        release.configure(config(batching=BatchingConfig(max_batch=2)))
        await turns()
        assert session.runs == [2, 1]
        release.close()


class TestDraining:
    @on_loop
    async def test_idle_comes_after_the_last_answer_and_once(self):
        session = FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS)
        idle: list[int] = []
        asks = [Ask(), Ask()]
        release.on_idle = lambda _: idle.append(sum(len(ask.answers) for ask in asks))
        for ask in asks:
            release.offer(ask.waiting(0))
            await until(lambda: session.runs)
        release.move(Event.RETIRE)
        assert not idle
        session.gate.set()
        await until(lambda: idle)
        assert idle == [2]
        release.close()
        await until(lambda: session.closed)

    @on_loop
    async def test_a_callback_that_raises_is_contained(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        clock = Clock(monkeypatch)
        release = serve(FakeSession())
        bad, good = Ask(then=lambda: 1 / 0), Ask()
        offer(release, clock, bad, good)
        await turns()
        good.check()
        assert release.in_flight == 0
        assert "callback raised" in caplog.text
        release.close()

    @on_loop
    async def test_debug_says_a_line_for_each_request(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        clock, ask = Clock(monkeypatch), Ask(rows=3)
        release = serve(FakeSession())
        with caplog.at_level("DEBUG", "edged.serving"):
            offer(release, clock, ask)
            await turns()
        (line,) = [record.message for record in caplog.records if record.levelname == "DEBUG"]
        assert line.startswith('model "gate" release 1 answers local: ok; waited ')
        assert line.endswith(" in a batch of 3")
        release.close()

    @on_loop
    async def test_a_run_that_fails_is_counted(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        release = serve(FakeSession(lambda _: 1 / 0))
        asks = [Ask(), Ask()]
        offer(release, clock, *asks)
        await turns()
        assert all(isinstance(ask.answer.error, RunError) for ask in asks)
        assert (release.counters.requests, release.counters.failures) == (2, 2)
        release.close()

    def test_moves_by_the_table_only(self):
        release = ServedRelease(ReleaseKey("gate", "d", ""), doubler(), config(), 0)
        with pytest.raises(AssertionError, match="warmed cannot happen in state new"):
            release.move(Event.WARMED)
        assert release.state is State.NEW


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    made = Workers(monkeypatch, ThreadProcess)
    yield made
    made.close()


class TestWorker:
    """The session is in a process of its own; so is its end."""

    async def busy(
        self, workers: Workers, *waiting: Ask, settings: ModelConfig | None = None
    ) -> tuple[ServedRelease, Ask, list[str]]:
        """A release that runs one request until told, and holds others."""
        release, deaths, running = serve(workers.session(), settings=settings), [], Ask()
        release.on_death = lambda _, reason: deaths.append(reason)
        session = workers.runtime.sessions[-1]
        session.gate = threading.Event()
        release.offer(running.waiting(0))
        await until(lambda: session.runs)
        for ask in waiting:
            release.offer(ask.waiting(0))
        await turns()
        assert release.in_flight == 1 + len(waiting)
        return release, running, deaths

    @on_loop
    async def test_serves_in_batches_and_never_inline(self, workers: Workers):
        settings = config(batching=BatchingConfig(max_batch=1000))
        release = serve(workers.session(), INLINE_NS, settings)
        assert not release.is_inline
        assert release.worker_pid == workers.last.pid
        for rows in ((2,), (1, 3, 2), (1000,)):
            asks = [Ask(n) for n in rows]
            for ask in asks:
                release.offer(ask.waiting(0))
            await until(lambda asks=asks: all(ask.answers for ask in asks))
            for ask in asks:
                ask.check()
                assert ask.answer.batch_rows == sum(rows)
        assert workers.runtime.sessions[0].runs == [2, 6, 1000]
        assert release.counters.inline_batches == 0
        assert (release.counters.batches, release.in_flight) == (3, 0)
        release.close()

    @on_loop
    async def test_what_waits_shares_the_next_run(self, workers: Workers):
        asks = [Ask() for _ in range(5)]
        release, running, _ = await self.busy(workers, *asks)
        workers.runtime.sessions[0].gate.set()
        await until(lambda: all(ask.answers for ask in asks))
        for ask in (running, *asks):
            ask.check()
        assert workers.runtime.sessions[0].runs == [1, 5]
        release.close()

    @on_loop
    async def test_a_deadline_passes_while_it_runs(
        self, workers: Workers, monkeypatch: pytest.MonkeyPatch
    ):
        clock = Clock(monkeypatch)
        late = Ask(1, clock.now_ns + MS)
        release, running, _ = await self.busy(workers, late)
        await clock.forward(2 * MS)
        assert isinstance(late.answer.error, DeadlineExceededError)
        workers.runtime.sessions[0].gate.set()
        await until(lambda: running.answers)
        running.check()
        release.close()

    @on_loop
    async def test_death(self, workers: Workers):
        """What ran may be why it died; what waits did nothing and may come back."""
        waiting = Ask(2)
        release, running, deaths = await self.busy(workers, waiting)
        workers.last.die("died of SIGSEGV", "SIGSEGV")
        await until(lambda: running.answers)
        assert isinstance(running.answer.error, WorkerDiedError)
        assert "died of SIGSEGV" in running.answer.error.message
        assert isinstance(waiting.answer.error, ModelNotReadyError)
        assert waiting.answer.error.retry_after_ns > 0
        assert "died of SIGSEGV" in waiting.answer.error.message
        assert len(deaths) == 1
        assert (release.in_flight, release.worker_pid, release.session) == (0, 0, None)
        assert (release.counters.requests, release.counters.failures) == (2, 2)
        release.close()

    @on_loop
    async def test_death_of_an_idle_one(self, workers: Workers):
        release, deaths = serve(workers.session()), []
        release.on_death = lambda _, reason: deaths.append(reason)
        workers.last.die("died of SIGKILL")
        await until(lambda: deaths)
        assert release.session is None
        release.close()

    @on_loop
    async def test_the_state_is_another_before_anybody_is_told(self, workers: Workers):
        """Who is told to come back may do so at once: then it must not be queued for a dead one."""
        states: list[State] = []
        release = None

        def look() -> None:
            states.append(release.state)

        waiting = Ask(then=look)
        release, running, _ = await self.busy(workers, waiting)
        running.then = look
        release.on_death = lambda one, reason: one.move(Event.DIE, reason)
        workers.last.die("died of SIGSEGV", "SIGSEGV")
        await until(lambda: running.answers and waiting.answers)
        assert states == [State.FAILED, State.FAILED]
        release.close()

    @on_loop
    async def test_what_is_offered_at_its_death_waits_for_the_next_session(self, workers: Workers):
        """As the next of a sequence is. It was lost: the loop ran it without a session."""
        release, next_one = None, Ask(3)
        waiting = Ask(then=lambda: release.offer(next_one.waiting(0)))
        release, _, deaths = await self.busy(workers, waiting)
        workers.last.die("died of SIGKILL")
        await until(lambda: waiting.answers and deaths)
        await turns()
        release.move(Event.DIE)
        release.move(Event.LOAD)
        release.move(Event.LOADED)
        assert not next_one.answers
        release.loaded(workers.session(), "onnxruntime", INLINE_NS)
        release.move(Event.WARMED)
        await until(lambda: next_one.answers)
        next_one.check()
        assert release.in_flight == 0
        release.close()

    @on_loop
    async def test_one_that_died_and_then_slept_takes_requests_for_its_load(self, workers: Workers):
        release, calls = serve(workers.session()), []
        release.on_death, release.on_call = lambda one, why: one.move(Event.DIE, why), calls.append
        workers.last.die("died of SIGKILL")
        await until(lambda: release.state is State.FAILED)
        release.move(Event.LOAD)
        release.move(Event.PUT_OFF)
        assert release.answers
        ask = Ask(3)
        release.offer(ask.waiting(0))
        await turns()
        assert calls == [release.key]
        for event in (Event.LOAD, Event.LOADED):
            release.move(event)
        release.loaded(workers.session(), "onnxruntime", INLINE_NS)
        release.move(Event.WARMED)
        await until(lambda: ask.answers)
        ask.check()
        release.close()

    @on_loop
    async def test_loaded_again_it_serves_again(self, workers: Workers):
        release, running, deaths = await self.busy(workers)
        workers.last.die("died of SIGSEGV", "SIGSEGV")
        await until(lambda: running.answers and deaths)
        release.move(Event.DIE)
        release.move(Event.LOAD)
        release.move(Event.LOADED)
        release.loaded(workers.session(), "onnxruntime", INLINE_NS)
        release.move(Event.WARMED)
        ask = Ask(3)
        release.offer(ask.waiting(0))
        await until(lambda: ask.answers)
        ask.check()
        release.close()

    @on_loop
    async def test_death_while_it_drains(self, workers: Workers):
        release, running, _ = await self.busy(workers, Ask())
        idle: list[int] = []
        release.on_idle = lambda one: idle.append(one.in_flight)
        release.move(Event.RETIRE)
        workers.last.die("died of SIGBUS", "SIGBUS")
        await until(lambda: running.answers and idle)
        assert idle == [0]
        release.close()

    @on_loop
    async def test_close_ends_it(self, workers: Workers):
        """Nobody is left without an answer, and a close of ours is no death."""
        waiting = Ask()
        release, running, deaths = await self.busy(workers, waiting)
        release.close()
        assert workers.last.ends == 1
        assert isinstance(waiting.answer.error, DrainingError)
        await until(lambda: running.answers)
        assert isinstance(running.answer.error, WorkerDiedError)
        assert (deaths, release.in_flight) == ([], 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 6), st.sampled_from([None, 0, 1, 3])),
        st.tuples(st.just("turn"), st.just(0), st.none()),
        st.tuples(st.just("forward"), st.integers(1, 4), st.none()),
        st.tuples(st.just("hold"), st.just(0), st.none()),
        st.tuples(st.just("let go"), st.just(0), st.none()),
        st.tuples(st.just("retire"), st.just(0), st.none()),
    ),
    max_size=30,
)


class TestInstances:
    """A model runs on several threads at once, where that keeps no batch from filling up."""

    COSTS = ((1, 10**9), (2, 2 * 10**9))
    PAIRS = ((1, 10**9), (2, 10**9), (4, 2 * 10**9), (8, 4 * 10**9))

    @on_loop
    async def test_runs_at_once_and_each_answer_is_its_own(self):
        session = FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS, config(batching=BatchingConfig(instances=3)))
        asks = [Ask() for _ in range(5)]
        release.configure(config(batching=BatchingConfig(instances=3, max_batch=1)))
        for ask in asks:
            release.offer(ask.waiting(0))
        await until(lambda: len(session.runs) == 3)
        assert release.in_flight == 5
        session.gate.set()
        await until(lambda: release.in_flight == 0)
        assert session.runs == [1] * 5
        assert len(session.threads) == 3
        for ask in asks:
            ask.check()
        release.close()
        await until(lambda: session.closed)

    @on_loop
    async def test_chosen_by_what_was_measured(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(2)))
        release = serve(FakeSession(), THREADED_NS)
        assert (release.batch_rows, release.instances) == (32, 1)
        release.loaded(FakeSession(), "onnxruntime", THREADED_NS, self.COSTS)
        assert (release.batch_rows, release.instances) == (1, 2)
        release.configure(config(batching=BatchingConfig(instances=1)))
        assert (release.batch_rows, release.instances) == (1, 1)
        release.close()

    @on_loop
    async def test_a_second_run_only_for_a_full_batch(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(2)))
        session = FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS)
        release.loaded(session, "onnxruntime", THREADED_NS, self.PAIRS)
        assert (release.batch_rows, release.instances) == (2, 2)
        asks = [Ask() for _ in range(3)]
        release.offer(asks[0].waiting(0))
        await until(lambda: len(session.runs) == 1)
        release.offer(asks[1].waiting(0))
        await asyncio.sleep(0)
        assert release.running == 1
        release.offer(asks[2].waiting(0))
        await until(lambda: len(session.runs) == 2)
        assert sorted(session.runs) == [1, 2]
        session.gate.set()
        await until(lambda: release.in_flight == 0)
        for ask in asks:
            ask.check()
        release.close()

    @on_loop
    async def test_who_waits_for_a_second_run_hears_of_its_deadline(self):
        session = FakeSession()
        session.gate = threading.Event()
        release = serve(session, THREADED_NS)
        quick = tuple((rows, ns // 1000) for rows, ns in self.PAIRS)
        release.loaded(session, "onnxruntime", THREADED_NS, quick)
        first, full = Ask(), Ask()
        release.offer(first.waiting(0))
        await until(lambda: release.running == 1)
        late = Ask(deadline_ns=time.monotonic_ns() + 200_000_000)
        # Scheduled for a full batch, which is none any more when its turn comes.
        release.offer(late.waiting(0))
        withdrawn = full.waiting(0)
        release.offer(withdrawn)
        assert release.withdraw(withdrawn)
        await until(lambda: bool(late.answers))
        assert isinstance(late.answer.error, DeadlineExceededError)
        session.gate.set()
        await until(lambda: release.in_flight == 0)
        release.close()


class TestAhead:
    """While runs are short, one full batch waits at the threads instead of in the queue."""

    def serve(self, typical_ns: int) -> tuple[ServedRelease, FakeSession]:
        session = FakeSession()
        session.gate = threading.Event()
        batching = BatchingConfig(instances=1, max_batch=1)
        return serve(session, typical_ns, config(batching=batching)), session

    async def end(self, release: ServedRelease, session: FakeSession) -> None:
        session.gate.set()
        await until(lambda: release.in_flight == 0)
        release.close()

    @on_loop
    async def test_one_goes_ahead_and_the_next_waits(self):
        release, session = self.serve(10_000_000)
        asks = [Ask() for _ in range(3)]
        items = [ask.waiting(0) for ask in asks]
        for item in items:
            release.offer(item)
        await until(lambda: release.running == 2 and bool(session.runs))
        assert len(session.runs) == 1
        assert not release.withdraw(items[1])
        assert release.withdraw(items[2])
        await self.end(release, session)
        assert len(session.runs) == 2
        asks[1].check()

    @on_loop
    async def test_what_is_taken_back_is_what_went_ahead(self, monkeypatch: pytest.MonkeyPatch):
        """Also while no thread has come for the run before it: both wait at the threads then."""
        release, session = self.serve(10_000_000)
        jobs: list[Job] = []
        monkeypatch.setattr(release._threads, "submit", lambda job, _wanted: jobs.append(job))
        asks = [Ask() for _ in range(2)]
        for ask in asks:
            release.offer(ask.waiting(0))
        await until(lambda: release.running == 2)
        release.recall()
        assert release.running == 1
        assert release.backlog.rows == 1
        session.gate.set()
        for job in jobs:  # grows: what was taken back is begun again
            if (tell_end := job()) is not None:
                tell_end()
            await turns(3)
        for ask in asks:
            ask.check()
        assert len(session.runs) == 2
        monkeypatch.undo()
        release.close()

    @on_loop
    async def test_none_goes_ahead_of_long_runs(self):
        release, session = self.serve(THREADED_NS)
        items = [Ask().waiting(0) for _ in range(2)]
        for item in items:
            release.offer(item)
        await until(lambda: len(session.runs) == 1)
        await asyncio.sleep(0)
        assert release.running == 1
        assert release.withdraw(items[1])
        await self.end(release, session)

    @on_loop
    async def test_none_with_a_deadline_goes_ahead(self):
        release, session = self.serve(10_000_000)
        late = Ask(deadline_ns=time.monotonic_ns() + 20_000_000)
        release.offer(Ask().waiting(0))
        release.offer(late.waiting(0))
        await until(lambda: bool(late.answers))
        assert isinstance(late.answer.error, DeadlineExceededError)
        await until(lambda: bool(session.runs))
        assert len(session.runs) == 1
        await self.end(release, session)


class TestTurn:
    @on_loop
    async def test_models_that_fill_a_turn_share_it(self, monkeypatch: pytest.MonkeyPatch):
        clock, turn = Clock(monkeypatch), Turn()
        sessions = [FakeSession() for _ in range(3)]
        releases = []
        for session in sessions:
            release = serve(session)
            release.turn = turn
            release.inline.learn(300_000, 1)
            releases.append(release)

            def slow(inputs):
                clock.now_ns += 300_000
                return {"y": inputs["x"] * 2}

            session.function = slow
        asks = [Ask() for _ in releases]
        for release, ask in zip(releases, asks, strict=True):
            offer(release, clock, ask)
        await turns(1)
        assert [len(session.runs) for session in sessions] == [1, 0, 0]
        await turns(1)
        assert [len(session.runs) for session in sessions] == [1, 1, 0]
        await turns(1)
        for ask in asks:
            ask.check()
        assert turn.spills == 2
        for release in releases:
            release.close()


@given(
    steps=STEPS,
    typical_ns=st.sampled_from([INLINE_NS, THREADED_NS]),
    delay_ms=st.sampled_from([0, 2]),
    closes_early=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_exactly_one_final_answer(steps, typical_ns: int, delay_ms: int, closes_early: bool):
    """Whatever happens in whatever order, each request is answered once, with its own rows."""
    limits = config(
        batching=BatchingConfig(max_batch=8, max_queue_delay=Duration(delay_ms * MS)),
        queue=QueueConfig(max_rows=20),
    )

    async def play() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            clock, session = Clock(monkeypatch), FakeSession()
            session.gate = threading.Event()
            session.gate.set()
            release = serve(session, typical_ns, limits)
            asks: list[Ask] = []
            for what, number, deadline in steps:
                if what == "ask" and release.state is State.READY:
                    at = None if deadline is None else clock.now_ns + deadline * MS
                    ask = Ask(number, at)
                    try:
                        offer(release, clock, ask)
                        asks.append(ask)
                    except QueueFullError:
                        pass
                elif what == "forward":
                    await clock.forward(number * MS)
                elif what == "hold" and typical_ns == THREADED_NS:
                    session.gate.clear()
                elif what == "let go":
                    session.gate.set()
                elif what == "retire" and release.state is State.READY:
                    release.move(Event.RETIRE)
                await turns(2)
            if closes_early:
                release.close()
            session.gate.set()
            for _ in range(3):
                await clock.forward(MS)
            await until(lambda: release.in_flight == 0)
            release.close()
            for ask in asks:
                if ask.answer.error is None:
                    ask.check()
                else:
                    assert isinstance(ask.answer.error, DeadlineExceededError | DrainingError)
            await until(lambda: session.closed == 1)

    asyncio.run(asyncio.wait_for(play(), 20))


def test_key_tells_options_apart():
    assert ReleaseKey("m", "d", "a") != ReleaseKey("m", "d", "b")
    assert msgspec.json.encode(config().runtime) == b'["onnxruntime"]'
