"""Native protocol, the greeting: HELLO says who calls, WELCOME what the daemon takes."""

from __future__ import annotations

import msgspec

from edged.protocol.frames import Buffer, Frame, Kind, Limits, encode_frame
from edged.protocol.native import decode_head, encode_head


class HelloHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of HELLO: who calls, for logs."""

    client: str


class WelcomeHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of WELCOME: what the server is and takes."""

    server: str
    max_request_bytes: int
    max_in_flight: int


_hello_decoder = msgspec.msgpack.Decoder(HelloHead)
_welcome_decoder = msgspec.msgpack.Decoder(WelcomeHead)


def encode_hello(client: str) -> list[Buffer]:
    """A HELLO frame."""
    return encode_frame(Kind.HELLO, 0, encode_head(HelloHead(client)), [])


def decode_hello(frame: Frame) -> HelloHead:
    """Read a HELLO frame."""
    return decode_head(_hello_decoder, frame)


def encode_welcome(server: str, limits: Limits, max_in_flight: int) -> list[Buffer]:
    """A WELCOME frame."""
    head = WelcomeHead(server, limits.body_bytes, max_in_flight)
    return encode_frame(Kind.WELCOME, 0, encode_head(head), [])


def decode_welcome(frame: Frame) -> WelcomeHead:
    """Read a WELCOME frame."""
    return decode_head(_welcome_decoder, frame)
