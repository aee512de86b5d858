"""Sequences on a real loop and ONNX Runtime: their order, their states, and who is given up."""

from __future__ import annotations

import numpy as np
import pytest

from edged.config.schema import BatchingConfig, ModelConfig, QueueConfig
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    QueueFullError,
    RunError,
    SequenceNotFoundError,
    TensorMismatchError,
    TooLargeError,
)
from edged.messages import InferRequest, InferResponse
from edged.serving.dataplane import offer
from edged.serving.sequences.open_sequences import OpenSequences
from edged.specs import Duration, Size
from tests.fakes.clock import Clock, on_loop, turns
from tests.fakes.stateful import NOTHING, Ask, load, sequence, serve, soon
from tests.models import remembering

MS = 1_000_000
BAD = np.full((1, 3), np.nan, np.float32)


@on_loop
async def test_a_state_goes_from_one_request_to_the_next():
    sequences = OpenSequences()
    release = serve(sequences, load(remembering()))
    asks = [Ask(1, start=True).to(release), Ask(2).to(release), Ask(4, end=True).to(release)]
    await turns(12)
    assert [ask.kept for ask in asks] == [(0, 0), (1, 1), (3, 2)]
    assert sequences.as_dict() == {
        "open": 0, "state_bytes": 0, "begun": 1, "ended": 1, "evicted": 0, "timed_out": 0, "lost": 0,
    }  # fmt: skip
    assert release.in_flight == 0
    assert [spec.name for spec in release.inputs] == ["x"]
    assert [entry.name for entry in release.manifest.outputs] == ["y"]


@on_loop
async def test_sequences_share_runs_and_never_states():
    sequences, session = OpenSequences(), load(remembering())
    release = serve(sequences, session)
    for step in range(3):
        asks = [Ask(10**who, who, start=step == 0).to(release) for who in range(4)]
        await turns()
        assert [ask.kept for ask in asks] == [(step * 10**who, step) for who in range(4)]
    assert session.runs == [4, 4, 4]
    # What is kept is a copy: a view would keep the whole batch in memory.
    assert all(one.states["h"].base is None for one in sequences._open.values())
    assert sequences.size_bytes == 4 * 2 * 3 * 4


@on_loop
async def test_rows_on_the_first_axis_need_no_moving():
    release = serve(OpenSequences(), load(remembering(axis=0)), model=remembering(axis=0))
    assert release._axes.inputs == ()
    asks = [Ask(1, n, start=True).to(release) for n in "ab"]
    await turns()
    asks += [Ask(1, n).to(release) for n in "ab"]
    await turns()
    assert [ask.kept for ask in asks] == [(0, 0), (0, 0), (1, 1), (1, 1)]


@on_loop
async def test_one_at_a_time_and_in_order_behind_others():
    session = load(remembering())
    release = serve(OpenSequences(), session)
    asks = [Ask(1, start=n == 0).to(release) for n in range(4)]
    asks.append(Ask(1, "b", start=True).to(release))
    assert release.in_flight == 5
    await turns(12)
    assert [ask.kept[0] for ask in asks] == [0, 1, 2, 3, 0]
    assert session.runs == [2, 1, 1, 1]


@on_loop
async def test_an_id_belongs_to_its_peer():
    release = serve(OpenSequences(), load(remembering()))
    mine = Ask(5, start=True).to(release)
    await turns()
    other = Ask(1, origin="uds:2").to(release)
    assert isinstance(other.error, SequenceNotFoundError)
    other = Ask(1, origin="uds:2", start=True).to(release)
    number = Ask(1, 7, start=True).to(release)
    await turns()
    text = Ask(1, "7").to(release)
    assert isinstance(text.error, SequenceNotFoundError), "7 and '7' are two ids"
    mine = Ask(5).to(release)
    await turns()
    assert (mine.kept, other.kept, number.kept) == ((5, 1), (0, 0), (0, 0))


