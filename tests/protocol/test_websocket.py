"""The client's side of a WebSocket: the handshake, frames in any pieces, and servers that lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import RemoteProtocolError
from edged.protocol.websocket import HEAD_CAP, WebSocket

KEY = b"the sample nonce"  # of RFC 6455, 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ANSWER = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
).encode()


def opened():
    found = WebSocket("b:9001", "/mqtt", key=KEY)
    found.take()
    assert found.receive(ANSWER) == b""
    assert found.is_open
    return found


def frame(first, data):
    size = len(data)
    if size < 126:
        return bytes((first, size)) + data
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + data
    return bytes((first, 127)) + size.to_bytes(8, "big") + data


def unmasked(data):
    """The first byte of a client's frame, and what is in it."""
    assert data[1] & 0x80, "a client masks"
    size, at = data[1] & 0x7F, 2
    if size > 125:
        more = 2 if size == 126 else 8
        size, at = int.from_bytes(data[at : at + more], "big"), at + more
    mask, body = data[at : at + 4], data[at + 4 :]
    assert len(body) == size
    return data[0], bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))


def test_the_handshake():
    asked = WebSocket("b:9001", "/mqtt", key=KEY).take().decode()
    assert asked.startswith("GET /mqtt HTTP/1.1\r\nHost: b:9001\r\n")
    assert "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in asked
    assert "Sec-WebSocket-Protocol: mqtt\r\n" in asked
    assert asked.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ANSWER.replace(b"101 Switching Protocols", b"404 Not Found"), "404"),
        (ANSWER.replace(b"HTTP/1.1", b"SSH-2.0"), "SSH"),
        (ANSWER.replace(b"s3p", b"s4p"), "another"),
        (ANSWER.replace(b": mqtt", b": chat"), "mqtt"),
        (b"\x20\x02\x00\x00\r\n\r\n", "101"),
        (b"x" * (HEAD_CAP + 1), "bytes"),
    ],
)
def test_a_server_that_is_none(answer, words):
    found = WebSocket("b:9001", "/mqtt", key=KEY)
    with pytest.raises(RemoteProtocolError, match=words):
        found.receive(answer)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_what_we_say_is_masked(size):
    data = bytes(number & 0xFF for number in range(size))
    assert unmasked(opened().wrap(data)) == (0x82, data)


@given(st.lists(st.integers(1, 300), max_size=40))
def test_the_same_bytes_however_they_are_cut(cuts):
    parts = [b"a" * 200, b"", b"b" * 70_000, b"c"]
    stream = ANSWER + frame(0x02, parts[0]) + frame(0x89, b"ping") + frame(0x00, parts[1])
    stream += frame(0x80, parts[2]) + frame(0x8A, b"") + frame(0x82, parts[3])
    found, heard, at = WebSocket("b", "/", key=KEY), b"", 0
    found.take()
    for cut in [*cuts, len(stream)]:
        heard += found.receive(stream[at : at + cut])
        at += cut
    assert heard == b"".join(parts)
    assert unmasked(found.take()) == (0x8A, b"ping")


def test_the_last_word_is_answered():
    found = opened()
    assert found.receive(frame(0x88, b"\x03\xe8bye") + frame(0x82, b"late")) == b""
    assert found.is_closed
    assert unmasked(found.take()) == (0x88, b"\x03\xe8")


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x01a",  # text
        b"\x82\x81\0",  # masked
        b"\xc2\x01a",  # a reserved bit
        b"\x83\x01a",  # a reserved kind
        b"\x80\x01a",  # continues nothing
        b"\x02\x01a\x82\x01b",  # interrupts
        b"\x09\x01a",  # a ping in pieces
        b"\x89\x7e\x00\x7e",  # a long ping
    ],
)
def test_frames_that_no_server_sends(data):
    with pytest.raises(RemoteProtocolError):
        opened().receive(data)


def test_a_long_frame_is_not_kept():
    found = opened()
    assert found.receive(b"\x82\x7f\x7f" + b"\xff" * 7 + b"abc") == b"abc"
    for _ in range(10):
        assert found.receive(b"x" * 1000) == b"x" * 1000
    assert not found._heard
