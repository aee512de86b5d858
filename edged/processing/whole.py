"""Whether a PNG holds all rows that its header promises.

Pillow takes a PNG whose data stream ends early, if only its end chunk is there, and leaves the
missing rows black. Decides by counting what the stream inflates to; keeps none of it.
Source: PNG (third edition), parts 7.2 and 8.
"""

from __future__ import annotations

import struct
import zlib

_SIGNATURE_BYTES = 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row of each pass, and its steps."""
_STEP_BYTES = 64 << 10


def is_interlaced(payload: bytes) -> bool:
    """Whether rows come in passes, so that missing ones may lie anywhere."""
    return len(payload) > 28 and payload[28] != 0


def has_all_rows(payload: bytes) -> bool:
    """Whether the data of a PNG inflate to as many bytes as its header says.

    Args:
        payload: a PNG whose header was checked; anything else says False.
    """
    if len(payload) < 33:
        return False
    width, height, bits, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", payload, 16)
    wanted = 0
    for left, top, across, down in _ADAM7 if interlace else _WHOLE:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            wanted += rows * (1 + (columns * bits * _CHANNELS.get(colour, 4) + 7) // 8)
    return _inflated_bytes(payload, wanted) >= wanted


def _inflated_bytes(payload: bytes, enough: int) -> int:
    """Bytes that the IDAT chunks inflate to; stops counting at ``enough``."""
    stream = zlib.decompressobj()
    count, at = 0, _SIGNATURE_BYTES
    while count < enough and at + 8 <= len(payload) and not stream.eof:
        size, kind = struct.unpack_from(">I4s", payload, at)
        data = payload[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        while data and count < enough and not stream.eof:
            try:
                count += len(stream.decompress(data, _STEP_BYTES))
            except zlib.error:
                return count
            data = stream.unconsumed_tail
        at += 12 + size
    return count
