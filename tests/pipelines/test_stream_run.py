"""An answer for each item: in order, each once, one end, whatever the asker and the models do."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import CancelledError, DeadlineExceededError, RunError
from edged.flow import Flow
from edged.messages import InferRequest, InferResponse, StreamRequest
from edged.pipelines import stream_run
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.pipelines import Site, model
from tests.pipelines.test_items import PIXELS, boxes, reader, sums, wanted
from tests.pipelines.test_run import ask, idle

TEXT = """\
    inputs: {picture: "uint8[high,wide,3]", boxes: "float32[n,4]"}
    max_items: 200
    steps:
    - {name: cut, crop: {from: picture, boxes: boxes}}
    - {name: sized, image: {from: cut, resize: stretch, width: 4, height: 4}}
    - {name: read, model: read, inputs: sized}
    - {name: all, gather: {from: read}}
    - {name: most, compute: max(all)}
    outputs: {sums: all, found: boxes, most: most}
    stream: [sums]
"""
PLAIN = TEXT.replace(", most: most", "").replace("    - {name: most, compute: max(all)}\n", "")


class Heard:
    """What one asker was told."""

    def __init__(self) -> None:
        self.parts: list[InferResponse] = []
        self.ends: list[InferResponse] = []

    def __call__(self, response: InferResponse, final: bool) -> None:
        assert not self.ends, "nothing comes after the end"
        (self.ends if final else self.parts).append(response)

    @property
    def sums(self) -> np.ndarray:
        return np.concatenate([part.outputs["sums"] for part in self.parts])

    @property
    def end(self) -> InferResponse:
        (response,) = self.ends
        return response


def stream(site: Site, count: int, ahead: int = 1000, patience_s: float = 60.0, **fields):
    heard, flow = Heard(), Flow(ahead, patience_s)
    inputs = {"picture": PIXELS, "boxes": boxes(count)}
    ticket = site.plane.submit(StreamRequest("p", inputs, flow=flow, **fields), heard)
    return heard, flow, ticket


async def paused(site: Site, given: int) -> None:
    """All that may be begun is made, and waits for the asker."""
    (run,) = site.pipeline._runs.values()
    assert isinstance(run, stream_run.StreamRun)
    await until(lambda: run._given == given and run._stall is not None and not run._running)
    assert run._next <= given + stream_run._AT_ONCE


@pytest.mark.parametrize("ns", [100, 10**9])
@pytest.mark.parametrize("count", [1, 7, 100])
@on_loop
async def test_each_item_is_answered_and_the_rest_comes_last(count: int, ns: int):
    site = Site(TEXT, read=reader(ns=ns))
    heard, _, _ = stream(site, count)
    await until(lambda: heard.ends)
    assert len(heard.parts) == count
    end = heard.end
    assert end.error is None
    assert set(end.outputs) == {"found", "most"}
    np.testing.assert_array_equal(end.outputs["found"], boxes(count))
    np.testing.assert_array_equal(heard.sums, wanted(boxes(count)))
    assert end.outputs["most"] == wanted(boxes(count)).max()
    assert sum(site.sessions["read"].runs) == count
    if count == 100:
        assert max(site.sessions["read"].runs) > 1, "items of one request share a run"
    tally = site.pipeline.tally
    assert (tally.streams.requests, tally.streams.answers) == (1, count)
    assert sum(tally.streams.first_times) == 1
    assert tally.counters.requests == 1
    assert tally.steps["read"].done == count
    idle(site)


@on_loop
async def test_of_no_items_there_is_only_the_rest():
    none = "{name: none, select: {from: boxes, axis: 0, start: 1}}"
    text = PLAIN.replace("boxes: boxes}}", f"boxes: none}}}}\n    - {none}")
    site = Site(text, read=reader())
    heard, _, _ = stream(site, 1)
    await until(lambda: heard.ends)
    assert not heard.parts
    assert set(heard.end.outputs) == {"found"}
    assert not sum(site.pipeline.tally.streams.first_times)
    idle(site)


@on_loop
async def test_all_together_are_what_one_answer_holds():
    site = Site(TEXT, read=reader())
    heard, _, _ = stream(site, 9)
    answers, _ = ask(site, {"picture": PIXELS, "boxes": boxes(9)})
    await until(lambda: heard.ends and answers)
    np.testing.assert_array_equal(heard.sums, answers.only.outputs["sums"])
    whole = {name: array for name, array in answers.only.outputs.items() if name != "sums"}
    assert whole.keys() == heard.end.outputs.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, heard.end.outputs[name])
    idle(site)


@on_loop
async def test_a_recording_is_answered_for_each_window():
    text = """\
    inputs: {samples: "float32[n]"}
    steps:
    - {name: cut, windows: {from: samples, size: 4, step: 2}}
    - {name: window, each: {from: cut}}
    - {name: heard, model: ear, inputs: window, when: max(window) > 6}
    - {name: either, first: [heard, quiet]}
    - {name: quiet, compute: window * 0}
    - {name: all, gather: {from: either}}
    outputs: {heard: all}
    stream: [heard]
