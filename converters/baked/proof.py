"""Whether the baked steps are the steps: the nodes against numpy, and the model with and without.

The steps are looked at alone first: a model may answer alike to a picture that is half a pixel off,
and on the next picture not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from converters import graph
from converters.baked.nodes import Front, put_in_front, raw_value
from converters.baked.reference import preprocess
from converters.baked.words import Bake
from converters.errors import ParityError
from converters.gate.checks import Checks
from converters.naming import name_inner_values
from converters.parity import compare
from converters.samples import spread
from converters.session import Run, open_session
from converters.targets.table import Target
from edged.manifest import Tolerance
from edged.tensors import Array

NAME = "pre-processing"
ROWS = 8
"""Spread over the samples; every one of them is also run against the framework afterwards."""
PLACED = 2.5e-7
"""What a resize may differ by from numpy: the brightest pixel times the picture's longer side times
this (0.04 levels of uint8 at 640 pixels; half a pixel off gives a hundred). float32 places a pixel
to some 1e-7 of the side, and the next one may be black."""
FLOAT32 = 1e-5
"""And relative to the value: what a few float32 operations may lose after each other."""

Pictures = dict[str, Array]


def bake(
    model: onnx.ModelProto,
    works: Mapping[str, Bake],
    raw: Mapping[str, Array],
    ready: Mapping[str, Array],
    *,
    target: Target,
    tolerance: Tolerance,
    checks: Checks,
) -> onnx.ModelProto:
    """A model that takes raw pictures, proven to answer as the one that takes ready ones.

    Args:
        model: takes what is ready; stays as it is.
        works: the steps, by input.
        raw: raw samples of all inputs.
        ready: the same, as the framework got them.
        target: must compute the steps too.
        tolerance: what the answers with and without may differ by.
        checks: gets what was seen.

    Raises:
        ParityError: the steps or the answers differ; says how much and at which size.
        UnsupportedModelError: the target or the opset lacks a step.
        ConversionError: an input that is no picture.
    """
    baked = onnx.ModelProto()
    baked.CopyFrom(model)
    with checks.step(NAME) as said:
        shapes = {name: raw[name].shape for name in works}
        put_in_front(baked, dict(works), shapes, graph.opset_of(model))
        baked = graph.clean(baked, None, target)
        name_inner_values(baked)
        rows = spread(len(next(iter(raw.values()))), ROWS)
        few = {name: array[rows] for name, array in raw.items()}
        plain, whole = open_session(graph.serialize(model)), open_session(graph.serialize(baked))
        for name, work in works.items():
            worst = _prove_alone(name, work, few[name], ready[name][rows], graph.opset_of(model))
            said.append(f'"{name}" is {work.told()}: within {worst:.2g} of numpy')
        fed = {name: array[rows] for name, array in ready.items()}
        _prove_answers(plain(fed), whole(few), tolerance, "")
        opset = graph.opset_of(model)
        sizes = _prove_sizes(works, few, fed, runs=(plain, whole), tolerance=tolerance, opset=opset)
        tried = f" and at {', '.join(sizes)}" if sizes else ""
        said.append(f"{len(rows)} rows answer as without it{tried}")
    _look_at_tensorrt(works, target, checks)
    return baked


def _prove_alone(name: str, work: Bake, raw: Array, wanted: Array, opset: int) -> float:
    """Run the steps by themselves; gives the largest difference in what the model gets."""
    run = open_session(graph.serialize(_alone(name, work, raw, opset)))
    got = run({name: raw})["ready"].astype(np.float64)
    if got.shape != wanted.shape:
        raise ParityError(
            f'bake "{name}": the steps give {list(got.shape)} in the graph, {list(wanted.shape)} '
            "in numpy"
        )
    gap = np.abs(got - wanted)
    excess = gap - _allowed(work, raw, wanted)
    if not (excess <= 0).all():  # NaN is beyond too
        sides = f"{raw.shape[work.layout.index('H')]}x{raw.shape[work.layout.index('W')]}"
        raise ParityError(
            f'bake "{name}": the steps in the graph differ from numpy\'s by up to {gap.max():.3g} '
            f"on pictures of {sides}; this target's runtime computes {work.told()} otherwise"
        )
    return float(gap.max(initial=0.0))


def _alone(name: str, work: Bake, raw: Array, opset: int) -> onnx.ModelProto:
    channels = raw.shape[work.channel_axis]
    front = Front(name, work, channels, TensorProto.FLOAT)
    front.nodes[-1].output[0] = "ready"
    made = helper.make_graph(
        front.nodes,
        "steps",
        [raw_value(name, work, raw.shape, "batch", ("h", "w"))],
        [helper.make_tensor_value_info("ready", TensorProto.FLOAT, None)],
        front.weights,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _allowed(work: Bake, raw: Array, wanted: Array) -> Array:
    """What float32 may lose: relative to the value, to the mean, and where pixels are placed."""
    axes = [1 if letter != "C" else -1 for letter in work.model_layout]
    std = np.abs(np.asarray(work.std or (1.0,), np.float64)).reshape(axes)
    mean = np.abs(np.asarray(work.mean or (0.0,), np.float64)).reshape(axes)
    placed = 0.0
    if work.resize is not None:
        brightest = float(np.abs(raw.astype(np.float64)).max())
        placed = PLACED * max(raw.shape[1:]) * brightest * abs(work.factor)
    allowed: Array = FLOAT32 * (np.abs(wanted) + mean / std) + placed / std
    return allowed


def _prove_answers(
    expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: Tolerance, where: str
) -> None:
    """Scores must agree; classes may tie, and are held against the framework's afterwards."""
    for name, array in expected.items():
        if array.dtype.kind != "f":
            continue
        result = compare(name, array, got[name], tolerance)
        if result.rows_beyond:
            raise ParityError(
                f'output "{name}": {result.rows_beyond} of {result.rows} rows differ with the '
                f"pre-processing baked in{where} (largest difference {result.max_abs:.3g}, rtol "
                f"{tolerance.rtol:g}, atol {tolerance.atol:g}); if that does not matter for you, "
                "widen --rtol/--atol"
            )


