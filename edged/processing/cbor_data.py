"""CBOR to a document and back, strictly.

Decides which items a document may hold: whole numbers, floats, texts, booleans, null, lists and
maps. Of the tags it takes the mark of CBOR itself (55799) and typed arrays of numbers, which are
read as lists; every other one is refused.
Source: RFC 8949; RFC 8746 for the typed arrays.
"""

from __future__ import annotations

import math
from struct import pack, unpack
from typing import Any

import numpy as np

from edged.processing.binary_document import DocumentReader

CBOR = "application/cbor"
_SELF_DESCRIBED = 55799
_CONSTANTS = {20: False, 21: True, 22: None, 23: None}
"""``undefined`` is as absent as ``null``."""
_SIZES = {24: 1, 25: 2, 26: 4, 27: 8}
_OPEN = -1
"""The length of what ends with a break."""
_BREAK = 0xFF
_TYPED: dict[int, np.dtype[Any]] = {
    64: np.dtype("u1"), 65: np.dtype(">u2"), 66: np.dtype(">u4"), 67: np.dtype(">u8"),
    68: np.dtype("u1"), 69: np.dtype("<u2"), 70: np.dtype("<u4"), 71: np.dtype("<u8"),
    72: np.dtype("i1"), 73: np.dtype(">i2"), 74: np.dtype(">i4"), 75: np.dtype(">i8"),
    77: np.dtype("<i2"), 78: np.dtype("<i4"), 79: np.dtype("<i8"),
    80: np.dtype(">f2"), 81: np.dtype(">f4"), 82: np.dtype(">f8"),
    84: np.dtype("<f2"), 85: np.dtype("<f4"), 86: np.dtype("<f8"),
}  # fmt: skip


def parse_cbor(payload: bytes) -> Any:
    """Read one document.

    Raises:
        TooLargeError: too many bytes or items.
        DecodeError: not CBOR as described above; says where.
    """
    return _Reader(payload).document()


class _Reader(DocumentReader):
    name = "CBOR"

    def _value(self, depth: int) -> Any:
        first = self._first()
        major, info = first >> 5, first & 31
        if major == 7:
            return self._simple(info)
        if info < 24:
            size = info
        elif info in _SIZES:
            size = self._number(_SIZES[info])
        elif info == 31 and 2 <= major <= 5:
            size = _OPEN
        else:
            self._refuse("an item's first byte means nothing")
        if major == 0:
            return size
        if major == 1:
            return -1 - size
        if major == 3:
            return self._text(size) if size != _OPEN else self._chunks(3).decode("utf-8", "strict")
        if major == 2:
            return self._bytes(size) if size != _OPEN else self._chunks(2)
        if major == 4:
            return self._list(size, depth) if size != _OPEN else self._open_list(depth)
        if major == 5:
            return self._map(size, depth) if size != _OPEN else self._open_map(depth)
        return self._tagged(size, depth)

    def _simple(self, info: int) -> Any:
        if info in _CONSTANTS:
            return _CONSTANTS[info]
        if 25 <= info <= 27:
            return self._float(_SIZES[info])
        return self._refuse("a simple value means nothing here")

    def _tagged(self, tag: int, depth: int) -> Any:
        if tag == _SELF_DESCRIBED and depth == 0:
            return self._value(depth + 1)
        if tag not in _TYPED:
            self._refuse(f"tag {tag} is not taken")
        dtype, data = _TYPED[tag], self._value(depth + 1)
        if type(data) is not bytes or len(data) % dtype.itemsize:
            self._refuse(f"tag {tag} wants a string of {dtype.itemsize}-byte numbers")
        self._count(len(data) // dtype.itemsize)
        return self._finite(np.frombuffer(data, dtype))

    def _at_break(self) -> bool:
        if self._at < len(self._data) and self._data[self._at] == _BREAK:
            self._at += 1
            return True
        return False

    def _chunks(self, major: int) -> bytes:
        """A string in parts, each of a length that is said."""
        parts = []
        while not self._at_break():
            first = self._first()
            info = first & 31
            if first >> 5 != major or (info > 23 and info not in _SIZES):
                self._refuse("a part of a string is no string")
            parts.append(self._bytes(info if info < 24 else self._number(_SIZES[info])))
        whole = b"".join(parts)
        if major == 3 and not _is_text(whole):
            self._refuse("a text is not UTF-8")
        return whole

    def _open_list(self, depth: int) -> list[Any]:
        self._deeper(depth, 0)
        found = []
        while not self._at_break():
            found.append(self._value(depth + 1))
        return found

    def _open_map(self, depth: int) -> dict[str, Any]:
        self._deeper(depth, 0)
        found: dict[str, Any] = {}
        while not self._at_break():
            self._entry(found, depth)
        return found

    def _float_bytes(self, mark: int) -> int:
        return {0xFA: 4, 0xFB: 8}.get(mark, 0)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def encode_cbor(document: Any) -> bytes:
    """Write a document of what JSON holds; floats in 32 bits where that loses nothing."""
    parts: list[bytes] = []
    _write(document, parts)
    return b"".join(parts)


def _write(value: Any, parts: list[bytes]) -> None:
    if value is None:
        parts.append(b"\xf6")
    elif isinstance(value, bool):
        parts.append(b"\xf5" if value else b"\xf4")
    elif isinstance(value, int):
        parts.append(_head(0, value) if value >= 0 else _head(1, -1 - value))
    elif isinstance(value, float):
        parts.append(_float(value))
    elif isinstance(value, str):
        data = value.encode("utf-8", "backslashreplace")
        parts += (_head(3, len(data)), data)
    elif isinstance(value, bytes):
        parts += (_head(2, len(value)), value)
    elif isinstance(value, dict):
        parts.append(_head(5, len(value)))
        for key, item in value.items():
            _write(key, parts)
            _write(item, parts)
    else:
        parts.append(_head(4, len(value)))
        for item in value:
            _write(item, parts)


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major << 5 | number,))
    for info, size in _SIZES.items():
        if number < 1 << 8 * size:
            return bytes((major << 5 | info,)) + number.to_bytes(size, "big")
    raise OverflowError(number)


def _float(value: float) -> bytes:
    if math.isfinite(value) and abs(value) < 3e38:
        short = pack(">f", value)
        if unpack(">f", short)[0] == value:
            return b"\xfa" + short
    return b"\xfb" + pack(">d", value)
