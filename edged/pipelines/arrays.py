"""Steps on any tensors: computing, cutting, joining. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.config.pipeline import ConcatConfig, GatherConfig, SelectConfig
from edged.errors import FieldError
from edged.pipelines.expressions import evaluate, type_of_tree
from edged.pipelines.grammar import Tree, parse, references
from edged.pipelines.step import Values, Work
from edged.pipelines.types import type_of
from edged.tensors import DTYPES, Array, Axis, TensorSpec

RESULT = "value"
"""What steps with one output call it; nobody needs to write it."""


def compute_work(text: str) -> Work:
    """An expression.

    Raises:
        FieldError: it cannot be read.
    """
    tree = parse(text, "compute")
    reads = dict.fromkeys(references(tree))
    if not reads:
        raise FieldError("compute", "uses no value of the pipeline; write what it computes with")
    return Work(
        {name: name for name in reads},
        lambda inputs: [_spec(tree, inputs)],
        lambda values: {RESULT: evaluate(tree, values)},
    )


def _spec(tree: Tree, inputs: Mapping[str, TensorSpec]) -> TensorSpec:
    types = {name: type_of(spec) for name, spec in inputs.items()}
    return type_of_tree(tree, types, "compute").spec(RESULT)


def select_work(config: SelectConfig) -> Work:
    """A part along one axis, as a view.

    Raises:
        FieldError: settings that exclude each other.
    """
    if config.at is not None and (config.start or config.stop is not None):
        raise FieldError("select.at", "excludes start and stop; write one or the other")
    if config.at is not None and config.reverse:
        raise FieldError("select.reverse", "has no order to turn round with at")
    if config.stop is not None and config.stop <= config.start:
        raise FieldError("select.stop", f"leaves nothing; expected more than {config.start}")

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        axis = axis_of("select.axis", config.axis, spec)
        length, before, after = spec.shape[axis], spec.shape[:axis], spec.shape[axis + 1 :]
        if config.at is not None:
            if isinstance(length, int) and not -length <= config.at < length:
                raise FieldError("select.at", f"{spec} has no entry {config.at} on axis {axis}")
            return [TensorSpec(RESULT, spec.dtype, (*before, *after))]
        left: Axis = length if not config.start else "*part"
        if isinstance(length, int):
            stop = length if config.stop is None else config.stop
            if stop > length or config.start >= stop:
                raise FieldError("select", f"{spec} has {length} entries on axis {axis}")
            left = stop - config.start
        elif config.stop is not None:
            raise FieldError(
                "select.stop", f"how many entries axis {axis} of {spec} has is not known"
            )
        return [TensorSpec(RESULT, spec.dtype, (*before, left, *after))]

    def run(values: Values) -> Values:
        array = values["from"]
        part = slice(config.start, config.stop) if config.at is None else config.at
        index: list[Any] = [slice(None)] * array.ndim
        index[config.axis] = part
        try:
            taken = array[tuple(index)]
        except IndexError as exc:
            raise ValueError(f"axis {config.axis} has no entry {config.at}") from exc
        return {RESULT: np.flip(taken, config.axis) if config.reverse else taken}

    return Work({"from": config.from_}, outputs, run)


def axis_of(path: str, axis: int, spec: TensorSpec) -> int:
    """An axis counted from the front; raises FieldError at ``path`` where there is none."""
    rank = len(spec.shape)
    if not -rank <= axis < rank:
        raise FieldError(path, f"{spec} has {rank} axes; there is no axis {axis}")
    return axis % rank


def concat_work(config: ConcatConfig) -> Work:
    """Several tensors as one."""

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        specs = list(inputs.values())
        first = specs[0]
        axis = axis_of("concat.axis", config.axis, first)
        total: Axis = 0
        for index, spec in enumerate(specs):
            same = (spec.dtype, len(spec.shape)) == (first.dtype, len(first.shape))
            if not same or any(
                a != b
                for place, (a, b) in enumerate(zip(first.shape, spec.shape, strict=False))
                if place != axis
            ):
                raise FieldError(
                    f"concat.from[{index}]", f"is {spec}, which cannot be joined to {first}"
                )
            length = spec.shape[axis]
            total = total + length if isinstance(length, int) and isinstance(total, int) else "*sum"
        return [
            TensorSpec(RESULT, first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))
        ]

    def run(values: Values) -> Values:
        return {RESULT: np.concatenate(list(values.values()), axis=config.axis)}

    return Work({str(i): ref for i, ref in enumerate(config.from_)}, outputs, run)


def first_work(refs: Sequence[str]) -> Work:
    """The first of several that was made."""

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        specs = list(inputs.values())
        first = specs[0]
        for index, spec in enumerate(specs):
            if (spec.dtype, spec.shape) != (first.dtype, first.shape):
                raise FieldError(f"first[{index}]", f"is {spec}; the one before is {first}")
        return [TensorSpec(RESULT, first.dtype, first.shape)]

    def run(values: Values) -> Values:
        return {RESULT: next(iter(values.values()))}

    return Work({str(i): ref for i, ref in enumerate(refs)}, outputs, run, "first")


def gather_work(config: GatherConfig) -> Work:
    """What was made for each item as one tensor, joined along axis 0."""
    made: list[TensorSpec] = []

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if not spec.shape:
            raise FieldError("gather.from", f"is {spec} for each item; it has no axis to join")
        made[:] = [spec]
        return [TensorSpec(RESULT, spec.dtype, ("*items", *spec.shape[1:]))]

    def run(values: Mapping[str, Sequence[Array]]) -> Values:
        items = values["from"]
        if not items:
            spec = made[0]
            rest = [axis if isinstance(axis, int) else 0 for axis in spec.shape[1:]]
            return {RESULT: np.zeros((0, *rest), DTYPES[spec.dtype].numpy)}
        return {RESULT: _joined(items, config.pad)}

    return Work({"from": config.from_}, outputs, run, "gather")


def _joined(items: Sequence[Array], pad: float) -> Array:
    sizes = [max(lengths) for lengths in zip(*(item.shape[1:] for item in items), strict=True)]
    if all(list(item.shape[1:]) == sizes for item in items):
        return np.concatenate(items)
    rows = sum(item.shape[0] for item in items)
    joined = np.full((rows, *sizes), pad, items[0].dtype)
    start = 0
    for item in items:
        place = [slice(start, start + item.shape[0]), *map(slice, item.shape[1:])]
        joined[tuple(place)] = item
        start += item.shape[0]
    return joined
