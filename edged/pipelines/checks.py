"""What a step has made against what was promised, and errors that say where they happened."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.errors import EdgedError, InvalidRequestError, RunError
from edged.pipelines.expressions import evaluate
from edged.pipelines.grammar import Tree
from edged.tensors import DTYPES, Array, TensorSpec, describe

log = logging.getLogger("edged.pipelines")


MOST_MADE = 1 << 26
"""Values that a step makes of fewer: 256 MB of float32, 70 minutes of sound in mel bands. How far a
step grows is the operator's word, but of how much, the sender's."""


def check_growth(made: int, given: int) -> None:
    """Refuse what would take more memory than anybody meant; raises ValueError.

    Args:
        made: values that a step would make.
        given: values that it makes them of.
    """
    if made > max(MOST_MADE, given):
        raise ValueError(f"{given} values would become {made}; the limit is {MOST_MADE}")


def size_of(given: Mapping[str, Any]) -> int:
    """Bytes of arguments, of all items."""
    return sum(
        sum(one.nbytes for one in value if one is not None)
        if isinstance(value, list)
        else value.nbytes
        if value is not None
        else 0
        for value in given.values()
    )


def check_promise(promised: Sequence[TensorSpec], outputs: Mapping[str, Array]) -> None:
    """Hold what an installed package's step made against what it foretold.

    Raises:
        RunError: names the output.
    """
    for spec in promised:
        array = outputs.get(spec.name)
        is_right = (
            isinstance(array, np.ndarray)
            and array.dtype == DTYPES[spec.dtype].numpy
            and array.ndim == len(spec.shape)
            and all(
                isinstance(axis, str) or axis == length
                for axis, length in zip(spec.shape, array.shape, strict=True)
            )
        )
        if not is_right:
            got = describe(array) if isinstance(array, np.ndarray) else "nothing of use"
            raise RunError(f'made {got} for "{spec.name}" where it promised {spec}')


def named(error: EdgedError, where: str) -> EdgedError:
    """The same error, saying where it happened."""
    made = copy.copy(error)
    made.message = f"{where}: {error.message}"
    made.args = (made.message,)
    return made


def unexpected(exc: BaseException) -> EdgedError:
    """What the caller is told of an exception: the words of a ValueError, of others nothing."""
    if isinstance(exc, ValueError):
        return InvalidRequestError(str(exc)[:512])
    log.error("a step failed in an unexpected way", exc_info=exc)
    return RunError("failed in an unexpected way; see the daemon's log")


def rows_of(specs: Sequence[TensorSpec], given: Mapping[str, Array]) -> int:
    """How many rows a model is asked about; 1 where it knows no rows."""
    for spec in specs:
        if spec.is_batched:
            return int(given[spec.name].shape[0])
    return 1


def nothing(promised: Sequence[TensorSpec], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The outputs of a model that was asked about no rows."""
    made = {}
    for spec, own in zip(promised, specs, strict=True):
        axes = [axis if isinstance(axis, int) else 0 for axis in own.shape]
        made[spec.name] = np.zeros(axes, DTYPES[spec.dtype].numpy)
    return made


def holds(when: Tree, values: Mapping[str, Any], index: int | None) -> bool:
    """Whether a condition holds, of one item or of all; of what is missing it does not."""
    asked = {n: v[index or 0] if isinstance(v, list) else v for n, v in values.items()}
    return all(value is not None for value in asked.values()) and bool(evaluate(when, asked))