"""
    site = Site(text, ear=model())
    samples = np.arange(21, dtype=np.float32)
    request = StreamRequest("p", {"samples": samples}, flow=Flow(2, 60.0))
    heard = Heard()
    site.plane.submit(request, heard)
    while not heard.ends:
        request.flow.grant(1)
        await turns(3)
    windows = np.lib.stride_tricks.sliding_window_view(samples, 4)[::2]
    right = np.where(windows.max(axis=1, keepdims=True) > 6, windows * 2, 0)
    np.testing.assert_array_equal(
        np.concatenate([part.outputs["heard"] for part in heard.parts]), right
    )
    assert sum(site.sessions["ear"].runs) == 7
    idle(site)


@on_loop
async def test_outputs_may_be_chosen():
    site = Site(PLAIN, read=reader())
    heard, _, _ = stream(site, 3, outputs=("sums",))
    await until(lambda: heard.ends)
    assert (len(heard.parts), dict(heard.end.outputs)) == (3, {})
    heard, _, _ = stream(site, 3, outputs=("found",))
    await until(lambda: heard.ends)
    assert (len(heard.parts), set(heard.end.outputs)) == (0, {"found"})
    assert site.pipeline.tally.streams.requests == 1, "nothing was wanted for each"
    idle(site)


@on_loop
async def test_no_more_is_begun_than_the_asker_takes():
    site = Site(PLAIN, read=reader())
    heard, flow, _ = stream(site, 100, ahead=2)
    await paused(site, 2)
    assert sum(site.sessions["read"].runs) == 2 + stream_run._AT_ONCE
    assert site.releases["read"].in_flight, "a stream keeps its models"
    flow.grant(5)
    await paused(site, 7)
    assert sum(site.sessions["read"].runs) == 7 + stream_run._AT_ONCE
    flow.hold()
    flow.grant(1000)
    await turns(50)
    assert len(heard.parts) == 7
    flow.release()
    await until(lambda: heard.ends)
    np.testing.assert_array_equal(heard.sums, wanted(boxes(100)))
    idle(site)


@on_loop
async def test_the_first_is_answered_before_the_last_has_begun():
    site = Site(PLAIN, read=reader())
    heard, _, _ = stream(site, 100, ahead=1)
    await until(lambda: heard.parts)
    assert sum(site.sessions["read"].runs) < 100
    assert not heard.ends
    heard.parts.clear()


@on_loop
async def test_an_asker_that_withdraws_gets_one_end():
    site = Site(PLAIN, read=reader())
    heard, flow, ticket = stream(site, 100, ahead=3)
    await until(lambda: len(heard.parts) == 3)
    ticket.cancel()
    await until(lambda: heard.ends)
    assert isinstance(heard.end.error, CancelledError)
    flow.grant(100)
    await turns()
    assert len(heard.parts) == 3
    idle(site)


@on_loop
async def test_items_that_wait_for_a_model_are_withdrawn_with_it():
    gate, begun = threading.Event(), threading.Event()

    def slow(inputs):
        begun.set()
        assert gate.wait(15)
        return sums(inputs)

    site = Site(PLAIN, read=reader(slow, ns=10**9))
    heard, _, ticket = stream(site, 100)
    (run,) = site.pipeline._runs.values()
    await until(lambda: begun.is_set() and run._next == stream_run._AT_ONCE)
    ticket.cancel()
    assert not site.releases["read"].backlog.rows
    assert not heard.ends, "what runs is waited for"
    gate.set()
    await until(lambda: heard.ends)
    assert isinstance(heard.end.error, CancelledError)
    assert sum(site.sessions["read"].runs) < stream_run._AT_ONCE
    idle(site)


@on_loop
async def test_a_stream_that_has_not_begun_may_be_withdrawn():
    site = Site(PLAIN, read=reader())
    heard, _, ticket = stream(site, 5)
    assert ticket.cancel()
    assert isinstance(heard.end.error, CancelledError)
    await turns()
    idle(site)


@on_loop
async def test_a_model_that_fails_ends_it_and_names_the_step():
    def sour(inputs):
        if (inputs["x"].sum(axis=(1, 2, 3)) == wanted(boxes(50))[20].sum()).any():
            raise RunError("sour")
        return sums(inputs)

    site = Site(PLAIN, read=reader(sour))
    heard, _, _ = stream(site, 50)
    await until(lambda: heard.ends)
    assert len(heard.parts) <= 20
    np.testing.assert_array_equal(
        heard.sums if heard.parts else np.zeros((0, 3)), wanted(boxes(50))[: len(heard.parts)]
    )
    message = heard.end.error.message
    assert 'pipeline "p" release 1 step "read"' in message
    assert message.count('step "read"') == 1
    assert "sour" in message
    assert site.pipeline.tally.steps["read"].failed == 1
    idle(site)


@on_loop
async def test_the_deadline_passes_while_the_asker_takes_nothing(monkeypatch: pytest.MonkeyPatch):
    site = Site(PLAIN, read=reader())
    clock = Clock(monkeypatch)
    heard, _, _ = stream(site, 100, ahead=2, deadline_ns=clock.now_ns + 10**9)
    await paused(site, 2)
    await clock.forward(2 * 10**9)
    assert isinstance(heard.end.error, DeadlineExceededError)
    assert "the deadline passed after 2 answers" in heard.end.error.message
    idle(site)


@on_loop
async def test_who_takes_nothing_for_long_gets_no_more(monkeypatch: pytest.MonkeyPatch):
    site = Site(PLAIN, read=reader())
    clock = Clock(monkeypatch)
    heard, flow, _ = stream(site, 100, ahead=2, patience_s=1.0)
    await paused(site, 2)
    await clock.forward(8 * 10**8)
    flow.grant(1)
    await paused(site, 3)
    await clock.forward(8 * 10**8)
    assert not heard.ends, "it has read meanwhile"
    await clock.forward(12 * 10**8)
    await clock.forward(12 * 10**8)
    assert "the asker took no answer for 1 s (limits.stream_wait)" in heard.end.error.message
    assert isinstance(heard.end.error, DeadlineExceededError)
    idle(site)


@on_loop
async def test_time_in_which_the_asker_takes_nothing_is_not_the_pipelines(
    monkeypatch: pytest.MonkeyPatch,
):
    site = Site(PLAIN, read=reader())
    clock = Clock(monkeypatch)
    heard, flow, _ = stream(site, 10, ahead=2)
    await paused(site, 2)
    await clock.forward(8 * 10**9)
    flow.grant(100)
    await until(lambda: heard.ends)
    assert site.pipeline.counters.run_ns < 10**9
    idle(site)


@on_loop
async def test_one_that_answers_once_answers_a_stream_once():
    text = PLAIN.replace("    stream: [sums]\n", "")
    site = Site(text, read=reader())
    heard, _, _ = stream(site, 3)
    await until(lambda: heard.ends)
    assert set(heard.end.outputs) == {"sums", "found"}
    assert not heard.parts
    heard = Heard()
    x = np.zeros((2, 3, 4, 4), np.float32)
    site.plane.submit(StreamRequest("read", {"x": x}, flow=Flow(1, 60.0)), heard)
    await until(lambda: heard.ends)
    assert heard.end.outputs["s"].shape == (2, 3)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_stream_is_lost_or_ended_twice(data: st.DataObject):
    """Several at once: slow and quick models, failures, askers that stop reading or go away."""
    ns = data.draw(st.sampled_from([100, 10**9]), label="run time")
    counts = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4), label="items")
    aheads = [data.draw(st.integers(1, 12)) for _ in counts]
    bad = data.draw(st.sampled_from([None, 0, 3, 30]), label="the item that fails")
    leaves = [data.draw(st.sampled_from([None, 0, 1, 9])) for _ in counts]
    moves = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=20))

    def maybe_sour(inputs):
        totals = inputs["x"].sum(axis=(1, 2, 3))
        if bad is not None and (totals == wanted(boxes(40))[bad].sum()).any():
            raise RunError("sour")
        return sums(inputs)

    async def scene() -> None:
        site = Site(PLAIN, read=reader(maybe_sour, ns))
        asked = [stream(site, n, a) for n, a in zip(counts, aheads, strict=True)]

        def leave() -> None:
            for (heard, _, ticket), after in zip(asked, leaves, strict=True):
                if after is not None and len(heard.parts) >= after and not heard.ends:
                    ticket.cancel()

        for place, more in moves:
            if place < len(asked):
                asked[place][1].grant(more)
            leave()
            await turns(3)
        for heard, flow, _ in asked:
            flow.grant(1000)
            await turns(1)
            leave()
            await until(lambda heard=heard: heard.ends)
        for (heard, _, _), count in zip(asked, counts, strict=True):
            right = wanted(boxes(count))
            if heard.parts:
                np.testing.assert_array_equal(heard.sums, right[: len(heard.parts)])
            assert len(heard.ends) == 1
            if heard.end.error is None:
                assert len(heard.parts) == count
        assert site.pipeline.counters.requests == len(asked)
        idle(site)

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_request_for_one_answer_makes_no_stream():
    request = InferRequest("p", {})
    assert type(request) is not StreamRequest


@on_loop
async def test_others_have_their_turn_between_items(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_run, "_BUDGET_NS", -1)
    text = """\
    inputs: {x: "float32[n,4]"}
    steps:
    - {name: row, each: {from: x}}
    - {name: half, compute: row / 2}
    - {name: all, gather: {from: half}}
    - {name: asked, model: ear, inputs: x}
    outputs: {all: all, asked: asked}
    stream: [all]
"""
    site, heard = Site(text, ear=model()), Heard()
    x = np.zeros((40, 4), np.float32)
    site.plane.submit(StreamRequest("p", {"x": x}, flow=Flow(1000, 60.0)), heard)
    seen = []
    while not heard.ends:
        await turns(1)
        seen.append(len(heard.parts))
    assert max(np.diff(seen)) == 1, "no more than one a turn"
    assert seen[-1] == 40
    idle(site)
