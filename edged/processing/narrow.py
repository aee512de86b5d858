"""A model's input as the codec of a part of it sees it: one row of a window, or some columns.

Decides whether an input can be put together of such parts. Pure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from edged.errors import FieldError
from edged.manifest import Manifest, TensorEntry
from edged.specs import FeaturesInput
from edged.tensors import BATCH, DTYPES, TensorSpec

MOST_WINDOW_BYTES = 1 << 20
"""A window is copied for every message of its key, and written to disk for many."""


class WindowShape(NamedTuple):
    """How rows become an input.

    Args:
        name: of the input.
        row: shape of one row.
        whole: shape of the input, for one window.
        dtype: of both.
    """

    name: str
    row: tuple[int, ...]
    whole: tuple[int, ...]
    dtype: str


def for_windows(
    manifest: Manifest, rows: int, input_name: str | None
) -> tuple[Manifest, WindowShape]:
    """The manifest for a codec of rows, and how they are put together.

    The input is float32[batch, rows, 3] or without ``batch``, and a row three numbers; or it is
    float32[batch, 768], and a window of 256 rows is three numbers after three.

    Raises:
        FieldError: ``input`` or ``window.rows`` cannot fit the model.
    """
    spec = _only(manifest, input_name, "window")
    axes = spec.shape[1:] if spec.is_batched else spec.shape
    first, rest = (axes[0], axes[1:]) if axes else (0, ())
    if any(isinstance(axis, str) for axis in rest) or not axes:
        raise _unfit(spec, rows)
    row = tuple(int(axis) for axis in rest)
    if isinstance(first, int) and first != rows:
        if row or first % rows:
            raise _unfit(spec, rows)
        row, axes = (first // rows,), (first,)
    else:
        axes = (rows, *row)
    whole = (1, *axes) if spec.is_batched else axes
    size = rows * math.prod(row) * DTYPES[spec.dtype].size_bytes
    if size > MOST_WINDOW_BYTES:
        text = f"make windows of {size} bytes; at most {MOST_WINDOW_BYTES} can be"
        raise FieldError("window.rows", text)
    width = math.prod(row) if len(row) < 2 else 0
    narrow = _with_input(manifest, spec, (BATCH, *(row or (1,))), 0, width)
    return narrow, WindowShape(spec.name, row or (1,), tuple(int(n) for n in whole), spec.dtype)


def for_columns(
    manifest: Manifest, input_name: str | None, counts: tuple[int, ...]
) -> tuple[str, tuple[Manifest, ...]]:
    """The input's name, and for each part of its columns a manifest for the codec of that part.

    Raises:
        FieldError: ``input`` or ``join`` cannot fit the model.
    """
    spec = _only(manifest, input_name, "join")
    total = sum(counts)
    if not spec.is_batched or len(spec.shape) != 2:
        text = f'needs an input of rows and columns; model "{manifest.name}" takes {spec}'
        raise FieldError("join", text)
    if isinstance(spec.shape[1], int) and spec.shape[1] != total:
        text = f'{" + ".join(map(str, counts))} columns are {total}; input "{spec.name}" is {spec}'
        raise FieldError("join", text)
    parts, start = [], 0
    for count in counts:
        parts.append(_with_input(manifest, spec, (BATCH, count), start, count))
        start += count
    return spec.name, tuple(parts)


def _only(manifest: Manifest, name: str | None, what: str) -> TensorSpec:
    specs = manifest.input_specs()
    known = ", ".join(f'"{spec.name}"' for spec in specs)
    if len(specs) > 1:
        text = f'fills one input; model "{manifest.name}" takes {known}'
        raise FieldError(what, text)
    if name is not None and specs[0].name != name:
        raise FieldError("input", f'model "{manifest.name}" has no input "{name}"; it has {known}')
    if specs[0].dtype not in DTYPES:
        text = f'model "{manifest.name}" takes {specs[0]}, which no payload becomes'
        raise FieldError("codec", text)
    return specs[0]


def _unfit(spec: TensorSpec, rows: int) -> FieldError:
    return FieldError(
        "window.rows",
        f'{rows} rows are not input "{spec.name}" {spec}; expected an axis of so many rows before '
        "fixed ones, or one axis of a multiple",
    )


def _with_input(
    manifest: Manifest, spec: TensorSpec, shape: tuple[int | str, ...], start: int, width: int
) -> Manifest:
    """The same with another shape; of the columns' names, those that are in it."""
    work = manifest.input_processing.get(spec.name)
    processing = dict(manifest.input_processing)
    if isinstance(work, FeaturesInput):
        names = work.names[start : start + width]
        words = {name: one for name, one in work.words.items() if name in names}
        del processing[spec.name]
        if width and len(names) == width:
            processing[spec.name] = FeaturesInput(names=names, words=words)
    return msgspec.structs.replace(
        manifest,
        inputs=(TensorEntry(spec.name, spec.dtype, shape),),
        input_processing=processing,
    )
