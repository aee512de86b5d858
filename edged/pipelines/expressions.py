"""What expressions mean: the type that one gives, and its value. Pure.

Numbers adapt to the tensor beside them: ``x / 255`` of float32 is float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edged.errors import FieldError
from edged.pipelines.functions import FUNCTIONS, OVER_AXES, Function
from edged.pipelines.grammar import Call, Number, Ref, Tree, references
from edged.pipelines.types import MOST_AXES, ValueType
from edged.tensors import DTYPES, Array, Axis

MOST_GROWN = 1 << 22
"""Values of what is larger than all that it was made of, as rows against columns. A peer says how
long its axes are, and 100 KB could ask for 600 MB; 2,000 against 2,000 is enough for a table."""


def type_of_tree(tree: Tree, types: Mapping[str, ValueType], path: str) -> ValueType:
    """What an expression gives.

    Args:
        tree: of ``parse``.
        types: of every reference.
        path: of the field, for problems.

    Raises:
        FieldError: shapes or dtypes that do not go together; says which.
    """
    kind, shape = _typed(tree, types, path)
    if not isinstance(kind, str):
        kind = "bool" if isinstance(kind, bool) else "int64" if isinstance(kind, int) else "float64"
    each = next((one.each for one in map(types.__getitem__, references(tree)) if one.each), "")
    return ValueType(kind, shape, each)


def _typed(
    tree: Tree, types: Mapping[str, ValueType], path: str
) -> tuple[str | float | bool, tuple[Axis, ...]]:
    """Dtype (or the number itself, which adapts) and shape."""
    if isinstance(tree, Number):
        return tree.value, ()
    if isinstance(tree, Ref):
        return types[tree.text].dtype, types[tree.text].shape
    parts = [_typed(operand, types, path) for operand in tree.operands]
    function = FUNCTIONS[tree.name]
    shape = _shape_of(tree, function, [shape for _, shape in parts], path)
    probes = [_probe(kind) for kind, _ in parts]
    try:
        with np.errstate(all="ignore"):
            if function.kind in OVER_AXES:
                made = function.compute(probes[0].reshape(1), axis=0)
            else:
                made = function.compute(*probes)
    except (TypeError, ValueError) as exc:
        kinds = " and ".join(str(kind) for kind, _ in parts)
        raise FieldError(path, f'"{tree.name}" cannot be done with {kinds}') from exc
    name = np.asarray(made).dtype.name
    if name not in DTYPES:
        raise FieldError(path, f'"{tree.name}" would give {name}, which is no dtype here')
    return name, shape


def _probe(kind: str | float | bool) -> Any:
    return np.ones((1,), DTYPES[kind].numpy) if isinstance(kind, str) else kind


def _shape_of(
    tree: Call, function: Function, shapes: list[tuple[Axis, ...]], path: str
) -> tuple[Axis, ...]:
    if function.kind not in OVER_AXES:
        return broadcast(shapes, f'"{tree.name}"', path)
    shape, axis = shapes[0], tree.axis
    if axis is None:
        return ()
    if function.kind == "expand":
        return _expanded(tree.name, shape, axis, path)
    if not -len(shape) <= axis < len(shape):
        text = f"{tree.name} over axis {axis} of {list(shape)}, which has {len(shape)} axes"
        raise FieldError(path, text)
    if function.kind == "along":
        return shape
    gone = axis % len(shape)
    return (*shape[:gone], *shape[gone + 1 :])


def _expanded(name: str, shape: tuple[Axis, ...], axis: int, path: str) -> tuple[Axis, ...]:
    rank = len(shape) + 1
    if rank > MOST_AXES or not -rank <= axis < rank:
        text = f"{name} of {list(shape)} with axis {axis}: it would have {rank} axes"
        raise FieldError(path, f"{text}, at most {MOST_AXES} may be")
    place = axis % rank
    return (*shape[:place], 1, *shape[place:])


def broadcast(shapes: list[tuple[Axis, ...]], what: str, path: str) -> tuple[Axis, ...]:
    """The common shape, by NumPy's rules; a free axis goes with itself and with 1.

    Raises:
        FieldError: there is none for certain.
    """
    rank = max(len(shape) for shape in shapes)
    common: list[Axis] = []
    for index in range(-rank, 0):
        axes = {shape[index] for shape in shapes if len(shape) >= -index} - {1}
        if len(axes) > 1:
            listed = " and ".join(f"[{','.join(map(str, shape))}]" for shape in shapes)
            raise FieldError(path, f"{what}: shapes {listed} do not go together")
        common.append(axes.pop() if axes else 1)
    return tuple(common)


def evaluate(tree: Tree, values: Mapping[str, Array]) -> Array:
    """Compute an expression; what cannot be computed is NaN or an infinity, never an error.

    Args:
        tree: whose types were found good.
        values: an array for each reference.

    Raises:
        ValueError: it would make too much of too little; see ``MOST_GROWN``.
    """
    with np.errstate(all="ignore"):
        return np.asarray(_computed(tree, values))


def _computed(tree: Tree, values: Mapping[str, Array]) -> Any:
    if isinstance(tree, Number):
        return tree.value
    if isinstance(tree, Ref):
        return values[tree.text]
    function = FUNCTIONS[tree.name]
    operands = [_computed(operand, values) for operand in tree.operands]
    if (
        function.kind == "reduce"
        and operands[0].size == 0
        and tree.name in ("min", "max", "argmax")
    ):
        # Of no boxes at all: there is no best one, and no condition on it holds.
        return np.zeros(np.sum(operands[0], axis=tree.axis).shape, operands[0].dtype)
    if function.kind in OVER_AXES:
        return function.compute(operands[0], axis=tree.axis)
    if len(operands) > 1:
        _check_growth(tree.name, operands)
    return function.compute(*operands)


def _check_growth(name: str, operands: list[Any]) -> None:
    sizes = [operand.size for operand in operands if isinstance(operand, np.ndarray)]
    if math.prod(sizes) <= MOST_GROWN:
        return
    shape = np.broadcast_shapes(*(np.shape(operand) for operand in operands))
    if math.prod(shape) > max(MOST_GROWN, *sizes):
        text = f'"{name}" would make {list(shape)}; the limit is {MOST_GROWN} values'
        raise ValueError(f"{text} where something grows")