@on_loop
async def test_what_has_no_id_or_no_state():
    release = serve(OpenSequences(), load(remembering()))
    answers: list[InferResponse] = []
    plain = InferRequest("gate", {"x": np.zeros((1, 3), np.float32)})
    with pytest.raises(InvalidRequestError, match="needs the id of its sequence"):
        offer(release, 5, plain, lambda response, _: answers.append(response))
    hidden = Ask(1, start=True, outputs=("hN",)).to(release)
    assert "has no output" in str(hidden.error)
    named = Ask(1, start=True, outputs=("y",)).to(release)
    await turns()
    assert named.kept == (0, 0)
    again = Ask(1, outputs=("y",)).to(release)
    await turns()
    assert again.kept == (1, 1)


@on_loop
async def test_an_end_without_inputs():
    sequences = OpenSequences()
    release = serve(sequences, load(remembering()))
    unknown = Ask(NOTHING, end=True).to(release)
    assert isinstance(unknown.error, SequenceNotFoundError)
    Ask(1, start=True).to(release)
    end = Ask(NOTHING, end=True).to(release)
    late = Ask(1).to(release)
    await turns()
    assert end.error is None
    assert end.answers[0].outputs == {}
    assert isinstance(late.error, SequenceNotFoundError)
    assert (len(sequences), release.in_flight) == (0, 0)
    empty = Ask(NOTHING, start=True).to(release)
    assert isinstance(empty.error, TensorMismatchError)


@on_loop
async def test_after_its_end_an_id_begins_anew():
    release = serve(OpenSequences(), load(remembering()))
    asks = [
        Ask(1, start=True).to(release),
        Ask(1, end=True).to(release),
        Ask(1, start=True).to(release),
        Ask(1, start=True).to(release),
        Ask(1).to(release),
    ]
    await turns(16)
    assert [ask.kept[0] for ask in asks] == [0, 1, 0, 0, 1]


