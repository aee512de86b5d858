"""WAV files as other programs write them, and as nobody should."""

from __future__ import annotations

import contextlib
import io
import struct
import wave

import numpy as np
import pytest
import scipy.io.wavfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import DecodeError, TooLargeError
from edged.processing.sound import Layout, read_samples, read_wav

RATE = 16000
TONE = (np.sin(np.arange(800) / 7) * 20000).astype(np.int16)


def chunk(kind: bytes, body: bytes, size: int | None = None) -> bytes:
    return kind + struct.pack("<I", len(body) if size is None else size) + body


def fmt(
    tag: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, more: bytes = b""
) -> bytes:
    block = channels * bits // 8
    return chunk(
        b"fmt ",
        struct.pack("<HHIIHH", tag, channels, rate & 0xFFFFFFFF, 0, block & 0xFFFF, bits) + more,
    )


def riff(*chunks: bytes) -> bytes:
    body = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def read(data: bytes, channel: int | None = None, seconds: float = 60) -> tuple[np.ndarray, int]:
    layout, part = read_wav(memoryview(data))
    return read_samples(part, layout, channel=channel, max_seconds=seconds), layout.rate


@pytest.mark.parametrize(
    ("dtype", "full"),
    [("uint8", 128), ("int16", 2**15), ("int32", 2**31), ("float32", 1)],
)
def test_what_scipy_writes(dtype: str, full: float):
    rng = np.random.default_rng(1)
    stereo = rng.uniform(-1, 1, (500, 2))
    if dtype == "uint8":
        stored = (stereo * 127 + 128).astype(dtype)
    else:
        stored = (stereo * min(full, 2**31 - 1)).astype(dtype)
    file = io.BytesIO()
    scipy.io.wavfile.write(file, 22050, stored)
    exact = (stored.astype(np.float64) - (128 if dtype == "uint8" else 0)) / full
    for channel in (0, 1):
        got, rate = read(file.getvalue(), channel)
        np.testing.assert_array_equal(got, exact[:, channel].astype(np.float32))
        assert (rate, got.dtype) == (22050, np.float32)
    np.testing.assert_allclose(read(file.getvalue())[0], exact.mean(axis=1), atol=1e-7)


def test_24_bits_as_the_standard_library_writes_them():
    values = np.array([0, 1, -1, 2**23 - 1, -(2**23), 123456, -654321], np.int32)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 3, RATE, 0, "NONE", ""))
        out.writeframes(b"".join(int(v).to_bytes(3, "little", signed=True) for v in values))
    np.testing.assert_array_equal(read(file.getvalue())[0], (values / 2.0**23).astype(np.float32))


def test_other_chunks_and_an_extensible_header():
    guid = bytes.fromhex("0300000000001000800000aa00389b71")
    more = struct.pack("<HHI", 22, 32, 4) + guid
    floats = np.array([0.5, -2.0], "<f4")
    data = riff(
        chunk(b"LIST", b"odd") + b"\0",
        fmt(0xFFFE, bits=32, more=more),
        chunk(b"data", floats.tobytes()),
        b"rubbish behind",
    )
    assert read(data)[0].tolist() == [0.5, -2.0]


