"""A pipeline as a route sees it: ready when its models are, holds them, has bounds."""

from __future__ import annotations

import dataclasses
import gc
import threading

import msgspec
import numpy as np

from edged.errors import ModelNotReadyError, QueueFullError
from edged.messages import InferRequest
from edged.serving.lifecycle import Event, ReleaseKey, State
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.manifests import make_manifest
from tests.fakes.pipelines import Site, model
from tests.pipelines.test_run import CHAIN, X, ask, idle


@on_loop
async def test_ready_when_its_models_are():
    site = Site(CHAIN, one=model(), two=model())
    assert site.pipeline.state is State.READY
    site.releases["two"].move(Event.DIE, "its worker died")
    assert site.pipeline.state is State.FAILED
    assert 'model "two" is not ready: release 1 is failed: its worker died' in site.pipeline.reason
    answers, _ = ask(site)
    assert isinstance(answers.only.error, ModelNotReadyError)
    site.releases["two"].move(Event.LOAD)
    assert site.pipeline.state is State.LOADING
    for event in (Event.LOADED, Event.WARMED):
        site.releases["two"].move(event)
    answers, _ = ask(site)
    await turns()
    assert answers.only.error is None


@on_loop
async def test_its_slowest_model_says_how_many_requests_it_can_have():
    site = Site(CHAIN, one=model(), two=model())
    assert site.pipeline.places == 0, "nothing was measured"
    for name, run_ns in (("one", 10**8), ("two", 10**6)):
        costs = ((1, run_ns),)
        site.releases[name].loaded(site.sessions[name], "onnxruntime", run_ns, costs)
    one, two = site.releases.values()
    batches = 2 * (one.batch_rows * one.instances + two.batch_rows * two.instances)
    assert site.pipeline.places == one.places + batches < two.places


@on_loop
async def test_its_models_stay_until_it_has_answered():
    """A release that was replaced is not unloaded under a request that will still need it."""
    site = Site(CHAIN, one=model(ns=10**9), two=model())
    gate = site.sessions["one"].gate = threading.Event()
    gone = []
    two = site.releases["two"]
    two.on_idle = gone.append
    answers, _ = ask(site)
    await until(lambda: site.sessions["one"].runs)
    two.move(Event.RETIRE)
    assert two.in_flight == 1
    gate.set()
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["y"], X * 5)
    assert set(gone) == {two}
    idle(site)


@on_loop
async def test_more_rows_than_it_may_have_are_refused():
    site = Site(f"    max_rows: 5\n{CHAIN}", one=model(), two=model())
    first = [ask(site)[0] for _ in range(2)]
    refused, _ = ask(site)
    error = refused.only.error
    assert isinstance(error, QueueFullError)
    assert error.retry_after_ns
    await until(lambda: all(first))
    assert "the limits are 5 (max_rows)" in error.message
    alone, _ = ask(site, {"x": np.ones((9, 4), np.float32)})
    await turns()
    assert alone.only.error is None
    idle(site)


@on_loop
async def test_another_release_that_fits_is_planned_anew_and_one_that_does_not_stops_it():
    site = Site(CHAIN, one=model(), two=model())
    routes = dict(site.plane.table.routes)

    def second(number: int, width: int) -> ServedRelease:
        session, _, _ = model()
        manifest = make_manifest(
            [("x", "float32", ("batch", width))], [("y", "float32", ("batch", width))],
            release=number,
        )  # fmt: skip
        made = ServedRelease(
            ReleaseKey("two", "e", ""), manifest, site.releases["two"].config, 200_000
        )
        for event in (Event.LOAD, Event.LOADED):
            made.move(event)
        made.loaded(session, "onnxruntime", 100)
        made.move(Event.WARMED)
        return made

    releases = {1: site.releases["two"], 2: second(2, 4)}
    site.pipeline._routes = routes | {"two": Route("two", releases)}
    site.releases["two"].move(Event.RETIRE)
    answers, _ = ask(site)
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["y"], X * 5)
    assert releases[2].counters.requests == 1
    releases[3] = second(3, 5)
    assert site.pipeline.state is State.FAILED
    assert 'is float32[batch,4]; model "two" wants float32[batch,5]' in site.pipeline.reason


