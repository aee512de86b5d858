"""Random graphs over items: the answers for each, put together, are what one answer holds."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.flow import Flow
from edged.messages import InferRequest, StreamRequest
from tests.fakes.clock import turns, until
from tests.fakes.pipelines import Site, model
from tests.pipelines.test_run import Answers, idle
from tests.pipelines.test_stream_run import Heard


def steps_of(dice: random.Random, name: str, known: list[str]) -> list[str]:
    """Steps that make ``name``, some of them for all items together."""
    a, b = dice.choice(known), dice.choice(known)
    kind = dice.choice(["quick", "slow", "compute", "first", "total", "quick"])
    if kind == "first":
        return [f"{{name: {name}, first: [{a}, {b}], default: -3}}"]
    if kind == "total":
        return [
            f"{{name: f{name}, first: [{a}], default: 1}}",
            f"{{name: g{name}, gather: {{from: f{name}}}}}",
            f"{{name: t{name}, compute: sum(g{name})}}",
            f"{{name: {name}, compute: {b} + t{name}}}",
        ]
    when = f", when: max({dice.choice(known)}) > {dice.choice([0, 5, 20])}"
    end = dice.choice(["", "", when, f"{when}, default: -5"])
    does = f"compute: {a} - {b} * 2" if kind == "compute" else f"model: {kind}, inputs: {a}"
    return [f"{{name: {name}, {does}{end}}}"]


def graph(dice: random.Random) -> tuple[str, set[str], set[str]]:
    """A pipeline's text, the outputs that are streamed, and the others."""
    known, steps = ["item"], ["{name: item, each: {from: x}}", "{name: m, model: quick, inputs: x}"]
    for index in range(dice.randint(1, 8)):
        steps += steps_of(dice, f"s{index}", known)
        known.append(f"s{index}")
    for name in known:
        steps.append(f"{{name: e{name}, first: [{name}], default: -7}}")
        steps.append(f"{{name: a{name}, gather: {{from: e{name}}}}}")
    dice.shuffle(steps)
    outputs = [name for name in known if dice.random() < 0.5] or known[-1:]
    stream = [name for name in outputs if dice.random() < 0.6] or outputs[:1]
    given = ", ".join(f"{name}: a{name}" for name in outputs)
    text = '    inputs: {x: "float32[n,4]"}\n    steps:\n'
    text += "".join(f"    - {step}\n" for step in steps)
    text += f"    outputs: {{{given}, x: x}}\n    stream: [{', '.join(stream)}]\n"
    return text, set(stream), {*outputs, "x"} - set(stream)


async def scene(dice: random.Random) -> None:
    text, stream, rest = graph(dice)
    slow = model(lambda i: {"y": i["x"] + 3}, ns=10**9)
    site = Site(text, quick=model(), slow=slow)
    rows = dice.randint(1, 40)
    x = np.array([[dice.randint(-9, 9) for _ in range(4)] for _ in range(rows)], np.float32)
    whole, heard, flow = Answers(), Heard(), Flow(dice.randint(1, 5), 60.0)
    site.plane.submit(InferRequest("p", {"x": x}), whole)
    site.plane.submit(StreamRequest("p", {"x": x}, flow=flow), heard)
    while not heard.ends:
        flow.grant(dice.randint(1, 3))
        await turns(2)
    await until(lambda: whole)
    assert whole.only.error is heard.end.error is None, text
    assert len(heard.parts) == rows
    wanted = whole.only.outputs
    for name in stream:
        got = np.concatenate([part.outputs[name] for part in heard.parts])
        np.testing.assert_array_equal(got, wanted[name], err_msg=text)
    assert set(heard.end.outputs) == rest
    for name in rest:
        np.testing.assert_array_equal(heard.end.outputs[name], wanted[name], err_msg=text)
    idle(site)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_any_graph(seed: int):
    asyncio.run(asyncio.wait_for(scene(random.Random(seed)), 60))


@pytest.mark.parametrize("seed", range(5))
def test_these_graphs(seed: int):
    asyncio.run(asyncio.wait_for(scene(random.Random(seed)), 60))
