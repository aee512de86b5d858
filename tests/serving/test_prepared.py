"""Prepared calls: looked up once, looked up again when what serves changed, refused when it fits no more."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edged.config.schema import QueueConfig
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    DrainingError,
    InvalidRequestError,
    LayoutChangedError,
    ModelNotFoundError,
    ModelNotReadyError,
    QueueFullError,
    RuntimeFailureError,
    TensorMismatchError,
)
from edged.messages import InferRequest, PrepareRequest
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import Event
from edged.serving.prepared import PreparedCall
from edged.serving.router import Route
from edged.tensors import TensorSpec
from tests.fakes.clock import on_loop, turns
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeSession, doubler
from tests.serving.test_dataplane import Answers, door, served

X = np.ones((2, 4), np.float32)
FREE = TensorSpec("x", "float32", ("batch", 4))
FIXED = TensorSpec("x", "float32", (2, 4))


def prepare(plane: Dataplane, *specs: TensorSpec, **fields) -> PreparedCall:
    return plane.prepare(PrepareRequest(**{"model": "gate", "inputs": specs or (FREE,), **fields}))


def call(
    prepared: PreparedCall, x: np.ndarray = X, rows: int = 2, deadline_ns: int | None = None
) -> Answers:
    answers = Answers()
    prepared.submit({"x": x}, rows, deadline_ns, "t", answers)
    return answers


def swap(plane: Dataplane, *releases, generation: int = 7) -> None:
    plane.swap(ServingTable(generation, {"gate": Route("gate", {r.number: r for r in releases})}))


class TestAnswers:
    @on_loop
    async def test_an_answer(self):
        prepared = prepare(door(served(FakeSession())))
        assert prepared.outputs == (TensorSpec("y", "float32", ("batch", 4)),)
        assert (prepared.release, prepared.generation) == (1, 6)
        answers = call(prepared)
        await turns()
        (response,) = answers
        np.testing.assert_array_equal(response.outputs["y"], X * 2)
        assert (response.model, response.release, response.generation) == ("gate", 1, 6)

    @on_loop
    async def test_whether_it_would_be_looked_up_again(self):
        plane = door(served(FakeSession()))
        prepared = prepare(plane)
        assert prepared.is_current
        swap(plane, served(FakeSession()))
        assert not prepared.is_current
        prepared = prepare(plane)
        assert prepared.is_current
        plane.is_draining = True
        assert not prepared.is_current

    @on_loop
    async def test_prepared_and_plain_requests_share_a_batch(self):
        session = FakeSession()
        plane = door(served(session))
        prepared = prepare(plane)
        first, second = call(prepared), call(prepare(plane, FIXED), X * 3, 0)
        third = Answers()
        plane.submit(InferRequest("gate", {"x": X * 5}), third)
        await turns()
        assert session.runs == [6]
        for answers, factor in ((first, 1), (second, 3), (third, 5)):
            np.testing.assert_array_equal(answers[0].outputs["y"], X * factor * 2)

    @on_loop
    async def test_fixed_rows_are_announced(self):
        prepared = prepare(door(served(FakeSession())), FIXED)
        assert prepared.outputs == (TensorSpec("y", "float32", (2, 4)),)

    @on_loop
    async def test_free_axes_that_are_no_rows_are_fixed_by_the_layout(self):
        """Requests of two layouts are not stacked with one another."""
        manifest = doubler(shape=("batch", "length"))
        session = FakeSession()
        plane = door(served(session, manifest=manifest))
        wide, narrow = (prepare(plane, TensorSpec("x", "float32", ("batch", n))) for n in (4, 3))
        assert wide.outputs == (TensorSpec("y", "float32", ("batch", "length")),)
        answers = [call(wide), call(narrow, X[:, :3]), call(wide)]
        await turns(10)
        assert sorted(session.runs) == [2, 4]
        assert [one[0].outputs["y"].shape for one in answers] == [(2, 4), (2, 3), (2, 4)]

    @on_loop
    async def test_wanted_outputs_in_their_order(self):
        manifest = make_manifest(
            [("x", "float32", ("batch", 4))],
            [("y", "float32", ("batch", 4)), ("z", "float32", ("batch",))],
        )
        session = FakeSession(lambda inputs: {"y": inputs["x"] * 2, "z": inputs["x"][:, 0]})
        plane = door(served(session, manifest=manifest))
        prepared = prepare(plane, outputs=("z", "y"))
        assert [spec.name for spec in prepared.outputs] == ["z", "y"]
        answers = call(prepared)
        await turns()
        assert list(answers[0].outputs) == ["z", "y"]
        with pytest.raises(InvalidRequestError, match='has no output "w"; it has: y, z'):
            prepare(plane, outputs=("w",))

    @on_loop
    async def test_refusals_that_come_with_a_request(self):
        plane = door(served(FakeSession(), queue=QueueConfig(max_rows=2)))
        prepared = prepare(plane)
        assert isinstance(call(prepared, deadline_ns=1).error, DeadlineExceededError)
        call(prepared)
        full = call(prepared)
        assert isinstance(full.error, QueueFullError)
        assert (full[0].release, full[0].generation) == (1, 6)
        plane.is_draining = True
        assert isinstance(call(prepared).error, DrainingError)
        assert plane.refused == 3
        await turns()

    @on_loop
    async def test_refused_as_the_one_before_without_a_look(self):
        plane = door(served(FakeSession(), queue=QueueConfig(max_rows=2)))
        prepared, now_ns = prepare(plane), time.monotonic_ns()
        assert prepared.shuts_out(2, None, now_ns, "uds:1") is None
        call(prepared)
        refused = call(prepared)
        error = prepared.shuts_out(2, None, now_ns, "uds:1")
        assert error.message == refused.error.message
        assert prepared.shuts_out(2, now_ns + 10**12, now_ns, "uds:1") is error
        assert (plane.refused, sum(plane.refusals.values())) == (3, 3)
        assert prepared.shuts_out(1, None, now_ns, "uds:1") is None, "fewer may fit"
        assert prepared.shuts_out(2, None, time.monotonic_ns() + 10**9, "uds:1") is None
        plane.is_draining = True
        assert prepared.shuts_out(2, None, now_ns, "uds:1") is None
        plane.is_draining = False
        await turns()
        assert prepared.shuts_out(2, None, now_ns, "uds:1") is None, "there is room"
        assert plane.refused == 3

    @on_loop
    async def test_what_a_cache_may_know_is_not_shut_out(self):
        release = served(FakeSession(), queue=QueueConfig(max_rows=2))
        prepared, now_ns = prepare(door(release)), time.monotonic_ns()
        call(prepared), call(prepared)
        assert prepared.shuts_out(2, None, now_ns, "t") is not None
        release.cache = object()
        assert prepared.shuts_out(2, None, now_ns, "t") is None
        release.cache = None
        await turns()

    @on_loop
    async def test_what_nobody_thought_of_is_answered_too(self):
        release = served(FakeSession())
        prepared = prepare(door(release))
        release.ask = lambda _: 1 / 0
        error = call(prepared).error
        assert isinstance(error, RuntimeFailureError)
        assert "see the daemon's log" in error.message

    @on_loop
    async def test_a_ticket_withdraws_what_waits(self):
        session = FakeSession()
        prepared = prepare(door(served(session)))
        answers, other = Answers(), call(prepared)
        ticket = prepared.submit({"x": X}, 2, None, "t", answers)
        assert ticket.cancel()
        assert isinstance(answers.error, CancelledError)
        assert not ticket.cancel()
        await turns()
        assert session.runs == [2]
        assert other[0].error is None


class TestLayouts:
    @pytest.mark.parametrize(
        ("specs", "message"),
        [
            ((TensorSpec("x", "float32", ("batch", 5)),), r'wants float32\[batch,4\] for "x"'),
            ((TensorSpec("x", "float64", ("batch", 4)),), 'for "x"; got float64'),
            ((TensorSpec("x", "float32", ("batch",)),), 'for "x"'),
            ((TensorSpec("z", "float32", ("batch", 4)),), 'missing input "x"; unknown input "z"'),
            ((FREE, TensorSpec("z", "int8", ())), 'unknown input "z"'),
        ],
        ids=str,
    )
    @on_loop
    async def test_a_layout_that_does_not_fit(self, specs: tuple, message: str):
        plane = door(served(FakeSession()))
        with pytest.raises(TensorMismatchError, match=message):
            plane.prepare(PrepareRequest("gate", specs))

    @on_loop
    async def test_only_rows_are_free(self):
        plane = door(served(FakeSession(), manifest=doubler(shape=("length", 4))))
        with pytest.raises(TensorMismatchError, match="its first axis holds no rows"):
            prepare(plane)
        assert prepare(plane, FIXED)

    @on_loop
    async def test_rows_are_free_for_all_inputs_or_for_none(self):
        manifest = make_manifest(
            [("x", "float32", ("batch", 4)), ("w", "float32", ("batch",)), ("c", "float32", (1,))]
        )
        plane = door(served(FakeSession(), manifest=manifest))
        constant = TensorSpec("c", "float32", (1,))
        with pytest.raises(TensorMismatchError, match="free for one input and fixed for another"):
            prepare(plane, FREE, TensorSpec("w", "float32", (1,)), constant)
        with pytest.raises(TensorMismatchError, match='for "w"'):
            prepare(plane, FIXED, TensorSpec("w", "float32", (3,)), constant)
        assert prepare(plane, FREE, TensorSpec("w", "float32", ("batch",)), constant)

    @on_loop
    async def test_nobody_to_prepare_with(self):
        plane = door(served(None))
        with pytest.raises(ModelNotFoundError, match="no model"):
            prepare(plane, model="other")
        with pytest.raises(ModelNotReadyError, match="release 1 is new"):
            prepare(plane)


class TestSwaps:
    @on_loop
    async def test_the_new_release_answers(self):
        old = served(FakeSession())
        plane = door(old)
        prepared = prepare(plane)
        swap(plane, old, served(FakeSession(lambda i: {"y": i["x"] * 5}), 2))
        answers = call(prepared)
        await turns()
        np.testing.assert_array_equal(answers[0].outputs["y"], X * 5)
        assert (answers[0].release, answers[0].generation) == (2, 7)
        assert (prepared.release, prepared.generation) == (2, 7)

    @on_loop
    async def test_a_swap_counts_though_no_release_changed_its_state(self):
        old, new = served(FakeSession()), served(FakeSession(), 2)
        plane = door(old)
        prepared = prepare(plane)
        swap(plane, new)
        answers = call(prepared)
        await turns()
        assert (answers[0].release, answers[0].generation) == (2, 7)

    @on_loop
    async def test_a_release_that_becomes_ready_later_answers_without_a_swap(self):
        old, new = served(FakeSession()), served(None, 2)
        plane = door(old, new)
        prepared = prepare(plane)
        assert prepared.release == 1
        for event in (Event.LOAD, Event.LOADED, Event.WARMED):
            if event is Event.WARMED:
                new.loaded(FakeSession(), "onnxruntime", 100)
            new.move(event)
        call(prepared)
        assert prepared.release == 2
        await turns()

    @on_loop
    async def test_a_release_that_retires_is_not_asked(self):
        release = served(FakeSession())
        prepared = prepare(door(release))
        release.move(Event.RETIRE)
        assert isinstance(call(prepared).error, ModelNotReadyError)

    @pytest.mark.parametrize(
        "manifest",
        [
            doubler(release=2, shape=("batch", 5)),
            make_manifest(
                [("x", "float32", ("batch", 4))], [("z", "float32", ("batch", 4))], release=2
            ),
            make_manifest(
                [("x", "float32", ("batch", 4))], [("y", "float64", ("batch", 4))], release=2
            ),
            make_manifest(
                [("x", "float32", ("batch", 4))], [("y", "float32", ("batch", 5))], release=2
            ),
        ],
        ids=["inputs", "output name", "output dtype", "output shape"],
    )
    @on_loop
    async def test_refused_when_the_signature_changed_and_not_run(self, manifest):
        old, session = served(FakeSession()), FakeSession()
        plane = door(old)
        prepared = prepare(plane)
        swap(plane, served(session, 2, manifest=manifest))
        for _ in range(2):
            error = call(prepared).error
            assert isinstance(error, LayoutChangedError)
            assert "prepare it again" in error.message
        await turns()
        assert not session.runs
        swap(plane, old, generation=8)
        answers = call(prepared)
        await turns()
        assert answers[0].error is None, "back on the old release it fits again"
        assert answers[0].generation == 8

    @on_loop
    async def test_a_pinned_release_stays(self):
        old = served(FakeSession())
        plane = door(old)
        prepared = prepare(plane, release=1)
        swap(plane, old, served(FakeSession(), 2))
        answers = call(prepared)
        await turns()
        assert answers[0].release == 1


class TestTaps:
    @on_loop
    async def test_a_tap_hears_prepared_calls_and_there_are_no_runs_beside_it(self):
        plane = door(served(FakeSession()))
        prepared, seen = prepare(plane), []
        plane.tap({"gate": lambda _, response: seen.append(response)})
        answers = call(prepared)
        await turns()
        assert seen == list(answers)
        run = prepared.bind({"x": X}, {"y": np.empty((2, 4), np.float32)}, 2)
        assert run is None or run.run("t") is None
