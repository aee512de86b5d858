"""Random steps for each of no, one or many boxes, against doing them one by one by hand."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import CancelledError, RunError
from tests.fakes.clock import turns, until
from tests.fakes.pipelines import Site, model
from tests.pipelines.test_items import PIXELS, ask, boxes, idle, reader, wanted

LIMIT = 7500.0
"""What the model ``sour`` fails of; some of the sums are above."""


def sour(inputs):
    if (inputs["x"] > LIMIT).any():
        raise RunError("sour")
    return {"y": inputs["x"] - 1}


ROW = ("batch", 3)
KINDS = {"quick": lambda x: x * 2, "slow": lambda x: x + 3, "sour": lambda x: x - 1,
         "compute": lambda x: x * np.float32(0.5)}  # fmt: skip
Step = tuple[str, str, str, int | None, int | None]
"""Name, kind, what it uses, its condition's threshold and its default."""


def models(dice: random.Random) -> dict:
    rows = [("x", "float32", ROW)]
    return {
        "read": reader(ns=dice.choice([100, 10**9])),
        "quick": model(lambda i: {"y": i["x"] * 2}, rows),
        "slow": model(lambda i: {"y": i["x"] + 3}, rows, ns=10**8),
        "sour": model(sour, rows, ns=dice.choice([100, 10**8])),
    }


def graph(dice: random.Random) -> tuple[str, list[Step]]:
    """Steps for each item, as text and for ``oracle``."""
    steps: list[Step] = []
    known = ["read"]
    for index in range(dice.randint(0, 4)):
        when = dice.choice([None, 3000, 6000, 9000])
        default = dice.choice([None, -5]) if when is not None else None
        steps.append((f"s{index}", dice.choice([*KINDS]), dice.choice(known), when, default))
        known.append(f"s{index}")
    lines = []
    for name, kind, used, when, default in steps:
        line = f"compute: {used} * 0.5" if kind == "compute" else f"model: {kind}, inputs: {used}"
        line += f", when: max({used}) > {when}" if when is not None else ""
        line += f", default: {default}" if default is not None else ""
        lines.append(f"    - {{name: {name}, {line}}}\n")
    dice.shuffle(lines)
    text = f"""\
    inputs: {{picture: "uint8[high,wide,3]", boxes: "float32[n,4]", scores: "float32[n]"}}
    steps:
    - {{name: best, boxes: {{boxes: boxes, scores: scores, threshold: 0.5, overlap: 1, top: 99}}}}
    - {{name: cut, crop: {{from: picture, boxes: best.boxes}}}}
    - {{name: sized, image: {{from: cut, resize: stretch, width: 4, height: 4}}}}
    - {{name: read, model: read, inputs: sized}}
{"".join(lines)}    - {{name: end, first: [{", ".join(reversed(known[1:])) or "read"}], default: -7}}
    - {{name: all, gather: {{from: end}}}}
    outputs: {{all: all}}
"""
    return text, steps


def oracle(steps: list[Step], found: np.ndarray) -> np.ndarray | None:
    """What comes out; None where ``sour`` fails for one of them."""
    rows = []
    for item in wanted(found):
        values: dict[str, np.ndarray | None] = {"read": item[np.newaxis]}
        for name, kind, used, when, default in steps:
            value = values[used]
            if value is None or (when is not None and not value.max() > when):
                values[name] = None if default is None else np.full((1, 3), default, np.float32)
            elif kind == "sour" and (value > LIMIT).any():
                return None
            else:
                values[name] = KINDS[kind](value)
        order = [values[name] for name in reversed(values) if name != "read" or not steps]
        rows.append(next((v for v in order if v is not None), np.full((1, 3), -7, np.float32)))
    return np.concatenate(rows) if rows else np.zeros((0, 3), np.float32)


async def play(seed: int) -> None:
    dice = random.Random(seed)
    text, steps = graph(dice)
    site = Site(text, **models(dice))
    sent = []
    for _ in range(dice.randint(1, 4)):
        offered = boxes(dice.choice([1, 2, 5, 40, 70]))
        share = dice.choice([0.0, 0.5, 1.0])
        scores = np.array([dice.random() < share for _ in offered], np.float32)
        found = offered[scores > 0]
        inputs = {"picture": PIXELS, "boxes": offered, "scores": scores}
        answers, ticket = ask(site, inputs)
        if dice.random() < 0.15:
            await turns(dice.randint(0, 4))
            ticket.cancel()
        sent.append((found, answers))
    await until(lambda: all(answers for _, answers in sent))
    await until(lambda: not site.pipeline.in_flight)
    for found, answers in sent:
        error, right = answers.only.error, oracle(steps, found)
        if error is None:
            assert right is not None, text
            np.testing.assert_allclose(answers.only.outputs["all"], right, rtol=1e-6, err_msg=text)
        else:
            allowed = (CancelledError, RunError) if right is None else (CancelledError,)
            assert isinstance(error, allowed), (error.message, text)
    idle(site)
    site.workshop.close()


@given(st.integers(0, 10**9))
@settings(max_examples=30, deadline=None)
def test_any_steps_for_any_number_of_items(seed: int):
    asyncio.run(play(seed))


@pytest.mark.slow
@given(st.integers(0, 10**9))
@settings(max_examples=200, deadline=None)
def test_many_steps_for_any_number_of_items(seed: int):
    asyncio.run(play(seed))