@pytest.mark.parametrize("size", [0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_a_writer_into_a_pipe_knows_no_size(size: int):
    data = riff(fmt(), chunk(b"data", TONE.tobytes(), size))
    np.testing.assert_array_equal(read(data)[0], (TONE / 32768).astype(np.float32))


GOOD = riff(fmt(), chunk(b"data", TONE.tobytes()))
HOSTILE = {
    "nothing": (b"", "begin with nothing"),
    "no RIFF": (b"OggS" + bytes(40), "expected a WAV file"),
    "no chunks": (riff(), "cut short"),
    "no data": (riff(fmt()), 'no chunk "data"'),
    "data first": (riff(chunk(b"data", b"\0\0"), fmt()), 'no chunk "fmt "'),
    "data cut": (GOOD[:-1], "1600 bytes of data, 1599 are there"),
    "a chunk of 2 GB": (riff(chunk(b"junk", b"", 2**31 - 1), fmt()), "'junk' has 2147483647 bytes"),
    "a chunk of 4 GB": (riff(fmt(), chunk(b"junk", b"", 2**32 - 1)), "cut short"),
    "1001 chunks": (riff(*[chunk(b"junk", b"")] * 1001, fmt()), "more than 1000 chunks"),
    "half a sample": (riff(fmt(), chunk(b"data", b"\0\0\0")), "no whole number of 1 x int16"),
    "an open size, half a sample": (riff(fmt(), chunk(b"data", b"\0\0\0", 2**32 - 1)), "no whole"),
    "no samples": (riff(fmt(), chunk(b"data", b"")), "has no samples"),
    "a short fmt": (riff(chunk(b"fmt ", bytes(15)) + b"\0", GOOD[36:]), "has 15 bytes"),
    "rate 0": (riff(fmt(rate=0), GOOD[36:]), "has 0 samples a second"),
    "rate 1": (riff(fmt(rate=1), GOOD[36:]), "has 1 samples a second"),
    "rate 4 GHz": (riff(fmt(rate=2**32 - 1), GOOD[36:]), "4294967295 samples a second"),
    "no channel": (riff(fmt(channels=0), GOOD[36:]), "0 channels"),
    "65535 channels": (riff(fmt(channels=65535), GOOD[36:]), "65535 channels"),
    "12 bits": (riff(fmt(bits=12), GOOD[36:]), "format 1 with 12 bits"),
    "ADPCM": (riff(fmt(tag=2), GOOD[36:]), "format 2 with 16 bits"),
    "a private format": (riff(fmt(0xFFFE, more=bytes(24)), GOOD[36:]), "does not name in full"),
    "a block that lies": (GOOD[:32] + b"\7" + GOOD[33:], "says 7 bytes for 1 x int16"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.hostile(
    "H10 a WAV file whose header lies, that is cut short or holds numbers that are not finite"
)
def test_hostile(name: str):
    data, words = HOSTILE[name]
    with pytest.raises(DecodeError, match=words):
        read(data)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.hostile(
    "H10 a WAV file whose header lies, that is cut short or holds numbers that are not finite"
)
def test_floats_that_are_no_numbers(bad: float):
    floats = np.array([0, bad, 0], "<f4")
    data = riff(fmt(3, bits=32), chunk(b"data", floats.tobytes()))
    with pytest.raises(DecodeError, match="not finite"):
        read(data)


def test_floats_whose_mean_is_too_large():
    """Each of both is finite, and so is their mean."""
    floats = np.full((4, 2), 3e38, "<f4")
    data = riff(fmt(3, channels=2, bits=32), chunk(b"data", floats.tobytes()))
    assert np.isfinite(read(data)[0]).all()


def test_long_ones_are_read_in_parts(monkeypatch: pytest.MonkeyPatch):
    whole = read(GOOD)[0]
    monkeypatch.setattr("edged.processing.sound._BLOCK", 77)
    np.testing.assert_array_equal(read(GOOD)[0], whole)
    monkeypatch.setattr("edged.processing.sound.MOST_SAMPLES", 799)
    with pytest.raises(TooLargeError, match="a recording of 800 samples; the limit is 799"):
        read(GOOD)


def test_limits():
    with pytest.raises(TooLargeError, match=r"a recording of 0\.1 s; the limit is 0\.04 s"):
        read(GOOD, seconds=0.04)
    with pytest.raises(DecodeError, match="no channel 1; the recording has 1"):
        read(GOOD, channel=1)
    with pytest.raises(DecodeError, match="3 bytes are no whole number of 2 x uint8"):
        read_samples(memoryview(b"abc"), Layout("uint8", RATE, 2), channel=None, max_seconds=1)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_damage_is_a_sentence(data: st.DataObject):
    payload = bytearray(GOOD[:120])
    payload[40:44] = struct.pack("<I", len(payload) - 44)
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    payload = payload[: data.draw(st.integers(0, len(payload)))]
    with contextlib.suppress(DecodeError, TooLargeError):
        got, _ = read(bytes(payload))
        assert np.isfinite(got).all()
        assert got.nbytes <= 4 * len(payload)
