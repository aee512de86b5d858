"""What CBOR and MessagePack have in common: one document of numbers, texts, lists and maps.

Decides the caps, and that a binary document means what the same JSON would: keys are texts and
stand once, no NaN or infinity. What the first byte of an item says is the format's own. A reader of
our own, for libraries run what a tag says (expressions, dates, shared parts) and believe a length
before its bytes are there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from struct import Struct
from typing import Any, NoReturn

import numpy as np

from edged.errors import DecodeError, TooLargeError
from edged.processing.json_text import MAX_DEPTH
from edged.tensors import Array

MAX_BYTES = 4 << 20
"""As for JSON; three 3x224x224 tensors of 64-bit floats."""
MAX_ITEMS = 1 << 19
"""Each takes up to a microsecond and forty bytes to read; three 3x224x224 tensors have 451,584."""
_BULK = 16
"""From so many floats on a list is read at once, where every item is marked the same."""
_NUMBERS = {size: Struct(">" + code) for size, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))}
_FLOATS = {2: Struct(">e"), 4: Struct(">f"), 8: Struct(">d")}
_MARKED = {
    size: np.dtype([("mark", "u1"), ("value", f">f{size}")]) for size in (4, 8)
}  # packed, for NumPy aligns nothing unless asked


class DocumentReader(ABC):
    """Reads one payload.

    Args:
        payload: all of it.

    Raises:
        TooLargeError: over MAX_BYTES.
        DecodeError: it is empty.
    """

    name: str
    """Of the format, for errors."""

    def __init__(self, payload: bytes) -> None:
        if len(payload) > MAX_BYTES:
            text = f"a {self.name} payload of {len(payload)} bytes; the limit is {MAX_BYTES}"
            raise TooLargeError(text)
        if not payload:
            raise DecodeError(f"the payload is empty; expected {self.name}")
        self._data = payload
        self._at = 0
        self._left = MAX_ITEMS

    def document(self) -> Any:
        """The only item; raises DecodeError or TooLargeError, nothing else."""
        value = self._value(0)
        if self._at != len(self._data):
            self._refuse(f"{len(self._data) - self._at} bytes follow the document")
        return value

    @abstractmethod
    def _value(self, depth: int) -> Any:
        """Read an item that lies so deep."""

    def _refuse(self, why: str) -> NoReturn:
        raise DecodeError(f"the payload is not {self.name} as expected: {why} (byte {self._at})")

    def _count(self, items: int) -> None:
        self._left -= items
        if self._left < 0:
            raise TooLargeError(f"the payload holds more than {MAX_ITEMS} items")

    def _first(self) -> int:
        """The next byte, which begins an item."""
        at = self._at
        if at >= len(self._data):
            self._refuse("it is cut short")
        self._left -= 1
        if self._left < 0:
            self._count(0)
        self._at = at + 1
        return self._data[at]

    def _bytes(self, size: int) -> bytes:
        at = self._at
        if size > len(self._data) - at:
            self._refuse("it is cut short")
        self._at = at + size
        return self._data[at : at + size]

    def _number(self, size: int) -> int:
        value: int = _NUMBERS[size].unpack(self._bytes(size))[0]
        return value

    def _float(self, size: int) -> float:
        value: float = _FLOATS[size].unpack(self._bytes(size))[0]
        if not math.isfinite(value):
            self._refuse(f"it holds {value}; leave the field out or null")
        return value

    def _text(self, size: int) -> str:
        try:
            return self._bytes(size).decode("utf-8")
        except UnicodeDecodeError:
            self._refuse("a text is not UTF-8")

    def _list(self, size: int, depth: int) -> list[Any]:
        """So many items; each takes a byte at least, so that no length is believed before."""
        self._deeper(depth, size)
        if size >= _BULK:
            found = self._bulk(size)
            if found is not None:
                return found
        return [self._value(depth + 1) for _ in range(size)]

    def _map(self, size: int, depth: int) -> dict[str, Any]:
        self._deeper(depth, 2 * size)
        found: dict[str, Any] = {}
        for _ in range(size):
            self._entry(found, depth)
        return found

    def _entry(self, found: dict[str, Any], depth: int) -> None:
        key = self._value(depth + 1)
        if type(key) is not str:
            self._refuse("a key is no text")
        if key in found:
            raise DecodeError(f"the payload has the key {key[:64]!a} twice in one map")
        found[key] = self._value(depth + 1)

    def _deeper(self, depth: int, size: int) -> None:
        if depth >= MAX_DEPTH:
            raise DecodeError(f"the payload nests deeper than {MAX_DEPTH} levels")
        if size > len(self._data) - self._at:
            self._refuse("it is cut short")

    @abstractmethod
    def _float_bytes(self, mark: int) -> int:
        """Bytes of the float that begins with a mark; 0 where none does that is read at once."""

    def _bulk(self, size: int) -> list[Any] | None:
        mark = self._data[self._at]
        width = self._float_bytes(mark)
        if not width or size * (width + 1) > len(self._data) - self._at:
            return None
        marked = np.frombuffer(self._data, _MARKED[width], size, self._at)
        if not (marked["mark"] == mark).all():
            return None
        self._count(size)
        self._at += size * (width + 1)
        return self._finite(marked["value"])

    def _finite(self, values: Array) -> list[Any]:
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            self._refuse("a list holds NaN or infinity; leave the field out or null")
        found: list[Any] = values.tolist()
        return found
