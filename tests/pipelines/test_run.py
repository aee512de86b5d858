"""Requests on their way: answered exactly once, with the right numbers, whatever happens."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    RunError,
)
from edged.messages import InferRequest, InferResponse
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.pipelines import Site, model

X = np.arange(8, dtype=np.float32).reshape(2, 4)

CHAIN = """\
    inputs: {x: "float32[batch,4]"}
    steps:
    - {name: a, model: one, inputs: x}
    - {name: b, model: two, inputs: a}
    - {name: c, compute: b.y + x}
    outputs: {y: c}
"""


class Answers(list[InferResponse]):
    def __call__(self, response: InferResponse, final: bool) -> None:
        assert final
        self.append(response)

    @property
    def only(self) -> InferResponse:
        (response,) = self
        return response


def ask(site: Site, inputs=None, **fields) -> tuple[Answers, object]:
    answers = Answers()
    request = InferRequest("p", inputs or {"x": X}, **fields)
    return answers, site.plane.submit(request, answers)


def idle(site: Site) -> None:
    """Nothing is left of any request."""
    assert site.pipeline.in_flight == 0
    assert not site.pipeline.backlog.rows
    assert not site.pipeline._rows
    assert not site.pipeline._bytes
    assert not site.pipeline._runs
    assert {name: one.in_flight for name, one in site.releases.items()} == dict.fromkeys(
        site.releases, 0
    )


@on_loop
async def test_a_lone_chain_runs_in_one_turn():
    site = Site(CHAIN, one=model(), two=model())
    answers, _ = ask(site)
    assert not answers
    await turns(2)
    response = answers.only
    np.testing.assert_array_equal(response.outputs["y"], X * 4 + X)
    assert (response.model, response.release, response.generation) == ("p", 1, 3)
    assert response.batch_rows == 2
    assert response.run_ns > 0
    assert site.releases["one"].counters.requests == 1
    assert site.pipeline.counters.requests == 1
    idle(site)


@on_loop
async def test_requests_that_come_together_batch_at_each_step():
    site = Site(CHAIN, one=model(), two=model())
    answers = [ask(site, {"x": X + n})[0] for n in range(5)]
    await until(lambda: all(answers))
    for n, one in enumerate(answers):
        np.testing.assert_array_equal(one.only.outputs["y"], (X + n) * 5)
    assert site.sessions["one"].runs == [10]
    assert site.sessions["two"].runs == [10]
    idle(site)


@on_loop
async def test_slow_models_run_on_their_threads():
    site = Site(CHAIN, one=model(ns=10**9), two=model(ns=10**9))
    answers, _ = ask(site)
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["y"], X * 5)
    assert threading.get_ident() not in site.sessions["one"].threads
    idle(site)


def fail(inputs):
    raise RunError('model "two" failed while running: bad luck')


@pytest.mark.parametrize("ns", [100, 10**9])
@on_loop
async def test_an_error_names_the_step(ns: int):
    site = Site(CHAIN, one=model(ns=ns), two=model(fail, ns=ns))
    answers, _ = ask(site)
    await until(lambda: answers)
    error = answers.only.error
    assert isinstance(error, RunError)
    assert error.message.startswith('pipeline "p" release 1 step "b": model "two" failed')
    assert site.pipeline.tally.steps["b"].failed == 1
    assert site.pipeline.counters.failures == 1
    idle(site)


@on_loop
async def test_a_deadline_between_two_steps():
    site = Site(CHAIN, one=model(ns=10**9), two=model())
    gate = site.sessions["one"].gate = threading.Event()
    deadline_ns = time.monotonic_ns() + 1_000_000_000  # a busy machine begins in less
    answers, _ = ask(site, deadline_ns=deadline_ns)
    await until(lambda: site.sessions["one"].runs)
    while time.monotonic_ns() <= deadline_ns:
        time.sleep(0.02)  # noqa: ASYNC251 - past the deadline, while the model runs
    gate.set()
    await until(lambda: answers)
    assert isinstance(answers.only.error, DeadlineExceededError)
    assert 'the deadline passed before step "b"' in answers.only.error.message
    assert not site.sessions["two"].runs
    idle(site)


@on_loop
async def test_withdrawn_before_its_turn():
    site = Site(CHAIN, one=model(), two=model())
    answers, ticket = ask(site)
    assert ticket.cancel()
    assert isinstance(answers.only.error, CancelledError)
    assert not ticket.cancel()
    await turns()
    assert len(answers) == 1
    assert not site.sessions["one"].runs
    idle(site)


@on_loop
async def test_withdrawn_while_a_model_reads_its_tensors():
    site = Site(CHAIN, one=model(ns=10**9), two=model())
    gate = site.sessions["one"].gate = threading.Event()
    answers, ticket = ask(site)
    await until(lambda: site.sessions["one"].runs)
    assert not ticket.cancel()
    assert not answers  # the model still reads what the caller owns
    gate.set()
    await until(lambda: answers)
    assert isinstance(answers.only.error, CancelledError)
    assert not site.sessions["two"].runs
    idle(site)


@on_loop
async def test_withdrawn_while_it_waits_for_a_model():
    site = Site(CHAIN, one=model(ns=10**9), two=model())
    gate = site.sessions["one"].gate = threading.Event()
    first, _ = ask(site)
    await until(lambda: site.sessions["one"].runs)
    second, ticket = ask(site)
    await turns()
    assert ticket.cancel()
    assert isinstance(second.only.error, CancelledError)
    gate.set()
    await until(lambda: first)
    assert first.only.error is None
    assert site.sessions["one"].runs == [2]
    idle(site)


BRANCHES = """\
    inputs: {x: "float32[batch,4]"}
    steps:
    - {name: gate, model: one, inputs: x}
    - {name: costly, model: two, inputs: x, when: max(gate) > 10}
    - {name: cheap, compute: x * 0, when: not (max(gate) > 10)}
    - {name: end, first: [costly, cheap], default: 0}
    - {name: score, compute: gate.y * 1, when: max(gate) > 10, default: -1}
    outputs: {y: end, score: score}
