"""Header blocks of HTTP/2: read through the ``hpack`` library within caps, written without it.

Clients of gRPC send the same block with each call, made of references into a table that no longer
changes: what such a block means is kept beside its bytes. Answers use no table of the peer's, so
that each of them can be made once and for all.
Source: RFC 7541; RFC 9113, section 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

import hpack
from hpack.exceptions import HPACKError, OversizedHeaderListError

from edged.protocol.http2_frames import BrokenConnectionError, Reason

LIST_BYTES: Final = 16 << 10
"""What a list of headers may take, each with 32 bytes beside name and value: we tell clients so.
Theirs take below 1 KiB, with a token a few."""
LIST_CAP_BYTES: Final = 64 << 10
"""Above the limit a call is refused; above this the connection is, for the state of its table
is lost with what is not read."""
BLOCK_BYTES: Final = 32 << 10
"""A whole block as it was sent, over all its frames."""
_KEPT_BLOCKS: Final = 64
"""Of one connection; a client has one for each method that it calls, and deadlines differ."""
_KEPT_BYTES: Final = 1024
"""Longer ones are seldom sent twice."""

Header = tuple[bytes, bytes]
T = TypeVar("T")


class HeaderReader(Generic[T]):
    """The header blocks of one connection, in their order.

    Args:
        parse: what headers mean, names and values, and whether they are over the limit; what it
            returns is kept and given again for the same block, so it must not be changed.
    """

    def __init__(self, parse: Callable[[list[Header], bool], T]) -> None:
        self._parse = parse
        self._decoder: Any = hpack.Decoder(max_header_list_size=LIST_CAP_BYTES)
        self._known: dict[bytes, T] = {}

    def known(self, block: bytes) -> T | None:
        """What a block means that was read before and changes nothing; None for any other."""
        return self._known.get(block)

    def read(self, block: bytes) -> T:
        """What a block means.

        Raises:
            BrokenConnectionError: it cannot be read, and nor can those after it.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        entries = table.dynamic_entries
        first, count, size = entries[0] if entries else None, len(entries), table.maxsize
        try:
            headers: list[Header] = [(bytes(n), bytes(v)) for n, v in self._decode(block)]
        except OversizedHeaderListError as exc:
            text = f"headers take more than {LIST_CAP_BYTES} bytes"
            raise BrokenConnectionError(Reason.ENHANCE_YOUR_CALM, text) from exc
        # IndexError: the library reads on past the end of a block that was cut off.
        except (HPACKError, IndexError, ValueError) as exc:
            text = "a header block cannot be read"
            raise BrokenConnectionError(Reason.COMPRESSION_ERROR, text) from exc
        entries = table.dynamic_entries
        is_same = (first, count, size) == (
            entries[0] if entries else None, len(entries), table.maxsize,
        )  # fmt: skip
        # Equal is not the same: an entry that is added again pushes others out.
        is_same = is_same and (not entries or entries[0] is first)
        if not is_same:
            self._known.clear()
        meaning = self._parse(headers, _size_of(headers) > LIST_BYTES)
        if is_same and len(block) <= _KEPT_BYTES:
            if len(self._known) >= _KEPT_BLOCKS:
                self._known.clear()
            self._known[block] = meaning
        return meaning

    def _decode(self, block: bytes) -> Iterable[Header]:
        found: Iterable[Header] = self._decoder.decode(block, raw=True)
        return found


def _size_of(headers: list[Header]) -> int:
    return sum(len(name) + len(value) + 32 for name, value in headers)


NO_TABLE: Final = b"\x20"
"""That we use no table at all; in front of our first block, where the peer has made its smaller
than we may take it for."""
STATUS_200: Final = b"\x88"


def encode_header(name: bytes, value: bytes) -> bytes:
    """One header that is kept in no table."""
    return b"\x00" + _text(name) + _text(value)


def _text(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return size.to_bytes(1, "big") + value
    rest, digits = size - 127, bytearray(b"\x7f")
    while rest >= 128:
        digits.append(rest & 0x7F | 0x80)
        rest >>= 7
    digits.append(rest)
    return bytes(digits) + value
