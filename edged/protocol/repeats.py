"""Native protocol between us and our workers: frames like those before cost a fraction.

A worker is asked for the same tensors again and again, so heads repeat to the byte. ``Repeats``
remembers what a head was made of and what it means; the first frame of a kind goes the long way
through ``native.py``, and so does everything unusual. No socket, clock, thread or file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from edged.protocol.frames import (
    HEADER,
    HEADER_BYTES,
    MAGIC,
    VERSION,
    Buffer,
    Frame,
    Kind,
    padding,
)
from edged.tensors import Array

_LAYOUTS_CAP = 64
"""Batches have as many layouts as sizes; when there are more the oldest are simply learnt again."""
_SMALL_BYTES = 16 << 10
"""Above this the copy into one buffer costs more than the head saves."""

_Key = tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]


class _Field(NamedTuple):
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int
    offset: int


class _Layout(NamedTuple):
    fields: tuple[_Field, ...]
    body_bytes: int


class Repeats:
    """What was learnt of the frames of one connection, in both directions."""

    def __init__(self) -> None:
        self._heads: dict[_Key, tuple[bytes, int, int]] = {}
        self._layouts: dict[bytes, _Layout] = {}

    def encode(
        self, kind: Kind, request_id: int, tensors: Mapping[str, Array]
    ) -> list[Buffer] | None:
        """A frame whose head was learnt, or None when the long way has to be taken."""
        known = self._heads.get(_key(tensors))
        if known is None:
            return None
        head, head_bytes, body_bytes = known
        header = HEADER.pack(MAGIC, VERSION, kind, 0, request_id, head_bytes, 0, body_bytes)
        if len(tensors) == 1:
            (array,) = tensors.values()
            body = array.tobytes()
            return [b"".join((header, head, body, bytes(body_bytes - len(body))))]
        parts = [header, head]
        for array in tensors.values():
            body = array.tobytes()
            parts += (body, bytes(padding(len(body))))
        return [b"".join(parts)]

    def learn(self, tensors: Mapping[str, Array], buffers: list[Buffer]) -> None:
        """Take note of a frame that was made the long way for these tensors."""
        first = memoryview(buffers[0])
        *_, head_bytes, _, body_bytes = HEADER.unpack_from(first)
        if body_bytes > _SMALL_BYTES or any(
            a.dtype.byteorder == ">" or a.dtype.kind in "OSU" for a in tensors.values()
        ):
            return  # the long way puts bytes into the form of the wire; strings have any length
        if len(self._heads) >= _LAYOUTS_CAP:
            self._heads.clear()
        head_end = HEADER_BYTES + head_bytes
        head = bytes(first[HEADER_BYTES : head_end + padding(head_end)])
        self._heads[_key(tensors)] = (head, head_bytes, body_bytes)

    def decode(self, frame: Frame) -> dict[str, Array] | None:
        """The tensors of a frame whose head was learnt, or None; views of the frame's own bytes."""
        layout = self._layouts.get(bytes(frame.head))
        if layout is None or len(frame.body) != layout.body_bytes:
            return None
        body = frame.body
        return {
            name: np.frombuffer(body, dtype, size, offset).reshape(shape)
            for name, dtype, shape, size, offset in layout.fields
        }

    def learn_layout(self, frame: Frame, tensors: Mapping[str, Array]) -> None:
        """Take note of what a frame's head meant; ``tensors`` are in the order of its body."""
        fields, offset = [], 0
        for name, array in tensors.items():
            if array.dtype.kind in "bO" or not array.size:
                return  # bools and strings are looked at each; nothing is viewed as an array
            fields.append(_Field(name, array.dtype, array.shape, array.size, offset))
            offset += array.nbytes + padding(array.nbytes)
        if len(self._layouts) >= _LAYOUTS_CAP:
            self._layouts.clear()
        self._layouts[bytes(frame.head)] = _Layout(tuple(fields), offset)


def _key(tensors: Mapping[str, Array]) -> _Key:
    return tuple([(name, array.dtype, array.shape) for name, array in tensors.items()])