class TestWhatLeavesAStateAsItWas:
    @on_loop
    async def test_a_failure(self):
        release = serve(OpenSequences(), load(remembering()))
        asks = [Ask(1, start=True).to(release), Ask(BAD).to(release), Ask(2).to(release)]
        await turns(12)
        assert isinstance(asks[1].error, RunError)
        assert asks[2].kept == (1, 1)

    @on_loop
    async def test_a_failure_of_another_in_the_same_run(self):
        session = load(remembering())
        release = serve(OpenSequences(), session)
        for name in "ab":
            Ask(1, name, start=True).to(release)
        await turns()
        good, bad = Ask(2, "a").to(release), Ask(BAD, "b").to(release)
        await turns()
        assert good.kept == (1, 1)
        assert isinstance(bad.error, RunError)
        assert session.runs == [2, 2, 1, 1]
        again = [Ask(1, name).to(release) for name in "ab"]
        await turns()
        assert [ask.kept for ask in again] == [(3, 2), (1, 1)]

    @on_loop
    async def test_a_next_state_of_another_shape(self):
        session = load(remembering())
        release = serve(OpenSequences(), session)
        Ask(1, start=True).to(release)
        await turns()
        run = session.run

        def cut(inputs):
            return {
                name: array[:, :, :2] if name == "hN" else array
                for name, array in run(inputs).items()
            }

        session.run = cut
        bad = Ask(1).to(release)
        await turns()
        assert isinstance(bad.error, RunError)
        assert "its next state is" in bad.error.message
        session.run = run
        assert bad.answers[0].outputs == {}
        good = Ask(1).to(release)
        await turns()
        assert good.kept == (1, 1)

    @on_loop
    async def test_a_withdrawal(self):
        release = serve(OpenSequences(), load(remembering()))
        Ask(1, start=True).to(release)
        await turns()
        queued, lined = Ask(10).to(release), Ask(20).to(release)
        assert lined.ticket.cancel()
        assert queued.ticket.cancel()
        assert not lined.ticket.cancel()
        assert isinstance(queued.error, CancelledError)
        assert isinstance(lined.error, CancelledError)
        assert release.in_flight == 0
        good = Ask(1).to(release)
        await turns()
        assert good.kept == (1, 1)

    @on_loop
    async def test_time(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        settings = ModelConfig(
            bundle="b",
            sequence=sequence(),
            batching=BatchingConfig(max_queue_delay=Duration(10 * MS)),
        )
        release = serve(OpenSequences(), load(remembering()), settings=settings)
        first = Ask(1, start=True).to(release)
        lined = Ask(5, deadline_ns=soon(MS)).to(release)
        last = Ask(7).to(release)
        await clock.forward(2 * MS)
        assert isinstance(lined.error, DeadlineExceededError)
        assert not first.answers
        await clock.forward(9 * MS)
        await clock.forward(11 * MS)
        assert (first.kept, last.kept) == ((0, 0), (1, 1))
        # Nor one whose time is over in the queue.
        late = Ask(9, deadline_ns=soon(MS)).to(release)
        clock.now_ns += 2 * MS
        await turns()
        assert isinstance(late.error, DeadlineExceededError)
        good = Ask(1).to(release)
        await clock.forward(11 * MS)
        assert good.kept == (8, 2)


class TestAStartThatFails:
    """What was kept before is not for those who thought it was gone."""

    @on_loop
    async def test_in_its_run(self):
        sequences = OpenSequences()
        release = serve(sequences, load(remembering()))
        Ask(1, start=True).to(release)
        await turns()
        bad, next_one = Ask(BAD, start=True).to(release), Ask(1).to(release)
        await turns(12)
        assert isinstance(bad.error, RunError)
        assert isinstance(next_one.error, SequenceNotFoundError)
        assert len(sequences) == 0

    @on_loop
    async def test_withdrawn(self):
        release = serve(OpenSequences(), load(remembering()))
        first = Ask(1, start=True).to(release)
        start, next_one = Ask(1, start=True).to(release), Ask(1).to(release)
        assert start.ticket.cancel()
        await turns(12)
        assert first.kept == (0, 0)
        assert isinstance(next_one.error, SequenceNotFoundError)

    @on_loop
    async def test_no_room_in_the_queue(self):
        queue = QueueConfig(max_rows=32)
        settings = ModelConfig(bundle="b", sequence=sequence(), queue=queue)
        sequences = OpenSequences()
        release = serve(sequences, load(remembering()), settings=settings)
        first = Ask(np.ones((32, 3), np.float32), start=True).to(release)
        full = Ask(1, "b", start=True).to(release)
        assert isinstance(full.error, QueueFullError)
        assert len(sequences) == 1
        await turns()
        assert first.answers[0].error is None


class TestBounds:
    @on_loop
    async def test_a_long_line(self):
        settings = ModelConfig(bundle="b", sequence=sequence(), queue=QueueConfig(max_rows=40))
        release = serve(OpenSequences(), load(remembering()), settings=settings)
        asks = [Ask(1, start=n == 0).to(release) for n in range(45)]
        full = [ask for ask in asks if ask.answers]
        assert len(full) == 5
        assert all(isinstance(ask.error, QueueFullError) for ask in full)
        await turns(200)
        assert asks[39].kept == (39, 39)
        assert (release._lined_rows, release._lined_bytes, release._lined) == (0, 0, {})

    @on_loop
    async def test_a_long_line_that_fails_is_not_deep(self):
        queue = QueueConfig(max_rows=5000)
        settings = ModelConfig(bundle="b", sequence=sequence(), queue=queue)
        release = serve(OpenSequences(), load(remembering()), settings=settings)
        asks = [Ask(1, start=n == 0, end=n == 0).to(release) for n in range(3000)]
        await turns()
        assert asks[0].kept == (0, 0)
        assert all(isinstance(ask.error, SequenceNotFoundError) for ask in asks[1:])
        assert release.in_flight == 0

    @on_loop
    async def test_no_more_sequences(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        timeout = Duration(10 * MS)
        sequences = OpenSequences()
        release = serve(sequences, load(remembering()), max_sequences=2, idle_timeout=timeout)
        for name in "ab":
            Ask(1, name, start=True).to(release)
            await turns()
            await clock.forward(MS)
        full = Ask(1, "c", start=True).to(release)
        assert isinstance(full.error, QueueFullError)
        assert full.error.retry_after_ns == 8 * MS
        assert "max_sequences" in full.error.message
        again = Ask(1, "a", start=True).to(release)
        await turns()
        assert again.kept == (0, 0), "one that is open may begin anew"

    @on_loop
    async def test_the_one_that_was_idle_longest_goes(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        sequences = OpenSequences()
        release = serve(sequences, load(remembering()), max_sequences=2, when_full="evict_oldest")
        for name in "ab":
            Ask(1, name, start=True).to(release)
            await turns()
            await clock.forward(MS)
        Ask(1, "a").to(release)
        await turns()
        await clock.forward(MS)
        new = Ask(1, "c", start=True).to(release)
        await turns()
        assert new.kept == (0, 0)
        gone, kept = Ask(1, "b").to(release), Ask(1, "a").to(release)
        await turns()
        assert isinstance(gone.error, SequenceNotFoundError)
        assert kept.kept == (2, 2)
        assert (sequences.evicted, len(sequences)) == (1, 2)

    @on_loop
    async def test_one_at_work_is_never_given_up(self):
        release = serve(
            OpenSequences(), load(remembering()), max_sequences=1, when_full="evict_oldest"
        )
        busy, full = Ask(1, start=True).to(release), Ask(1, "b", start=True).to(release)
        assert isinstance(full.error, QueueFullError)
        await turns()
        assert busy.kept == (0, 0)

    @on_loop
    async def test_bytes(self):
        sequences = OpenSequences()
        release = serve(sequences, load(remembering()), max_state=Size(3 * 24))
        rows = np.ones((2, 3), np.float32)
        Ask(rows, "a", start=True).to(release)
        await turns()
        large = Ask(np.ones((4, 3), np.float32), "b", start=True).to(release)
        assert isinstance(large.error, TooLargeError)
        full = Ask(rows, "b", start=True).to(release)
        assert isinstance(full.error, QueueFullError)
        other = Ask(rows[:1]).to(release)
        assert isinstance(other.error, TensorMismatchError)
        assert "has 2 rows" in other.error.message
        smaller = Ask(rows[:1], start=True).to(release)
        fits = Ask(rows, "b", start=True).to(release)
        await turns()
        assert smaller.error is fits.error is None
        assert sequences.size_bytes == 3 * 24

    @on_loop
    async def test_idle_time(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        sequences = OpenSequences()
        release = serve(sequences, load(remembering()), idle_timeout=Duration(10 * MS))
        Ask(1, "a", start=True).to(release)
        Ask(1, "b", start=True).to(release)
        await turns()
        await clock.forward(6 * MS)
        Ask(1, "b").to(release)
        await turns()
        await clock.forward(5 * MS)
        assert (len(sequences), sequences.timed_out) == (1, 1)
        gone = Ask(1, "a").to(release)
        assert isinstance(gone.error, SequenceNotFoundError)
        await clock.forward(5 * MS)
        assert (len(sequences), sequences.timed_out, sequences.size_bytes) == (0, 2, 0)


@on_loop
async def test_whoever_is_told_may_ask_again():
    release = serve(OpenSequences(), load(remembering()))
    inner = Ask(2)
    first = Ask(1, start=True, then=lambda: inner.to(release))
    lined = Ask(4)
    first.to(release)
    lined.to(release)
    await turns(12)
    assert (first.kept, lined.kept, inner.kept) == ((0, 0), (1, 1), (5, 2))


@on_loop
async def test_a_callback_that_raises_does_not_stop_its_sequence():
    def fail() -> None:
        raise ValueError

    release = serve(OpenSequences(), load(remembering()))
    Ask(1, start=True, then=fail).to(release)
    lined = Ask(1).to(release)
    await turns(12)
    assert lined.kept == (1, 1)
    assert release.in_flight == 0
