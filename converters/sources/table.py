"""One table of numbers, as scikit-learn and the boosters take it: float32[rows, columns].

Decides which column of the samples is which of the model's. A device sends float32, so the
framework is asked about the very float32 values that a device would send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from converters.errors import ConversionError
from converters.samples import UNNAMED, generate
from edged.tensors import Array

FEATURES = "features"
"""What the input is called where the samples have no name for it."""


def read_table(
    samples: Mapping[str, Array],
    columns: Sequence[str],
    names: Sequence[str],
    wanted: int,
    owner: str,
    *,
    generated: int = 0,
) -> Array:
    """The samples as float32[rows, wanted].

    Args:
        samples: one array.
        columns: the names of its columns where known.
        names: the columns that the model was fitted on, where it knows them; chosen by name when
            the samples have them all.
        wanted: how many columns the model takes.
        owner: what the model is, for messages: ``a scikit-learn model``.
        generated: rows to make where there are no samples; 0 for none.

    Raises:
        ConversionError: more than one array, or another number of columns.
    """
    if not samples and generated:
        samples = generate({FEATURES: ("float32", (wanted,))}, generated)
    if len(samples) != 1:
        raise ConversionError(
            f"{owner} takes one table; the samples hold {len(samples)} arrays "
            f"({', '.join(samples)}); save one array of rows and columns"
        )
    table = next(iter(samples.values()))
    if names and columns and set(names) <= set(columns):
        table = table[:, [list(columns).index(name) for name in names]]
    if table.ndim != 2 or table.shape[1] != wanted:
        raise ConversionError(
            f"the model takes {wanted} columns a row; the samples have shape {list(table.shape)}"
        )
    return np.ascontiguousarray(table, dtype=np.float32)


def input_name(samples: Mapping[str, Array]) -> str:
    """The samples' own name for the table, or FEATURES."""
    own = next(iter(samples), UNNAMED)
    return FEATURES if own == UNNAMED else own
