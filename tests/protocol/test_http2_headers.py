"""Header blocks: what is kept is what the library would read, and what is too much is refused."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.protocol.http2_frames import BrokenConnectionError, Reason
from edged.protocol.http2_headers import LIST_BYTES, LIST_CAP_BYTES, HeaderReader, encode_header

SAME = [(b":path", b"/a"), (b"x-token", b"secret"), (b"te", b"trailers")]


class Parse:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self, headers: list[tuple[bytes, bytes]], is_over: bool) -> object:
        self.times += 1
        return (headers, is_over)


def test_a_block_that_repeats_is_read_once():
    parse, encoder = Parse(), hpack.Encoder()
    reader: HeaderReader[object] = HeaderReader(parse)
    for _ in range(10):
        assert reader.read(encoder.encode(SAME)) == (SAME, False)
    # The first fills the table, the second is kept.
    assert parse.times == 2


def test_a_changed_table_forgets():
    """The same bytes mean something else once the table has moved."""
    encoder = hpack.Encoder()
    reader: HeaderReader[object] = HeaderReader(Parse())
    reader.read(encoder.encode([(b"x-a", b"1")]))
    block = encoder.encode([(b"x-a", b"1")])
    assert len(block) == 1
    assert reader.read(block) == reader.read(block) == ([(b"x-a", b"1")], False)
    reader.read(encoder.encode([(b"x-b", b"2")]))
    assert reader.read(block) == ([(b"x-b", b"2")], False)


@settings(max_examples=25)
@given(st.lists(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"te", b"x-long"]),
                                   st.sampled_from([b"", b"1", b"2", b"v" * 1500])), max_size=5),
                max_size=12))  # fmt: skip
def test_as_the_library_reads_it(lists: list[list[tuple[bytes, bytes]]]):
    encoder, reader = hpack.Encoder(), HeaderReader(Parse())
    for headers in lists:
        assert reader.read(encoder.encode(headers))[0] == headers


def test_over_the_limit_is_said_and_over_the_cap_refused():
    reader = HeaderReader(Parse())
    assert reader.read(encode_header(b"a", b"x" * LIST_BYTES))[1] is True
    with pytest.raises(BrokenConnectionError) as caught:
        reader.read(encode_header(b"a", b"x" * LIST_CAP_BYTES))
    assert caught.value.reason is Reason.ENHANCE_YOUR_CALM


@pytest.mark.hostile("W5 a table's long entry, asked for by a byte each")
def test_a_bomb_of_references():
    """A table's long entry, asked for by a byte each: refused at the cap, not after."""
    encoder, reader = hpack.Encoder(), HeaderReader(Parse())
    block = encoder.encode([(b"a", b"~" * 3500)])
    reader.read(block)
    with pytest.raises(BrokenConnectionError):
        reader.read(b"\xbe" * 16000)


@pytest.mark.parametrize(
    "block", [b"\xff", b"\xff\xff\xff\xff\xff", b"\x00", b"\x40\x05a", b"\x80", b"\x3f\xe1\xff\x03"]
)
def test_what_cannot_be_read(block: bytes):
    with pytest.raises(BrokenConnectionError) as caught:
        HeaderReader(Parse()).read(block)
    assert caught.value.reason is Reason.COMPRESSION_ERROR


@settings(max_examples=25)
@given(st.binary(max_size=60))
def test_anything(block: bytes):
    reader: HeaderReader[object] = HeaderReader(Parse())
    try:
        first = reader.read(block)
    except BrokenConnectionError:
        return
    assert first[0] == [tuple(map(bytes, one)) for one in hpack.Decoder().decode(block, raw=True)]


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 300, 20_000])
def test_headers_are_written_as_the_library_reads_them(size: int):
    block = encode_header(b"grpc-message", b"x" * size)
    assert hpack.Decoder().decode(block, raw=True) == [(b"grpc-message", b"x" * size)]