@on_loop
async def test_counts_go_on_under_another_generation():
    site = Site(CHAIN, one=model(), two=model())
    ask(site)
    await turns()
    again = type(site.pipeline)(site.plan, site.plane.table.routes, site.workshop, site.replan)
    assert again.counters.requests == 1
    other = dataclasses.replace(
        site.plan, config=msgspec.structs.replace(site.plan.config, max_rows=7)
    )
    changed = type(again)(other, site.plane.table.routes, site.workshop, site.replan)
    assert changed.counters.requests == 0
    del changed
    gc.collect()
    assert len(site.workshop.tallies) == 1
    assert again.tally.steps["a"].done == 1


@on_loop
async def test_prepared_calls():
    from edged.messages import PrepareRequest
    from edged.tensors import TensorSpec
    from tests.pipelines.test_run import Answers

    site = Site(CHAIN, one=model(), two=model())
    call = site.plane.prepare(PrepareRequest("p", (TensorSpec("x", "float32", ("batch", 4)),)))
    assert [str(spec) for spec in call.outputs] == ["float32[batch,4]"]
    lone = call.bind({"x": X}, {"y": X.copy()}, 2)
    assert lone is not None
    assert lone.is_current
    assert lone.run("uds") is None  # the usual way
    answers = Answers()
    call.submit({"x": X}, 2, None, "uds", answers)
    await turns()
    np.testing.assert_array_equal(answers.only.outputs["y"], X * 5)


@on_loop
async def test_a_callback_that_raises_harms_nobody():
    site = Site(CHAIN, one=model(), two=model())

    def bad(_response, _final):
        raise ValueError("mine")

    site.plane.submit(InferRequest("p", {"x": X}), bad)
    await turns()
    idle(site)


@on_loop
async def test_more_bytes_than_it_may_have_are_refused():
    site = Site(f"    max_size: 40B\n{CHAIN}", one=model(), two=model())
    first, _ = ask(site)
    refused, _ = ask(site)
    assert isinstance(refused.only.error, QueueFullError)
    assert "40 (max_size)" in refused.only.error.message
    await until(lambda: first)
    assert first.only.error is None
    idle(site)


@on_loop
async def test_a_model_that_slept_when_it_was_replaced():
    """Nobody loads it again; who still needs it is told at once, not never."""
    site = Site(CHAIN, one=model(ns=10**9), two=model(ns=10**9))
    gate = site.sessions["one"].gate = threading.Event()
    answers, _ = ask(site)
    await until(lambda: site.sessions["one"].runs)
    two = site.releases["two"]
    two.lay_down()
    two.move(Event.EVICT)
    assert site.pipeline.state is State.READY  # it would be loaded again
    two.move(Event.RETIRE)
    gate.set()
    await until(lambda: answers)
    assert isinstance(answers.only.error, ModelNotReadyError)
    assert 'step "b": model "two" release 1 was replaced meanwhile' in answers.only.error.message
    idle(site)


@on_loop
async def test_a_model_that_died_between_two_steps():
    site = Site(CHAIN, one=model(ns=10**9), two=model())
    gate = site.sessions["one"].gate = threading.Event()
    answers, _ = ask(site)
    await until(lambda: site.sessions["one"].runs)
    two = site.releases["two"]
    session, two.session = two.session, None
    two.move(Event.DIE, "its worker died")
    gate.set()
    await until(lambda: answers)
    assert isinstance(answers.only.error, ModelNotReadyError)
    assert (
        'step "b": model "two" release 1 is failed: its worker died' in answers.only.error.message
    )
    idle(site)
    two.session = session
    for event in (Event.LOAD, Event.LOADED, Event.WARMED):
        two.move(event)
    again, _ = ask(site)
    await until(lambda: again)
    assert again.only.error is None
