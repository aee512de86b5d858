"""The one door: whatever comes in, exactly one final answer goes out."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edged.config.schema import BatchingConfig, ModelConfig, QueueConfig
from edged.errors import (
    DeadlineExceededError,
    DrainingError,
    EdgedError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelNotReadyError,
    QueueFullError,
    RuntimeFailureError,
    TensorMismatchError,
    VersionNotFoundError,
)
from edged.messages import InferRequest, InferResponse
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeSession, doubler

X = np.ones((2, 4), np.float32)


def served(
    session: FakeSession | None, number: int = 1, typical_ns: int = 100, manifest=None, **sections
) -> ServedRelease:
    manifest = manifest or doubler(release=number)
    release = ServedRelease(
        ReleaseKey("gate", f"d{number}", ""),
        manifest,
        ModelConfig(bundle="b", **sections),
        200_000,
    )
    if session is not None:
        for event in (Event.LOAD, Event.LOADED, Event.WARMED):
            if event is Event.WARMED:
                release.loaded(session, "onnxruntime", typical_ns)
            release.move(event)
    return release


def door(*releases: ServedRelease, generation: int = 6, **fields) -> Dataplane:
    made = Dataplane()
    route = Route("gate", {r.number: r for r in releases}, **fields)
    made.swap(ServingTable(generation, {"gate": route, "a": Route("a", {})}))
    return made


class Answers(list[InferResponse]):
    def __call__(self, response: InferResponse, final: bool) -> None:
        assert final
        self.append(response)

    @property
    def error(self) -> EdgedError:
        (response,) = self
        assert not response.outputs
        return response.error


def ask(plane: Dataplane, **fields) -> Answers:
    answers = Answers()
    plane.submit(InferRequest(**{"model": "gate", "inputs": {"x": X}, **fields}), answers)
    return answers


@on_loop
async def test_an_answer():
    plane = door(served(FakeSession()))
    answers = ask(plane)
    assert not answers
    await turns()
    (response,) = answers
    assert (response.model, response.release, response.generation) == ("gate", 1, 6)
    np.testing.assert_array_equal(response.outputs["y"], X * 2)
    assert plane.refused == 0


REFUSED = {
    "unknown model": (
        {"model": "door"},
        ModelNotFoundError,
        'no model "door" is configured; the models are: "a", "gate"',
    ),
    "long name is cut": ({"model": "m" * 500}, ModelNotFoundError, f'no model "{"m" * 64}" is'),
    "not ready": ({"model": "a"}, ModelNotReadyError, 'model "a" is not ready'),
    "unknown release": ({"release": 4}, VersionNotFoundError, "no release 4 here; it has: 1"),
    "unknown alias": ({"release": "best"}, VersionNotFoundError, 'no alias "best"'),
    "missing input": ({"inputs": {}}, TensorMismatchError, 'missing input "x"'),
    "unknown input": (
        {"inputs": {"x": X, "z": X}},
        TensorMismatchError,
        'unknown input "z"; it takes "x" float32[batch,4]',
    ),
    "dtype": (
        {"inputs": {"x": X.astype(np.float64)}},
        TensorMismatchError,
        'wants float32[batch,4] for "x"; got float64[2,4]',
    ),
    "shape": ({"inputs": {"x": X[:, :3]}}, TensorMismatchError, "got float32[2,3]"),
    "zero rows": (
        {"inputs": {"x": X[:0]}},
        TensorMismatchError,
        "got float32[0,4] (an empty axis holds no rows)",
    ),
    "unknown output": ({"outputs": ("z",)}, InvalidRequestError, 'no output "z"; it has: y'),
    "late on arrival": (
        {"deadline_ns": 1},
        DeadlineExceededError,
        "the deadline had passed on arrival",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@on_loop
@pytest.mark.hostile("A8 rank 255, a negative axis, an axis of zero rows")
async def test_refused_at_once(name: str):
    fields, kind, message = REFUSED[name]
    plane = door(served(FakeSession()))
    answers = ask(plane, **fields)
    assert type(answers.error) is kind
    assert message in answers.error.message
    assert answers[0].generation == 6
    assert plane.refused == 1
    await turns()
    assert len(answers) == 1


@on_loop
async def test_draining_takes_nothing_new_and_finishes_what_it_has():
    plane = door(served(FakeSession()))
    first = ask(plane)
    plane.is_draining = True
    assert isinstance(ask(plane).error, DrainingError)
    await turns()
    assert first[0].error is None


@on_loop
async def test_places_of_a_release_that_is_measured():
    release = served(FakeSession(), batching=BatchingConfig(max_batch=1, instances=1))
    assert door(release).places("gate") == 0, "nothing was measured"
    release.loaded(FakeSession(), "onnxruntime", 10**8, ((1, 10**8),))
    assert door(release).places("gate") == door(release).places("gate", 1) == 10
    assert [door(release).places(*one) for one in (("gate", 2), ("a",), ("none",))] == [0] * 3
    now_ns = 10**12
    for runs, expected in ((1, 9), (99, 5)):  # slower, and then four times as slow
        for _ in range(runs):
            release.forecast.learn(
                4 * 10**8 if runs > 1 else 2 * 10**8, 1, now_ns, 0, is_queued=True
            )
        assert door(release).places("gate") == expected, "a busy moment is no word for ever"


@on_loop
async def test_nothing_configured():
    plane = Dataplane()
    assert "the models are: none" in ask(plane).error.message


@on_loop
async def test_queue_full_says_when_to_come_back():
    plane = door(served(FakeSession(), queue=QueueConfig(max_rows=4)))
    good = [ask(plane), ask(plane)]
    full = ask(plane).error
    assert isinstance(full, QueueFullError)
    assert full.retry_after_ns > 0
    await turns()
    assert all(answers[0].error is None for answers in good)


@on_loop
async def test_what_nobody_foresaw_is_an_answer_too(caplog: pytest.LogCaptureFixture):
    plane = door(served(FakeSession()))
    answers = ask(plane, inputs={"x": "not an array"})
    assert isinstance(answers.error, RuntimeFailureError)
    assert "see the daemon's log" in answers.error.message
    assert "AttributeError" in caplog.text


@on_loop
async def test_callback_that_raises_on_refusal_is_contained(caplog: pytest.LogCaptureFixture):
    def bad(response: InferResponse, final: bool) -> None:
        raise ValueError("a broken transport")

    door().submit(InferRequest("none", {}), bad)
    assert "a broken transport" in caplog.text


@on_loop
async def test_layouts_of_free_axes_never_share_a_run():
    manifest = make_manifest(
        [("x", "float32", ("batch", "time"))], [("y", "float32", ("batch", "time"))]
    )
    session = FakeSession()
    plane = door(served(session, manifest=manifest))
    asked = [(ask(plane, inputs={"x": np.ones((1, n), np.float32)}), n) for n in (3, 5, 3, 5, 7)]
    await turns(10)
    assert session.runs == [2, 2, 1]
    for answers, n in asked:
        assert answers[0].outputs["y"].shape == (1, n)


@on_loop
async def test_swap_while_requests_wait():
    """Requests finish on the release and the generation they were accepted under."""
    session = FakeSession()
    session.gate = threading.Event()
    old, new = served(session, 1, 10**9), served(FakeSession(), 2)
    plane = door(old)
    before = [ask(plane), ask(plane)]
    plane.swap(ServingTable(7, {"gate": Route("gate", {2: new})}))
    after = ask(plane)
    await turns()
    assert (after[0].release, after[0].generation) == (2, 7)
    assert not before[0]
    assert old.in_flight == 2
    old.move(Event.RETIRE)
    assert old.in_flight == 2
    session.gate.set()
    await until(lambda: before[0] and before[1])
    assert {(a[0].release, a[0].generation, a[0].error) for a in before} == {(1, 6, None)}
    assert old.in_flight == 0
    old.close()


@on_loop
async def test_deadline_while_waiting(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    session = FakeSession()
    session.gate = threading.Event()
    plane = door(served(session, 1, 10**9))
    first = ask(plane)
    await until(lambda: session.runs)
    late = ask(plane, deadline_ns=clock.now_ns + 1_000_000)
    await clock.forward(2_000_000)
    assert isinstance(late.error, DeadlineExceededError)
    session.gate.set()
    await until(lambda: first)


@on_loop
async def test_manifest():
    plane = door(served(FakeSession()), served(None, 2), aliases={"champion": 1})
    assert plane.manifest("gate").release == 1
    assert plane.manifest("gate", "champion").release == 1
    assert plane.manifest("gate", 2) is None
    assert plane.manifest("door") is None
    assert plane.manifest("a") is None


@on_loop
async def test_a_tap_hears_answers_after_whoever_asked(caplog: pytest.LogCaptureFixture):
    plane = door(served(FakeSession()))
    seen: list[str] = []

    def tap(request: InferRequest, response: InferResponse) -> None:
        seen.append(f"tap: {request.origin} {sorted(response.outputs)}")
        raise RuntimeError("a tap that fails")

    def answered(response: InferResponse, final: bool) -> None:
        seen.append("answered")

    before = plane.table
    plane.tap({"gate": tap})
    assert plane.table is not before, "what was looked up for many requests is looked up anew"
    plane.submit(InferRequest("gate", {"x": X}, origin="uds"), answered)
    await turns()
    assert seen == ["answered", "tap: uds ['y']"]
    assert "could not be passed on" in caplog.text
    plane.tap({})
    table = plane.table
    plane.submit(InferRequest("gate", {"x": X}, origin="uds"), answered)
    await turns()
    assert seen[2:] == ["answered"]
    plane.tap({})
    assert plane.table is table
