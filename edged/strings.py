"""Tensors of strings: elements of any bytes and any length, and their one form on every wire.

On a wire each element is its length, four bytes little-endian, and its bytes; elements follow one
another row-major. Where they end is known only after a walk over all of them, so their number is
limited. What the bytes mean is the model's affair; most runtimes want UTF-8.
Source: Triton's ``extension_binary_data.md``, which calls the type BYTES.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edged.errors import LocalProtocolError, TensorMismatchError, TooLargeError
from edged.tensors import ALL_DTYPES, Array, TensorSpec

STRINGS_CAP = 1 << 17
"""Of one request: reading so many takes some 20 ms, in which nobody else is answered, and each
takes 40 bytes of memory however short it is."""
_LENGTH = struct.Struct("<I")
_POINTER_BYTES = 8
_OBJECT_BYTES = 33
"""What Python takes for a bytes object besides its bytes."""


class Strings(np.ndarray[Any, np.dtype[Any]]):
    """An array of bytes objects that says what they take, for every account of memory asks it."""

    __array_priority__ = 1.0  # what is put together of such arrays is one, too

    @property
    def nbytes(self) -> int:
        """Bytes of memory, those of the elements included."""
        return sum(map(len, self.flat)) + (_POINTER_BYTES + _OBJECT_BYTES) * self.size

    def tobytes(self, order: Any = "C") -> bytes:
        """The form on a wire: addresses of objects would be of no use to anybody."""
        del order
        return encode_strings(self)


def strings(values: Sequence[bytes], shape: Sequence[int]) -> Strings:
    """Make a tensor of as many strings as the shape has places."""
    flat = np.empty(len(values), object)
    flat[:] = values
    return flat.reshape(tuple(shape)).view(Strings)


def encode_strings(array: Array) -> bytes:
    """The elements of an array, row-major, each behind its length.

    Args:
        array: of bytes or text, as objects or as NumPy's own strings; text is written as UTF-8.

    Raises:
        LocalProtocolError: an element that is neither.
    """
    parts: list[bytes] = []
    for index, element in enumerate(array.flat):
        data = _bytes(element, index)
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def decode_strings(
    data: bytes | bytearray | memoryview, shape: Sequence[int], where: str, most: int = STRINGS_CAP
) -> tuple[Strings, int]:
    """Read a tensor of strings from where it begins.

    Args:
        data: the elements, and perhaps more behind them.
        shape: says how many there are.
        where: what is read, for messages; e.g. ``input "x"``.
        most: elements that the request may still bring.

    Returns:
        The tensor, and how many bytes it took.

    Raises:
        TooLargeError: more elements than that.
        TensorMismatchError: the elements do not fit the bytes that are there.
    """
    count = check_count(shape, where, most)
    end, at = len(data), 0
    values: list[bytes] = []
    for index in range(count):
        body = at + _LENGTH.size
        if body > end:
            raise TensorMismatchError(
                f"{where}: {end} bytes hold {index} strings, each behind its length in four bytes; "
                f"the shape has {count}"
            )
        (size,) = _LENGTH.unpack_from(data, at)
        at = body + size
        if at > end:
            raise TensorMismatchError(
                f"{where}: string {index} says that it has {size} bytes; {end - body} are left"
            )
        values.append(bytes(data[body:at]))
    return strings(values, shape), at


def check_count(shape: Iterable[int], where: str, most: int = STRINGS_CAP) -> int:
    """How many elements a shape has; TooLargeError for more than may still come."""
    count = math.prod(shape)
    if count > most:
        raise TooLargeError(
            f"{where}: {count} strings; one request may bring {STRINGS_CAP}: send fewer rows"
        )
    return count


def blank(spec: TensorSpec, shape: Sequence[int]) -> Array:
    """An array of zeros, or of empty strings."""
    if spec.dtype == "string":
        return strings([b""] * math.prod(shape), shape)
    return np.zeros(shape, ALL_DTYPES[spec.dtype].numpy)


def _bytes(element: object, index: int) -> bytes:
    if isinstance(element, bytes):
        return element
    if not isinstance(element, str):
        raise LocalProtocolError(
            f"element {index} is {type(element).__name__}; a tensor of strings takes bytes or str"
        )
    try:
        return element.encode()
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(f"element {index} is no text that UTF-8 can write: {exc}") from exc