"""


@pytest.mark.parametrize(("factor", "runs"), [(10, [2]), (0.1, [])])
@on_loop
async def test_branches(factor: float, runs: list[int]):
    site = Site(BRANCHES, one=model(), two=model(lambda inputs: {"y": inputs["x"] + 1}))
    x = X * np.float32(factor)
    answers, _ = ask(site, {"x": x})
    await until(lambda: answers)
    outputs = answers.only.outputs
    np.testing.assert_array_equal(outputs["y"], x + 1 if runs else x * 0)
    np.testing.assert_array_equal(outputs["score"], x * 2 if runs else np.full((2, 4), -1))
    assert outputs["score"].dtype == np.float32
    assert site.sessions["two"].runs == runs
    assert site.pipeline.tally.steps["costly"].skipped == (not runs)
    idle(site)


@on_loop
async def test_outputs_that_were_asked_for_in_their_order():
    site = Site(BRANCHES, one=model(), two=model())
    answers, _ = ask(site, outputs=("score",))
    await until(lambda: answers)
    assert list(answers.only.outputs) == ["score"]
    refused, _ = ask(site, outputs=("z",))
    assert isinstance(refused.only.error, InvalidRequestError)


@on_loop
async def test_what_is_answered_is_no_view_of_what_was_sent():
    text = CHAIN.replace("y: c", "y: c, part: part").replace(
        "    outputs", "    - {name: part, select: {from: x, stop: 2}}\n    outputs"
    )
    site = Site(text, one=model(), two=model())
    answers, _ = ask(site)
    await until(lambda: answers)
    part = answers.only.outputs["part"]
    np.testing.assert_array_equal(part, X[:, :2])
    assert not np.shares_memory(part, X)
    assert part.flags.c_contiguous


@on_loop
async def test_large_arithmetic_leaves_the_loop():
    big = np.ones((5000, 4), np.float32)
    site = Site(CHAIN, one=model(ns=10**9), two=model(ns=10**9))
    seen = []
    do = site.workshop.do
    site.workshop.do = lambda *given, **more: seen.append(1) or do(*given, **more)
    answers, _ = ask(site, {"x": big})
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["y"], big * 5)
    assert seen == [1]
    idle(site)


@on_loop
async def test_the_first_error_is_told_and_what_waits_is_withdrawn():
    text = """\
    inputs: {x: "float32[batch,4]"}
    steps:
    - {name: long, model: slow, inputs: x}
    - {name: bad, model: bad, inputs: x}
    outputs: {y: long, z: bad}
"""
    site = Site(text, slow=model(ns=10**9), bad=model(fail))
    gate = site.sessions["slow"].gate = threading.Event()
    busy = Answers()
    site.plane.submit(InferRequest("slow", {"x": X}), busy)
    await until(lambda: site.sessions["slow"].runs)
    answers, _ = ask(site)
    await until(lambda: answers)
    assert 'step "bad": model "two" failed' in answers.only.error.message
    assert site.pipeline.tally.steps["long"].failed == 0
    gate.set()
    await until(lambda: busy)
    assert site.sessions["slow"].runs == [2]
    idle(site)
