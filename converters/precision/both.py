"""A bundle with the proven float32 model and the int8 one made from it, for the device to choose.

Decides whether int8 goes in at all: inside the accuracy budget, or not. A device then serves the
one that it measures to be faster (``edged/serving/choosing/choice.py``); no figure of ours decides
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from converters.compose import Packed, pack_as_proven
from converters.errors import ParityError, UnsupportedModelError
from converters.gate.prove import Proven
from converters.golden import gather
from converters.precision.lower import lower
from converters.recipe import Recipe
from converters.sandbox import Converted
from edged.tensors import Array


def pack_both(
    recipe: Recipe,
    converted: Converted,
    proven: Proven,
    truth: Array | None,
    contents: Mapping[str, str],
    *,
    columns: Sequence[str] = (),
    keep: Path | None = None,
) -> Packed:
    """The proven model, and beside it the int8 one where that is worth having.

    All answer the same golden rows, which are fit for all; rows that int8 has no place for
    (missing values) come last, and are float32's alone.

    Args:
        recipe: names the calibration file and the budget.
        converted: has the source's own names of inputs and outputs.
        proven: the float32 model, its samples and answers.
        truth: the right class of every sample, where it is known.
        contents: sha256 of what the recipe points to.
        columns: names of the samples' columns.
        keep: the file of the ranges so far, for a run after this one was cut off.

    Raises:
        ConversionError: what was given to calibrate on does not fit.
    """
    plain = pack_as_proven(recipe, proven)
    try:
        low = lower(recipe, converted, proven, truth, contents, columns=columns, keep=keep)
    except (ParityError, UnsupportedModelError) as exc:
        proven.checks.add("int8", "remark", f"left out of the bundle: {exc.message}")
        return replace(plain, parity={"left_out": {"int8": exc.message}})
    names = (*low.edges, *(name for name in proven.edges if name not in low.edges))
    edges = {name: proven.edges[name] for name in names}
    return replace(
        plain,
        golden=gather(proven.samples, proven.expected, low.rows, edges),
        edges=names,
        parity=low.parity,
        provenance=low.provenance,
        also=low,
    )
