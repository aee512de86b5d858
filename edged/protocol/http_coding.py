"""What comes and leaves compressed: which coding a client takes, and bytes in it. Pure.

Source: RFC 9110, 12.5.3. No ``br`` or ``zstd``: the standard library has neither on every Python.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from edged.protocol.frames import Buffer
from edged.protocol.http_get import RefusedError

LEAST_BYTES: Final = 1024
"""What is smaller fits into one packet as it is."""
CODINGS: Final = {"gzip": 31, "deflate": zlib.MAX_WBITS}
_LEVEL: Final = 1
"""Tensors do not become much smaller at a higher one, which takes five times as long."""
_WORDS_CAP: Final = 16


def coding_of(accept: str) -> str:
    """The coding that an Accept-Encoding header likes best of ours; empty for none."""
    best, most = "", 0.0
    for word in accept.split(",")[:_WORDS_CAP]:
        name, _, parameter = word.strip().partition(";")
        name, quality = name.strip().lower(), _quality(parameter.strip())
        if name in CODINGS and quality > most:
            best, most = name, quality
    return best


def _quality(parameter: str) -> float:
    """Of ``q=0.5``; 1 where nothing is said, 0 for what is no number."""
    if not parameter:
        return 1.0
    name, _, value = parameter.partition("=")
    value = value.strip()
    if name.strip().lower() != "q" or not value.replace(".", "", 1).isdecimal():
        return 0.0
    return float(value[:8])


def compress(parts: Sequence[Buffer], coding: str) -> bytes:
    """All parts, one after another, in a coding that ``coding_of`` gave."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, CODINGS[coding])
    return b"".join([*map(packer.compress, parts), packer.flush()])


def inflated(data: bytes | bytearray, coding: str, cap: int) -> bytes:
    """Decompress within a cap, whatever the data says of itself.

    Raises:
        RefusedError: it is too large then, or not that coding from its first byte to its last.
    """
    inflater = zlib.decompressobj(CODINGS[coding])
    try:
        body = inflater.decompress(data, cap + 1)
    except zlib.error as exc:
        raise RefusedError(400, f"the body cannot be decompressed: {exc}") from None
    if len(body) > cap:
        raise RefusedError(
            413, f"a request may have {cap} bytes after decompression (limits.max_request)"
        )
    if not inflater.eof or inflater.unused_data:
        raise RefusedError(400, "the compressed body is cut off, or something follows it")
    return body