def _prove_sizes(
    works: Mapping[str, Bake],
    few: Pictures,
    fed: Pictures,
    *,
    runs: tuple[Run, Run],
    tolerance: Tolerance,
    opset: int,
) -> list[str]:
    """Where pictures of any size are taken, take others: parts of the samples' own.

    Returns:
        The sizes.
    """
    plain, whole = runs
    resized = {name: work for name, work in works.items() if work.resize is not None}
    tried: dict[str, None] = {}
    for down, across in ((0.75, 0.5), (0.4, 1.0)) if resized else ():
        cut, ready = dict(few), dict(fed)
        for name, work in resized.items():
            cut[name] = _cut(few[name], work, down, across)
            ready[name] = preprocess(work, cut[name]).astype(fed[name].dtype)
            _prove_alone(name, work, cut[name], ready[name], opset)
        first, work = next(iter(resized.items()))
        sides = [cut[first].shape[work.layout.index(letter)] for letter in "HW"]
        where = f"{sides[0]}x{sides[1]}"
        _prove_answers(plain(ready), whole(cut), tolerance, f" on pictures of {where}")
        tried[where] = None
    return list(tried)


def _cut(pictures: Array, work: Bake, down: float, across: float) -> Array:
    """The upper left part of each picture."""
    shares = {"H": down, "W": across}
    parts = tuple(
        slice(0, max(1, int(size * shares.get(letter, 1.0))) if letter in shares else None)
        for letter, size in zip(work.layout, pictures.shape, strict=True)
    )
    return np.ascontiguousarray(pictures[parts])


def _look_at_tensorrt(works: Mapping[str, Bake], target: Target, checks: Checks) -> None:
    """TensorRT's parser refuses an antialiased Resize and takes no uint16."""
    if target.tensorrt is None:
        return
    lacks = {
        "an antialiased resize": any(w.resize and w.resize.antialias for w in works.values()),
        "uint16": any(w.dtype == "uint16" for w in works.values()),
    }
    for what in (word for word, is_used in lacks.items() if is_used):
        detail = (
            f"TensorRT {target.tensorrt} does not compute {what}: the device will serve it with "
            "ONNX Runtime alone"
        )
        checks.add(NAME, "remark", detail)
