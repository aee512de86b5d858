"""What a list of headers asks for, held to HTTP/2's own rules. Pure.

Source: RFC 9113, sections 8.1 to 8.3.
"""

from __future__ import annotations

from typing import Any, Final

from edged.protocol.http2_frames import BrokenStreamError, Reason
from edged.protocol.http2_headers import LIST_BYTES, Header

_PSEUDO: Final = frozenset({b":method", b":path", b":scheme", b":authority"})
_NEEDED: Final = frozenset({b":method", b":path", b":scheme"})
_OF_ONE_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_NAME: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_NO_VALUE: Final = frozenset(b"\x00\r\n")
TOO_LONG: Final = f"metadata of more than {LIST_BYTES} bytes"


class Request:
    """A request's headers, or a list that is none (trailers).

    Args:
        headers: in their order, without those that begin with a colon.
        pseudo: these.
        length: of the body, where the client has told it; -1 where not.
        fault: why it is no request.
        is_over: it takes more than ``LIST_BYTES``.
    """

    __slots__ = ("fault", "headers", "is_over", "length", "meaning", "pseudo")

    def __init__(
        self,
        headers: list[Header],
        pseudo: dict[bytes, bytes],
        fault: BrokenStreamError | None,
        *,
        length: int,
        is_over: bool,
    ) -> None:
        self.headers = headers
        self.pseudo = pseudo
        self.fault = fault
        self.length = length
        self.is_over = is_over
        self.meaning: Any = None
        """What it means to whoever answers; kept beside, for it comes again with the next call."""


def parse_request(headers: list[Header], is_over: bool) -> Request:
    """Read a list of headers; what is wrong with it is noted, not raised."""
    pseudo: dict[bytes, bytes] = {}
    plain: list[Header] = []
    text, length = "", -1
    for name, value in headers:
        if name[:1] == b":":
            if plain or name not in _PSEUDO or name in pseudo:
                text = "a pseudo-header is unknown, out of place or there twice"
                break
            pseudo[name] = value
            continue
        if not name or not _NAME.issuperset(name):
            text = "a header's name is not in lower case"
        elif name in _OF_ONE_HOP or (name == b"te" and value != b"trailers"):
            text = "a header belongs to HTTP/1"
        elif not _NO_VALUE.isdisjoint(value) or value[:1].isspace() or value[-1:].isspace():
            text = "a header's value has control characters, or spaces around it"
        elif name == b"content-length":
            if not (value.isdigit() and len(value) < 20):
                text = "content-length is no number"
            length = int(value) if not text else -1
        if text:
            break
        plain.append((name, value))
    if not text and not (pseudo.keys() >= _NEEDED and pseudo[b":path"]):
        text = "a pseudo-header is missing"
    fault = BrokenStreamError(Reason.PROTOCOL_ERROR, text) if text else None
    return Request(plain, pseudo, fault, length=length, is_over=is_over)
