"""Fan-out: each box is cropped and asked about, in batches, and every answer finds its item."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edged.errors import CancelledError, InvalidRequestError, RunError
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.pipelines import Site, model
from tests.pipelines.test_run import ask, idle

TEXT = """\
    inputs: {picture: "uint8[high,wide,3]", boxes: "float32[n,4]"}
    max_items: 100
    steps:
    - {name: cut, crop: {from: picture, boxes: boxes}}
    - {name: sized, image: {from: cut, resize: stretch, width: 4, height: 4}}
    - {name: read, model: read, inputs: sized, WHEN}
    - {name: all, gather: {from: read}}
    outputs: {sums: all}
"""
PIXELS = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)


def sums(inputs):
    return {"s": inputs["x"].sum(axis=(2, 3))}


def reader(function=sums, ns=100):
    return model(
        function, [("x", "float32", ("batch", 3, 4, 4))], [("s", "float32", ("batch", 3))], ns
    )


def boxes(count: int) -> np.ndarray:
    corner = np.random.default_rng(count).integers(0, 30, (count, 2))
    return np.concatenate([corner, corner + 4], axis=1).astype(np.float32)


def wanted(found: np.ndarray) -> np.ndarray:
    cut = [PIXELS[int(y) : int(y) + 4, int(x) : int(x) + 4] for x, y, _, _ in found]
    return np.array([c.astype(np.float32).sum(axis=(0, 1)) for c in cut]).reshape(-1, 3)


@pytest.mark.parametrize("ns", [100, 10**9])
@pytest.mark.parametrize("count", [1, 7, 100])
@on_loop
async def test_each_box(count: int, ns: int):
    site = Site(TEXT.replace(", WHEN", ""), read=reader(ns=ns))
    answers, _ = ask(site, {"picture": PIXELS, "boxes": boxes(count)})
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["sums"], wanted(boxes(count)))
    assert sum(site.sessions["read"].runs) == count
    if count == 100:
        assert max(site.sessions["read"].runs) > 1, "items of one request share a run"
    idle(site)


@on_loop
async def test_no_boxes_at_all():
    """As a detector that found nothing; a client cannot send an empty axis."""
    text = (
        TEXT.replace(", WHEN", "")
        .replace("boxes: boxes}", "boxes: found}")
        .replace(
            "    steps:\n", "    steps:\n    - {name: found, boxes: {boxes: boxes, scores: s}}\n"
        )
    )
    text = text.replace('boxes: "float32[n,4]"', 'boxes: "float32[n,4]", s: "float32[n]"')
    text = text.replace("boxes: found}", "boxes: found.boxes}")
    site = Site(text, read=reader())
    inputs = {"picture": PIXELS, "boxes": boxes(3), "s": np.zeros(3, np.float32)}
    answers, _ = ask(site, inputs)
    await until(lambda: answers)
    assert answers.only.outputs["sums"].shape == (0, 3)
    assert not site.sessions["read"].runs
    idle(site)


@on_loop
@pytest.mark.hostile("H5 a model that finds boxes without end, far outside or of no numbers")
async def test_more_boxes_than_allowed():
    site = Site(TEXT.replace(", WHEN", ""), read=reader())
    many = boxes(101)
    many[0] = np.nan  # which would be found first, were they cut before they are counted
    answers, _ = ask(site, {"picture": PIXELS, "boxes": many})
    await until(lambda: answers)
    assert isinstance(answers.only.error, InvalidRequestError)
    assert 'step "cut": makes 101 items; the limit is 100' in answers.only.error.message
    idle(site)


@on_loop
async def test_a_condition_for_each():
    site = Site(TEXT.replace("WHEN", "when: mean(cut) > 127, default: -1"), read=reader())
    found = boxes(20)
    answers, _ = ask(site, {"picture": PIXELS, "boxes": found})
    await until(lambda: answers)
    expected = wanted(found)
    dark = expected.sum(axis=1) / 48 <= 127
    assert 0 < dark.sum() < 20
    expected[dark] = -1
    np.testing.assert_array_equal(answers.only.outputs["sums"], expected)
    assert sum(site.sessions["read"].runs) == 20 - dark.sum()
    idle(site)


@on_loop
async def test_branches_for_each():
    text = (
        TEXT.replace("WHEN", "when: mean(cut) > 127")
        .replace("{from: read}", "{from: either}")
        .replace(
            "    - {name: all",
            "    - {name: cheap, compute: 'sum(sum(sized, axis=3), axis=2) * 0'}\n"
            "    - {name: either, first: [read, cheap]}\n    - {name: all",
        )
    )
    site = Site(text, read=reader())
    found = boxes(20)
    answers, _ = ask(site, {"picture": PIXELS, "boxes": found})
    await until(lambda: answers)
    expected = wanted(found)
    expected[expected.sum(axis=1) / 48 <= 127] = 0
    np.testing.assert_array_equal(answers.only.outputs["sums"], expected)
    idle(site)


@pytest.mark.parametrize("ns", [100, 10**9])
@on_loop
async def test_one_item_that_fails_ends_the_request_once(ns: int):
    def fail(inputs):
        if inputs["x"].shape[0] == 1 and inputs["x"][0, 0, 0, 0] == bad:
            raise RunError("not this one")
        if (inputs["x"][:, 0, 0, 0] == bad).any():
            raise RunError("not these")
        return sums(inputs)

    found = boxes(60)
    x, y = int(found[50][0]), int(found[50][1])
    bad = PIXELS[y, x, 0]
    site = Site(TEXT.replace(", WHEN", ""), read=reader(fail, ns))
    answers, _ = ask(site, {"picture": PIXELS, "boxes": found})
    await until(lambda: answers)
    assert 'step "read": not this one' in answers.only.error.message
    await until(lambda: not site.pipeline.in_flight)
    assert len(answers) == 1
    idle(site)


@on_loop
async def test_withdrawn_while_items_wait():
    site = Site(TEXT.replace(", WHEN", ""), read=reader(ns=10**9))
    gate = site.sessions["read"].gate = threading.Event()
    answers, ticket = ask(site, {"picture": PIXELS, "boxes": boxes(100)})
    await until(lambda: site.sessions["read"].runs)
    await turns()
    assert not ticket.cancel()  # one of them runs
    gate.set()
    await until(lambda: answers)
    assert isinstance(answers.only.error, CancelledError)
    assert sum(site.sessions["read"].runs) < 100
    idle(site)


@pytest.mark.parametrize("size", [10, 200])
@on_loop
async def test_conditions_on_much_are_looked_at_on_a_thread(size: int):
    text = """\
    inputs: {x: "float32[batch,4]"}
    steps:
    - {name: a, model: one, inputs: x, when: max(x) > 5, default: -1}
    outputs: {y: a}
"""
    site = Site(text, one=model(ns=10**9))
    seen = []
    do = site.workshop.do
    site.workshop.do = lambda *given, **more: seen.append(1) or do(*given, **more)
    for factor, wanted in ((1, -1), (9, 18)):
        x = np.full((size * 100, 4), factor, np.float32)
        answers, _ = ask(site, {"x": x})
        await until(lambda answers=answers: answers)
        assert (answers.only.outputs["y"] == wanted).all()
    assert len(seen) == (2 if size == 200 else 0)
    idle(site)
