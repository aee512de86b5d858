"""Which rows travel with a bundle: real ones spread evenly, the nearest to failing, the edge cases.

A device runs them before a release serves, so they must be rows on which every right runtime gives
one answer. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from converters.edges import Edge
from converters.errors import ConversionError
from converters.parity import OutputParity
from converters.samples import spread
from edged.tensors import Array


def choose_rows(wanted: int, parity: Sequence[OutputParity], doubtful: frozenset[int]) -> list[int]:
    """Sample rows that travel: evenly spread, and the one nearest to failing of each output.

    Raises:
        ConversionError: there is none whose best class is not a tie.
    """
    rows = [row for row in range(parity[0].rows) if row not in doubtful]
    if not rows:
        raise ConversionError(
            "the best class of every sample is a tie: is the model trained, are the samples real?"
        )
    worst = {result.worst_row for result in parity}.intersection(rows)
    picked = spread(len(rows), max(1, wanted - len(worst)))
    return sorted(worst.union(rows[index] for index in picked))


def gather(
    samples: Mapping[str, Array],
    expected: Mapping[str, Array],
    rows: Sequence[int],
    edges: Mapping[str, Edge],
) -> dict[str, Array]:
    """The tensors of the golden file: chosen rows first, then an edge case a row.

    Args:
        samples: inputs by name.
        expected: the framework's answers by name.
        rows: those that travel; none for a model without rows, whose one call travels whole.
        edges: by name, in the order of the rows.
    """
    made = list(edges.values())
    inputs = {name: [edge[0][name] for edge in made] for name in samples}
    outputs = {name: [edge[1][name] for edge in made] for name in expected}
    tensors = {f"in.{name}": _join(array, rows, inputs[name]) for name, array in samples.items()}
    for name, array in expected.items():
        tensors[f"out.{name}"] = _join(array, rows, outputs[name])
    return tensors


def _join(array: Array, rows: Sequence[int], more: Sequence[Array]) -> Array:
    if not rows:
        return np.array(array, order="C")  # keeps a scalar a scalar
    return np.ascontiguousarray(np.concatenate([array[list(rows)], *more]))
