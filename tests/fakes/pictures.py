"""PNG files put together by hand, so that every part can be wrong."""

from __future__ import annotations

import struct
import zlib


def png(width: int, height: int, bits: int, colour: int, *data: bytes, interlace: int = 0) -> bytes:
    """A PNG with these data chunks and right checksums."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    chunks = [(b"IHDR", head), *((b"IDAT", part) for part in data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
