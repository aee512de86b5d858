"""MessagePack to a document and back, strictly.

Decides which items a document may hold: whole numbers, floats, texts, booleans, nil, lists and
maps. Extensions, timestamps among them, are refused.
Source: the MessagePack specification, github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edged.processing.binary_document import DocumentReader

MSGPACK = "application/msgpack"
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_BINARY = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_FLOATS = {0xCA: 4, 0xCB: 8}
_UNSIGNED = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_SIGNED = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}


def parse_msgpack(payload: bytes) -> Any:
    """Read one document.

    Raises:
        TooLargeError: too many bytes or items.
        DecodeError: not MessagePack as described above; says where.
    """
    return _Reader(payload).document()


def encode_msgpack(document: Any) -> bytes:
    """Write a document of what JSON holds."""
    return msgspec.msgpack.encode(document)


class _Reader(DocumentReader):
    name = "MessagePack"

    def _value(self, depth: int) -> Any:
        first = self._first()
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 0x100
        if first < 0x90:
            return self._map(first & 15, depth)
        if first < 0xA0:
            return self._list(first & 15, depth)
        if first < 0xC0:
            return self._text(first & 31)
        if first in _FLOATS:
            return self._float(_FLOATS[first])
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if first in _UNSIGNED:
            return self._number(_UNSIGNED[first])
        if first in _SIGNED:
            return int.from_bytes(self._bytes(_SIGNED[first]), "big", signed=True)
        return self._long(first, depth)

    def _long(self, first: int, depth: int) -> Any:
        if first in _TEXTS:
            return self._text(self._number(_TEXTS[first]))
        if first in _LISTS:
            return self._list(self._number(_LISTS[first]), depth)
        if first in _MAPS:
            return self._map(self._number(_MAPS[first]), depth)
        if first in _BINARY:
            return self._bytes(self._number(_BINARY[first]))
        return self._refuse("an extension is not taken")

    def _float_bytes(self, mark: int) -> int:
        return _FLOATS.get(mark, 0)
