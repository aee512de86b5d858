"""Random graphs, random company: no request lost, none answered twice, each with its own numbers."""

from __future__ import annotations

import asyncio
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import CancelledError, DeadlineExceededError, QueueFullError, RunError
from edged.messages import InferRequest
from tests.fakes.clock import turns, until
from tests.fakes.pipelines import Site, model
from tests.pipelines.test_run import Answers, idle

BAD = 777.0
"""A value that makes the model ``sour`` fail."""


def sour(inputs):
    if (inputs["x"] == BAD).any():
        raise RunError("sour")
    return {"y": inputs["x"] - 1}


MODELS = {
    "quick": (lambda x: x * 2, 100),
    "slow": (lambda x: x + 3, 10**8),
    "sour": (lambda x: x - 1, 100),
    "late": (lambda x: x - 1, 10**8),
}


def make_models():
    return {
        "quick": model(lambda i: {"y": i["x"] * 2}),
        "slow": model(lambda i: {"y": i["x"] + 3}, ns=10**8),
        "sour": model(sour),
        "late": model(sour, ns=10**8),
    }


def graph(dice: random.Random) -> tuple[str, list[tuple]]:
    """A pipeline's text, and the same as steps for ``oracle``."""
    steps: list[tuple] = []
    known = ["x"]
    for index in range(dice.randint(1, 7)):
        name = f"s{index}"
        kind = dice.choice([*MODELS, "compute", "first", *MODELS])
        uses = [dice.choice(known), dice.choice(known)]
        when = (dice.choice(known), dice.choice([0, 5, 20])) if dice.random() < 0.35 else None
        default = dice.choice([None, -5]) if when else None
        if kind == "first":
            when, default = None, dice.choice([None, -9])
        steps.append((name, kind, uses, when, default))
        known.append(name)
    lines = []
    for name, kind, (a, b), when, default in steps:
        words = {"compute": f"compute: {a} * 1 - {b}", "first": f"first: [{a}, {b}]"}
        line = words.get(kind, f"model: {kind}, inputs: {a}")
        line += f", when: max({when[0]}) > {when[1]}" if when else ""
        line += f", default: {default}" if default is not None else ""
        lines.append(f"    - {{name: {name}, {line}}}\n")
    dice.shuffle(lines)
    ends = "".join(f"    - {{name: e{n}, first: [{n}], default: -77}}\n" for n in known[1:])
    outputs = ", ".join(f"{n}: e{n}" for n in known[1:])
    head = '    inputs: {x: "float32[batch,4]"}\n    max_rows: 100000\n    steps:\n'
    more = "    - {name: always, model: quick, inputs: x}\n"
    return f"{head}{''.join(lines)}{ends}{more}    outputs: {{{outputs}}}\n", steps


def oracle(steps: list[tuple], x: np.ndarray) -> dict[str, np.ndarray] | None:
    """What comes out; None where ``sour`` fails."""
    values = {"x": x}
    for name, kind, (a, b), when, default in steps:
        instead = None if default is None else np.full_like(x, default)
        left, right = values[a], values[b]
        if kind == "first":
            made = left if left is not None else right
            values[name] = made if made is not None else instead
            continue
        used = [left, right] if kind == "compute" else [left]
        if when:
            used.append(values[when[0]])
        if any(one is None for one in used) or (when and not values[when[0]].max() > when[1]):
            values[name] = instead
        elif kind == "compute":
            values[name] = left - right
        elif kind in ("sour", "late") and (left == BAD).any():
            return None
        else:
            values[name] = MODELS[kind][0](left)
    return {n: np.full_like(x, -77) if v is None else v for n, v in values.items() if n != "x"}


async def play(seed: int) -> None:
    dice = random.Random(seed)
    text, steps = graph(dice)
    site = Site(text, **make_models())
    sent = []
    for number in range(dice.randint(1, 12)):
        x = np.random.default_rng(seed + number).integers(-9, 30, (dice.randint(1, 3), 4))
        x = x.astype(np.float32)
        if dice.random() < 0.2:
            x[0, 0] = BAD
        deadline = None
        if dice.random() < 0.3:
            deadline = time.monotonic_ns() + dice.choice([1, 10**6, 10**10])
        answers = Answers()
        ticket = site.plane.submit(InferRequest("p", {"x": x}, deadline_ns=deadline), answers)
        sent.append((x, answers, deadline))
        if dice.random() < 0.2:
            await turns(dice.randint(0, 3))
            was = len(answers)
            if ticket is not None and ticket.cancel():
                assert len(answers) == 1 > was
    await until(lambda: all(answers for _, answers, _ in sent))
    await until(lambda: not site.pipeline.in_flight)
    await turns()
    for x, answers, deadline in sent:
        response = answers.only  # never twice
        wanted = oracle(steps, x)
        if response.error is None:
            assert wanted is not None
            for name, array in wanted.items():
                np.testing.assert_allclose(response.outputs[name], array, err_msg=f"{text}{name}")
        else:
            allowed = [CancelledError]
            allowed += [RunError] if wanted is None else []
            allowed += [DeadlineExceededError, QueueFullError] if deadline else []
            assert isinstance(response.error, tuple(allowed)), (response.error.message, text)
    idle(site)
    site.workshop.close()


@given(st.integers(0, 10**9))
@settings(max_examples=40, deadline=None)
def test_any_graph_in_any_company(seed: int):
    asyncio.run(asyncio.wait_for(play(seed), 30))


@pytest.mark.slow
@given(st.integers(0, 10**9))
@settings(max_examples=500, deadline=None)
def test_many_graphs(seed: int):
    asyncio.run(asyncio.wait_for(play(seed), 30))
