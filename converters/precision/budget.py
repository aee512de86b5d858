"""The accuracy budget: what a lower precision may lose, and the refusal of what loses more. Pure.

Largest differences say little here: on a trained digits network int8 moved a logit by 0.15 and
no label. So it is judged by the task: right answers where they are known, else labels that stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from converters.errors import ConversionError, ParityError
from edged.tensors import Array

Metric = Literal["accuracy", "label agreement", "error"]


@dataclass(frozen=True)
class Judged:
    """What a lower precision costs.

    Args:
        metric: ``accuracy`` on known answers; ``label agreement`` with float32; or, for outputs
            without classes, ``error``: the root mean square of the difference as a share of the
            output's own spread.
        output: the output that it was judged by: of several, the one that loses most.
        rows: rows that were judged.
        before: float32's figure: its accuracy; 1 or 0 for the other two, which are told of it.
        after: the lower precision's figure.
    """

    metric: Metric
    output: str
    rows: int
    before: float
    after: float

    @property
    def lost(self) -> float:
        """The share that is lost; below 0 where it got better."""
        return self.after - self.before if self.metric == "error" else self.before - self.after


def judge(expected: Mapping[str, Array], got: Mapping[str, Array], truth: Array | None) -> Judged:
    """Hold the answers of a lower precision against those of float32.

    Args:
        expected: float32's, rows first.
        got: the lower precision's.
        truth: the right class of every row (int64), where it is known.

    Raises:
        ConversionError: answers are known and no output gives classes, or not so many.
        ParityError: NaN or infinity came out.
    """
    for name, array in got.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ParityError(
                f'int8: output "{name}" is not finite for some sample; keep precision float32'
            )
    if truth is not None:
        name = _labels(expected)
        _check_truth(name, expected[name], truth)
        shares = [float(np.mean(_classes(side[name]) == truth)) for side in (expected, got)]
        return Judged("accuracy", name, len(truth), *shares)
    same = {}
    for name, array in expected.items():
        before, after = _classes(array), _classes(got[name])
        if before is not None and after is not None:
            same[name] = float(np.mean(before == after))
    if same:
        name = min(same, key=lambda key: same[key])
        return Judged("label agreement", name, len(expected[name]), 1.0, same[name])
    errors = {name: _error(array, got[name]) for name, array in expected.items()}
    name = max(errors, key=lambda key: errors[key])
    return Judged("error", name, len(expected[name]), 0.0, errors[name])


def refuse_loss(judged: Judged, budget: float) -> None:
    """Refuse what loses more than it may.

    Args:
        judged: what was measured.
        budget: the largest share that may be lost.

    Raises:
        ParityError: says the loss, the budget and what to do.
    """
    if judged.lost <= budget + 1e-12:
        return
    raise ParityError(
        f"int8 loses {tell(judged)}; the budget is {percent(budget)}. Calibrate on more rows "
        "that look like the device's (--calibration), try calibration_method: percentile, allow "
        "more (--max-accuracy-drop), or keep precision float32"
    )


def tell(judged: Judged) -> str:
    """The loss in words."""
    where = f'of output "{judged.output}" on {judged.rows} rows'
    if judged.metric == "accuracy":
        return (
            f"{percent(judged.lost)} of accuracy ({percent(judged.before)} → "
            f"{percent(judged.after)} {where})"
        )
    if judged.metric == "label agreement":
        return f"{percent(judged.lost)} of the labels {where} (they differ from float32's)"
    return f"{percent(judged.lost)} of the spread {where} (root mean square of the error)"


def percent(share: float) -> str:
    """``0.0052`` as ``0.52%``."""
    return f"{share:.2%}"


def _classes(array: Array) -> Array | None:
    """The class of each row, where an output gives one."""
    if array.dtype.kind in "iu" and array.size == len(array):
        return array.reshape(-1)
    if array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] > 1:
        best: Array = array.argmax(axis=1)
        return best
    return None


def _labels(expected: Mapping[str, Array]) -> str:
    """The output that names the class: a label before scores, whose places need not be its name."""
    found = [name for name, array in expected.items() if _classes(array) is not None]
    found.sort(key=lambda name: expected[name].dtype.kind == "f")
    if not found:
        raise ConversionError(
            "truth: right answers were given, and no output gives a class a row (a whole number, "
            "or a score for each class); leave truth out to judge by the error instead"
        )
    return found[0]


def _check_truth(name: str, expected: Array, truth: Array) -> None:
    if expected.dtype.kind == "f" and not (truth.min() >= 0 and truth.max() < expected.shape[1]):
        raise ConversionError(
            f'truth: expected classes from 0 to {expected.shape[1] - 1}, the places of output "'
            f'{name}", got {truth.min()} to {truth.max()}'
        )


def _error(expected: Array, got: Array) -> float:
    wide = expected.astype(np.float64)
    spread = float(wide.std())
    gap = float(np.sqrt(np.mean((got.astype(np.float64) - wide) ** 2)))
    if spread > 0:
        return gap / spread
    return 0.0 if gap == 0 else 1.0
