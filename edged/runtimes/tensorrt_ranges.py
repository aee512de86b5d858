"""The ranges of shapes that an engine is built for: one optimisation profile or several.

Pure. The free batch axis runs from one row to ``max_batch``, and each number of ``exact`` has a
profile of its own beside; an accelerator that takes no free axes has ``max_batch`` rows always. Any
other free axis has the range that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from edged.errors import LoadError
from edged.runtimes.engine import BuildOptions
from edged.tensors import BATCH, TensorSpec

Ends = tuple[int, int, int]
"""Shortest, usual and longest length."""
Range = tuple[tuple[int, ...], ...]
"""The same three of a whole shape."""


def ranges_of(
    where: str,
    specs: Mapping[str, TensorSpec],
    shapes: Mapping[str, tuple[int, ...]],
    options: BuildOptions,
) -> list[dict[str, Range]]:
    """What each profile holds, by input; empty where no axis is free.

    Args:
        where: the model, for messages.
        specs: its inputs as promised.
        shapes: its inputs as TensorRT read them; -1 is free.
        options: of the build.

    Raises:
        LoadError: an axis is free that has no range; says how to give one.
    """
    free = {name: shape for name, shape in shapes.items() if -1 in shape}
    if not free:
        return []
    has_batch = any(BATCH in specs[name].shape for name in free)
    return [
        {name: _range(where, specs[name], shape, options, rows) for name, shape in free.items()}
        for rows in _rows(where, options, has_batch=has_batch)
    ]


def _rows(where: str, options: BuildOptions, *, has_batch: bool) -> list[Ends]:
    most = options.max_batch
    if options.dla >= 0:
        return [(most, most, most)]
    usual = min(options.usual_batch or most, most)
    if beyond := [n for n in options.exact if not 1 <= n <= most]:
        raise LoadError(
            f"{where}: a profile for exactly {beyond[0]} rows does not lie in 1 to max_batch, "
            f"which is {most}"
        )
    exact = dict.fromkeys(options.exact) if has_batch else ()
    return [(1, usual, most), *((n, n, n) for n in exact)]


def _range(
    where: str, spec: TensorSpec, shape: tuple[int, ...], options: BuildOptions, rows: Ends
) -> Range:
    if len(shape) != len(spec.shape):
        raise LoadError(f'{where}: input "{spec.name}" is {shape}; promised is {spec}')
    ends = {**options.axes, BATCH: rows}
    ranges: list[Ends] = []
    for length, axis in zip(shape, spec.shape, strict=True):
        if length != -1:
            ranges.append((length,) * 3)
        elif isinstance(axis, int):
            ranges.append((axis,) * 3)
        elif axis not in ends:
            raise LoadError(
                f'{where}: axis "{axis}" of input "{spec.name}" is free; TensorRT needs '
                f"its shortest, usual and longest length: axes: {{{axis}: [1, 8, 64]}}"
            )
        elif options.dla >= 0 and len(set(ends[axis])) > 1:
            raise LoadError(
                f'{where}: axis "{axis}" of input "{spec.name}" is free, which a deep learning '
                f"accelerator does not take: give it one length: axes: {{{axis}: [64, 64, 64]}}"
            )
        else:
            ranges.append(ends[axis])
    return tuple(tuple(one[end] for one in ranges) for end in range(3))
