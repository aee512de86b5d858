"""Which coding a client likes best, and that what comes is what went in."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.protocol.http_coding import coding_of, compress


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", ""), ("identity", ""), ("br, zstd", ""), ("*", ""), ("gzip", "gzip"),
        ("gzip, deflate", "gzip"), ("deflate, gzip;q=0.5", "deflate"), ("GZIP ; q=0.1", "gzip"),
        ("gzip;q=0", ""), ("gzip;q=0, deflate", "deflate"), ("gzip;q=nan", ""), ("gzip;v=1", ""),
        ("gzip;q=1e9", ""), ("x," * 100 + "gzip", ""), ("gzip;q=", ""), ("gzip;q=.", ""),
    ],
)  # fmt: skip
def test_what_a_client_takes(accept: str, coding: str) -> None:
    assert coding_of(accept) == coding


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_whatever_is_sent(accept: str) -> None:
    assert coding_of(accept) in ("", "gzip", "deflate")


def test_there_and_back() -> None:
    parts = [b"abc" * 1000, memoryview(bytes(5000)), b""]
    whole = b"abc" * 1000 + bytes(5000)
    assert gzip.decompress(compress(parts, "gzip")) == whole
    assert zlib.decompress(compress(parts, "deflate")) == whole
    assert len(compress(parts, "gzip")) < 200
