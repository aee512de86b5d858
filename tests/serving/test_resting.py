"""A release without a session takes requests and keeps them; nothing that waits is lost."""

from __future__ import annotations

import logging

import numpy as np

from edged.config.memory import ModelMemoryConfig
from edged.config.schema import ModelConfig, QueueConfig
from edged.errors import LoadError, ModelNotReadyError, QueueFullError
from edged.messages import InferRequest
from edged.serving.lifecycle import Event, ReleaseKey, State
from edged.serving.release import ServedRelease
from tests.fakes.clock import on_loop, turns
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeSession, doubler
from tests.serving.test_dataplane import Answers, door

X = np.ones((1, 4), np.float32)


def release(number: int = 1, config: ModelConfig | None = None, manifest=None) -> ServedRelease:
    made = manifest or doubler("gate", number)
    return ServedRelease(
        ReleaseKey("gate", f"d{number}", ""), made, config or ModelConfig(bundle="b"), 1 << 40
    )


def asleep(number: int = 1, **fields) -> ServedRelease:
    made = release(number, **fields)
    made.move(Event.LOAD)
    made.move(Event.PUT_OFF)
    return made


def awake(made: ServedRelease, session: FakeSession | None = None) -> ServedRelease:
    made.move(Event.LOAD)
    made.move(Event.LOADED)
    made.loaded(session or FakeSession(), "onnxruntime", 1000)
    made.move(Event.WARMED)
    return made


def ask(made: ServedRelease) -> Answers:
    answers = Answers()
    door(made).submit(InferRequest("gate", {"x": X}), answers)
    return answers


@on_loop
async def test_requests_are_taken_while_it_sleeps_and_while_it_comes_back():
    made = release()
    assert not made.answers
    made.move(Event.LOAD)
    assert not made.answers, "a first load proves it first"
    made.move(Event.PUT_OFF)
    assert made.answers
    made.move(Event.LOAD)
    made.move(Event.LOADED)
    assert made.answers
    made.move(Event.FAIL)
    assert not made.answers
    awake(made)
    assert made.answers
    made.move(Event.EVICT)
    made.move(Event.RETIRE)
    assert not made.answers


@on_loop
async def test_what_waits_runs_as_soon_as_there_is_a_session():
    made = asleep()
    called: list[ReleaseKey] = []
    made.on_call = called.append
    first, second = ask(made), ask(made)
    await turns()
    assert (first, made.in_flight, bool(made.backlog.items)) == ([], 2, True)
    assert called == [made.key], "once is enough"
    awake(made)
    await turns()
    assert [one.error for one in (*first, *second)] == [None, None]
    assert not made.is_called


@on_loop
async def test_laying_down_keeps_what_waits():
    session = FakeSession()
    made = awake(release(), session)
    made.hold()
    answers = ask(made)
    await turns()
    assert answers == []
    assert made.lay_down() is session
    made.move(Event.EVICT)
    assert session.closed == 0, "closing is the loader's work"
    made.go_on()
    await turns()
    assert answers == [], "there is nothing to run it on"
    awake(made)
    await turns()
    assert answers[0].error is None


@on_loop
async def test_held_for_a_moment_and_let_go_on():
    made = awake(release())
    made.hold()
    answers = ask(made)
    await turns()
    assert answers == []
    made.go_on()
    await turns()
    assert answers[0].error is None


@on_loop
async def test_the_queue_of_a_sleeper_has_its_bounds():
    config = ModelConfig(bundle="b", queue=QueueConfig(max_rows=2))
    made = asleep(config=config)
    kept = [ask(made) for _ in range(2)]
    refused = ask(made)
    assert isinstance(refused[0].error, QueueFullError)
    assert not any(one for one in kept)


@on_loop
async def test_another_release_answers_what_waits():
    old, new = asleep(1), awake(release(2))
    answers = ask(old)
    old.pass_on(new)
    await turns()
    assert (answers[0].release, answers[0].error) == (2, None)
    assert (old.in_flight, new.in_flight) == (0, 0)


@on_loop
async def test_one_of_another_signature_does_not():
    shape = ("batch", 4)
    other = make_manifest([("x", "float32", shape)], [("z", "float32", shape)], release=2)
    old, new = asleep(1), awake(release(2, manifest=other))
    answers = ask(old)
    old.pass_on(new)
    error = answers[0].error
    assert isinstance(error, ModelNotReadyError)
    assert "release 2, which has another signature" in error.message


@on_loop
async def test_nobody_takes_over_from_itself_or_for_one_that_does_not_answer():
    old = asleep(1)
    answers = ask(old)
    old.pass_on(old)
    old.pass_on(release(2))
    assert bool(old.backlog.items)
    old.fail_waiting(LoadError("over"))
    assert answers[0].error.message == "over"
    assert (old.in_flight, bool(old.backlog.items)) == (0, False)


@on_loop
async def test_what_the_other_has_no_room_for_is_refused():
    config = ModelConfig(bundle="b", queue=QueueConfig(max_rows=1))
    old, new = asleep(1), asleep(2, config=config)
    first, second = ask(old), ask(old)
    old.pass_on(new)
    assert isinstance(second[0].error, QueueFullError)
    assert (old.in_flight, new.in_flight) == (0, 1)
    awake(new)
    await turns()
    assert first[0].error is None


@on_loop
async def test_everyday_moves_are_quiet(caplog):
    caplog.set_level(logging.INFO, "edged.serving")
    made = awake(release())
    loud = len(caplog.records)
    assert loud
    made.move(Event.EVICT)
    awake(made)
    assert len(caplog.records) == loud
    made.move(Event.DIE, "gone")
    assert len(caplog.records) == loud + 1


@on_loop
async def test_who_is_wanted_back():
    made = asleep()
    assert not made.snapshot(is_desired=True).is_called
    made.configure(ModelConfig(bundle="b", memory=ModelMemoryConfig(pinned=True)))
    assert made.snapshot(is_desired=True).is_called
    made.configure(ModelConfig(bundle="b"))
    made.call()
    assert made.snapshot(is_desired=True).is_called
    made.is_leaving = True
    assert not made.snapshot(is_desired=True).is_called
    assert made.state is State.ASLEEP
