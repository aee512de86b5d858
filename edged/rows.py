"""Rows along whichever axis each tensor has them on. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edged.manifest import Manifest
from edged.tensors import BATCH, Array

Axes = Mapping[str, int]
"""By a tensor's name, the axis that its rows are on."""


def row_axes(manifest: Manifest) -> Axes | None:
    """Where the rows of every input and output are; None where one of them has none.

    Requests are stacked along the first axis alone; a model's states may have theirs elsewhere.
    """
    specs = (*manifest.input_specs(), *manifest.output_specs())
    if any(spec.shape.count(BATCH) != 1 for spec in specs):
        return None
    return {spec.name: spec.shape.index(BATCH) for spec in specs}


def first_row(arrays: Mapping[str, Array], axes: Axes) -> dict[str, Array]:
    """The first row of each, as arrays of one row."""
    return {name: array.take([0], axis=axes[name]) for name, array in arrays.items()}


def repeat_row(arrays: Mapping[str, Array], axes: Axes, rows: int) -> dict[str, Array]:
    """So many times the one row of each."""
    return {name: np.repeat(array, rows, axis=axes[name]) for name, array in arrays.items()}
