"""Requests that were answered, as one question: what asking costs is paid once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edged.rollout.agreement import agree
from edged.tensors import Array

Inputs = Mapping[str, Array]


class Copy(NamedTuple):
    """A request that has been answered: its inputs, what it was answered, by which generation."""

    inputs: Inputs
    wanted: Inputs
    generation: int


def together(copies: Sequence[Copy], most_rows: int) -> Copy | None:
    """Several as the rows of one; None where they are not: each is to be asked for itself.

    Args:
        copies: at least one.
        most_rows: of the one.
    """
    if len(copies) == 1:
        return copies[0]
    counts = [_rows(copy) for copy in copies]
    if not all(counts) or sum(counts) > most_rows:
        return None
    inputs = _stacked([copy.inputs for copy in copies])
    wanted = _stacked([copy.wanted for copy in copies])
    if inputs is None or wanted is None:
        return None
    return Copy(inputs, wanted, copies[0].generation)


def differing(got: Inputs, parts: Sequence[Copy], tolerance: float) -> int:
    """How many of those that were asked together have another answer than they had.

    Args:
        got: the answer to all of them.
        parts: in the order of its rows.
        tolerance: as for ``agree``.
    """
    if len(parts) == 1:
        return int(not agree(got, parts[0].wanted, tolerance))
    count = at = 0
    for part in parts:
        rows = _rows(part)
        mine = {name: array[at : at + rows] for name, array in got.items() if array.ndim}
        count += not agree(mine, part.wanted, tolerance)
        at += rows
    return count


def _rows(copy: Copy) -> int:
    """The rows that all of its tensors have; 0 where they do not have as many."""
    rows = 0
    for tensors in copy[:2]:
        for array in tensors.values():
            count = len(array) if array.ndim else 0
            if not count or (rows and count != rows):
                return 0
            rows = count
    return rows


def _stacked(parts: Sequence[Inputs]) -> Inputs | None:
    """Their rows behind one another; None where they are not of one form."""
    made: dict[str, Array] = {}
    for name, first in parts[0].items():
        form, arrays = (first.dtype, first.shape[1:]), [part.get(name) for part in parts]
        found = [one for one in arrays if one is not None and (one.dtype, one.shape[1:]) == form]
        if len(found) < len(parts):
            return None
        made[name] = np.concatenate(found)
    return made if all(len(part) == len(made) for part in parts) else None
