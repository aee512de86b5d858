"""Compressed payloads, unpacked within a cap.

Decides how large a payload may become; a small one may claim to be anything. One frame or member,
whole, and nothing behind it.
Source: RFC 1952 (gzip); RFC 8878 (zstd).
"""

from __future__ import annotations

import zlib
from typing import Any, Protocol

from edged.errors import DecodeError, FieldError, TooLargeError
from edged.tensors import Array

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GZIP_BITS = 31
_ZSTD_WINDOW_BYTES = 8 << 20
"""What RFC 8878 asks every decoder to bear; a frame may claim gigabytes."""


class Decoder(Protocol):
    """What reads the payload that comes out."""

    def decode(self, payload: bytes) -> dict[str, Array]:
        """Tensors by input name."""
        ...


def require_zstd(path: str) -> None:
    """Refuse what nobody could unpack; raises FieldError at ``path``."""
    try:
        import zstandard  # noqa: F401, PLC0415 - only who unpacks pays for it
    except ImportError as exc:
        raise FieldError(
            path, 'zstd needs zstandard; install it with: pip install "edged[zstd]"'
        ) from exc


class UnpackingCodec:
    """Unpacks before another codec decodes, off the event loop.

    Args:
        codec: reads what comes out.
        compression: ``gzip``, ``zstd``, or ``auto``: what the first bytes say, or neither.
        cap: bytes that may come out.

    Raises:
        FieldError: zstd, without the library.
    """

    is_slow = True

    def __init__(self, codec: Decoder, compression: str, cap: int) -> None:
        if compression == "zstd":
            require_zstd("compression")
        self._codec, self._compression, self._cap = codec, compression, cap

    def decode(self, payload: bytes) -> dict[str, Array]:
        """Unpack and read; raises InvalidRequestError."""
        return self._codec.decode(unpack(payload, self._compression, self._cap))


def unpack(payload: bytes, compression: str, cap: int) -> bytes:
    """What was packed.

    Args:
        payload: all of it.
        compression: as for UnpackingCodec.
        cap: bytes that may come out.

    Raises:
        TooLargeError: more comes out.
        DecodeError: it is not what it should be, or cut short, or something follows.
    """
    if compression == "auto":
        if payload.startswith(_GZIP):
            compression = "gzip"
        elif payload.startswith(_ZSTD):
            compression = "zstd"
        else:
            return payload
    return _gunzip(payload, cap) if compression == "gzip" else _unzstd(payload, cap)


def _gunzip(payload: bytes, cap: int) -> bytes:
    unpacker = zlib.decompressobj(_GZIP_BITS)
    try:
        data = unpacker.decompress(payload, cap + 1)
    except zlib.error as exc:
        raise DecodeError(f"the payload is not gzip: {str(exc)[:100]}") from exc
    if len(data) > cap:
        raise _too_large(cap)
    if not unpacker.eof:
        raise DecodeError("the payload is gzip that is cut short")
    if unpacker.unused_data:
        raise DecodeError(f"{len(unpacker.unused_data)} bytes follow the gzip member")
    return data


def _unzstd(payload: bytes, cap: int) -> bytes:
    try:
        import zstandard  # noqa: PLC0415 - see above
    except ImportError as exc:
        raise DecodeError("zstd is not installed here; send gzip, or unpacked") from exc
    try:
        size = zstandard.frame_content_size(payload)
        if size > cap:
            raise _too_large(cap)
        unpacker: Any = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        data: bytes = unpacker.decompress(payload, max_output_size=cap, allow_extra_data=False)
    except (zstandard.ZstdError, ValueError, MemoryError) as exc:
        raise DecodeError(f"the payload is not zstd within its caps: {str(exc)[:100]}") from exc
    if len(data) > cap:
        raise _too_large(cap)
    return data


def _too_large(cap: int) -> TooLargeError:
    return TooLargeError(f"more than {cap} bytes come out of the compressed payload")
