"""Whether a session gives the numbers that its bundle promises. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edged.errors import GoldenMismatchError
from edged.manifest import Tolerance
from edged.tensors import BFLOAT16, Array, from_bfloat16


def compare(
    got: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerances: Mapping[str, Tolerance],
    owner: str,
) -> None:
    """Hold outputs against what the bundle promises.

    Raises:
        GoldenMismatchError: names the output, the worst element, and the tolerance.
    """
    for name, wanted in expected.items():
        array = got.get(name)
        if array is None or array.shape != wanted.shape:
            shape = "nothing" if array is None else str(list(array.shape))
            raise GoldenMismatchError(
                f'{owner}: golden output "{name}" should have shape {list(wanted.shape)}; '
                f"got {shape}"
            )
        if wanted.dtype.kind in "biuO":
            differing = int(np.count_nonzero(array != wanted))
            if differing:
                raise GoldenMismatchError(
                    f'{owner}: golden output "{name}" differs in {differing} of {wanted.size} '
                    "elements"
                )
            continue
        _compare_floats(array, wanted, tolerances.get(name, Tolerance()), f'{owner}: "{name}"')


def _compare_floats(got: Array, wanted: Array, tolerance: Tolerance, where: str) -> None:
    a, b = _wide(got), _wide(wanted)
    if not np.isfinite(a).all():
        raise GoldenMismatchError(f"{where} gives NaN or infinity on the golden samples")
    if not np.isfinite(b).all():
        # NaN in the expected values would make every comparison false.
        raise GoldenMismatchError(f"{where}: its golden samples promise NaN or infinity")
    error = np.abs(a - b)
    beyond = error > tolerance.atol + tolerance.rtol * np.abs(b)
    if beyond.any():
        worst = int(np.argmax(error - tolerance.rtol * np.abs(b)))
        raise GoldenMismatchError(
            f"{where} does not reproduce the golden samples: {int(beyond.sum())} of {b.size} "
            f"elements are off, the worst by {float(error.flat[worst]):.3g} "
            f"(tolerance atol {tolerance.atol:g}, rtol {tolerance.rtol:g})"
        )


def _wide(array: Array) -> Array:
    return (from_bfloat16(array) if array.dtype == BFLOAT16 else array).astype(np.float64)
