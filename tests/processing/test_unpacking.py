import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError, InvalidRequestError, TooLargeError
from edged.processing.codecs import RawCodec
from edged.processing.unpacking import UnpackingCodec, require_zstd, unpack
from edged.tensors import TensorSpec

CAP = 1000
KINDS = ["gzip", "zstd"]


def pack(kind, data):
    if kind == "gzip":
        return gzip.compress(data, mtime=0)
    return pytest.importorskip("zstandard").compress(data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"", b"{}", bytes(CAP)])
def test_what_was_packed(kind, data):
    assert unpack(pack(kind, data), kind, CAP) == data
    assert unpack(pack(kind, data), "auto", CAP) == data
    assert unpack(data, "auto", CAP) == data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [CAP + 1, 64 << 20])
def test_a_bomb_is_refused_before_it_is_whole(kind, size):
    with pytest.raises(TooLargeError, match="more than 1000"):
        unpack(pack(kind, bytes(size)), kind, CAP)


def test_a_zstd_bomb_that_hides_its_size():
    zstandard = pytest.importorskip("zstandard")
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    bomb = packer.compress(bytes(64 << 20)) + packer.flush()
    with pytest.raises(InvalidRequestError):
        unpack(bomb, "zstd", CAP)
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    assert unpack(packer.compress(b"{}") + packer.flush(), "zstd", CAP) == b"{}"


def test_a_zstd_frame_that_wants_a_huge_window():
    zstandard = pytest.importorskip("zstandard")
    settings = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    with pytest.raises(DecodeError, match="within its caps"):
        unpack(packer.compress(b"{}") + packer.flush(), "zstd", CAP)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "spoil", [lambda p: p[:-1], lambda p: p + b"x", lambda p: p + p, lambda _: b"", lambda _: b"{}"]
)
def test_cut_short_followed_or_something_else(kind, spoil):
    with pytest.raises(DecodeError):
        unpack(spoil(pack(kind, b"hello " * 20)), kind, CAP)


def test_other_zlib_forms_are_not_gzip():
    with pytest.raises(DecodeError):
        unpack(zlib.compress(b"{}"), "gzip", CAP)


def test_before_another_codec():
    codec = UnpackingCodec(RawCodec(TensorSpec("x", "uint8", ("batch", 2))), "gzip", CAP)
    assert codec.is_slow
    assert codec.decode(pack("gzip", b"\1\2"))["x"].tolist() == [[1, 2]]


def test_without_the_library(monkeypatch):
    import sys

    from edged.errors import FieldError

    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(FieldError, match=r"edged\[zstd\]"):
        require_zstd("compression")
    with pytest.raises(DecodeError, match="not installed"):
        unpack(b"\x28\xb5\x2f\xfd", "auto", CAP)


@given(st.binary(max_size=100), st.sampled_from(["gzip", "auto"]))
def test_any_bytes_end_in_bytes_or_our_errors(data, kind):
    for text in (data, gzip.compress(b"hello")[:12] + data):
        try:
            assert len(unpack(text, kind, CAP)) <= CAP
        except InvalidRequestError:
            continue
