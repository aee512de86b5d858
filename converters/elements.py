"""Elements that NumPy has no numbers for: strings and bfloat16, as the gate computes with them.

In the converter, as in the daemon, a tensor of strings is an array of bytes objects and bfloat16 a
type of its own (``edged.tensors``). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from converters.errors import ConversionError
from edged.manifest import Tolerance
from edged.strings import STRINGS_CAP, strings
from edged.tensors import BFLOAT16, Array, from_bfloat16, to_bfloat16

SPECIAL = ("string", "bfloat16")
"""The dtypes that only an ONNX source may have."""
STEP = 2.0**-7
"""From one number of bfloat16 to the next, relative to it: it has three digits at most."""


def is_text(array: Array) -> bool:
    """Whether it holds strings."""
    return array.dtype.kind == "O"


def is_float(array: Array) -> bool:
    """Whether it holds numbers with digits behind the point, of any width."""
    return array.dtype.kind == "f" or array.dtype == BFLOAT16


def is_special(array: Array) -> bool:
    """Whether it holds what NumPy has no numbers for."""
    return is_text(array) or array.dtype == BFLOAT16


def numbers(array: Array) -> Array:
    """What can be computed with: bfloat16 as float32, which holds each; others as they are."""
    return from_bfloat16(array).reshape(array.shape) if array.dtype == BFLOAT16 else array


def has_nan(array: Array) -> bool:
    """Whether any of its numbers is none."""
    return is_float(array) and bool(np.isnan(numbers(array)).any())


def same(one: Array, other: Array) -> bool:
    """Whether two arrays hold the same; NaN is NaN."""
    equal_nan = is_float(one) and is_float(other)
    return np.array_equal(numbers(one), numbers(other), equal_nan=equal_nan)


def are_close(got: Array, wanted: Array, tolerance: Tolerance) -> Array:
    """Which elements agree: strings when they are equal, numbers within the tolerance."""
    if is_text(wanted) or is_text(got):
        return np.asarray(got == wanted, bool)
    allowed = settle_tolerance(wanted, tolerance)
    close: Array = np.isclose(
        numbers(got), numbers(wanted), allowed.rtol, allowed.atol, equal_nan=True
    )
    return close


def settle_tolerance(output: Array, tolerance: Tolerance) -> Tolerance:
    """What an output may differ by: in bfloat16 one step at least, unless nothing may differ."""
    is_exact = tolerance.rtol == 0 and tolerance.atol == 0
    if output.dtype != BFLOAT16 or is_exact or tolerance.rtol >= STEP:
        return tolerance
    return Tolerance(rtol=STEP, atol=tolerance.atol)


def from_file(array: Array, name: str) -> tuple[str, Array]:
    """An array of a samples file and its name, in our own types where it is text or bfloat16.

    Args:
        array: NumPy's strings, bfloat16 as the package ml_dtypes saves it, or numbers.
        name: ``NAME.bfloat16`` says that the uint16 in it are the bits of bfloat16.

    Raises:
        ValueError: text that UTF-8 cannot write.
    """
    if array.dtype.kind in "US":
        values = array.reshape(-1).tolist()
        try:
            held = [one if isinstance(one, bytes) else one.encode() for one in values]
        except UnicodeEncodeError as exc:
            raise ValueError(f'array "{name}": text that UTF-8 cannot write: {exc}') from exc
        return name, strings(held, array.shape)
    plain, _, kind = name.rpartition(".")
    if kind == "bfloat16" and plain and array.dtype == np.uint16:
        return plain, np.ascontiguousarray(array, "<u2").view(BFLOAT16)
    if array.dtype == np.dtype("V2") or array.dtype.name == "bfloat16":
        return name, np.ascontiguousarray(array).view(BFLOAT16)
    return name, array


def fit_special(array: Array, wanted: str, name: str) -> Array:
    """Bring samples to a dtype where they or it are special.

    Raises:
        ConversionError: words where numbers are wanted, or the other way round.
    """
    if wanted == "string" and is_text(array):
        return array
    if wanted == "string":
        raise ConversionError(
            f'samples: input "{name}" takes strings, the samples hold {array.dtype}: save them as '
            f'text, numpy.savez(file, {name}=array.astype("U"))'
        )
    if is_text(array):
        raise ConversionError(
            f'samples: input "{name}" takes {wanted}, the samples hold text: save numbers'
        )
    if wanted == "bfloat16":
        if array.dtype == BFLOAT16:
            return array
        rounded: Array = to_bfloat16(array.astype(np.float32)).reshape(array.shape)
        return rounded
    return numbers(array)


def refuse_many(kind: str, arrays: Iterable[tuple[str, Array]]) -> None:
    """Refuse more strings than any tensor of ours may have.

    Raises:
        ConversionError: names the tensor, and how many there may be.
    """
    for name, array in arrays:
        if is_text(array) and array.size > STRINGS_CAP:
            raise ConversionError(
                f'{kind} "{name}": {array.size} strings; at most {STRINGS_CAP} are carried at '
                "once: bring fewer rows"
            )


def for_file(array: Array) -> Array:
    """An array as ``from_file`` reads it again, which unpickles nothing."""
    plain: Array = np.array(array.tolist(), "S") if is_text(array) else array
    return plain


def make(dtype: str, shape: tuple[int, ...], words: Iterable[bytes], source: Any) -> Array:
    """Made strings or bfloat16 of a shape.

    Args:
        dtype: one of SPECIAL.
        shape: how many.
        words: those that the model knows; others are mixed in.
        source: NumPy's generator.
    """
    if dtype == "bfloat16":
        return to_bfloat16(source.normal(size=shape).astype(np.float32))
    known = [*sorted(set(words))[:MADE_WORDS], *UNKNOWN]
    picked = source.integers(0, len(known), size=shape)
    return strings([known[at] for at in picked.reshape(-1).tolist()], shape)


MADE_WORDS = 1000
"""Of a vocabulary: more than any made rows could show."""
UNKNOWN = (b"", b"sample", b"two words")
"""Strings that a model need not know, put among those that it does."""
