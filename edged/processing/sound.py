"""Recordings to samples: WAV files, and bare PCM, checked before anything is made of them.

Decides which files are sound we accept. Refused: compressed WAV, sizes that do not hold, files cut
short, numbers that are not finite, recordings longer than the caller allows. Taken as "up to the
end of the file": a size of data so large that no message has it, which programs write that write
into a pipe and cannot go back (such a file may be cut short unseen).
Source: Multimedia Programming Interface and Data Specifications 1.0 (RIFF, WAVE), and Microsoft's
WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from edged.errors import DecodeError, TooLargeError
from edged.tensors import Array

FULL_SCALE = {"int16": 32768.0, "int24": 8388608.0, "int32": 2147483648.0, "uint8": 128.0}
"""What a sample is divided by, so that full scale is 1; uint8 has its silence at 128."""
ENCODINGS = {"uint8": 1, "int16": 2, "int24": 3, "int32": 4, "float32": 4}
"""Bytes of one sample."""
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
"""What converters of sound do; a header with less would make hours of a few bytes."""
MOST_CHANNELS = 64
MOST_SAMPLES = 1 << 26
"""Of one channel, read or made: 23 minutes at 48 kHz, 256 MB."""
_BLOCK = 1 << 18
"""Samples that are computed at a time, in float64: 2 MB, and as much again for each channel."""
_MOST_CHUNKS = 1000
"""Before the data; writers of metadata make a dozen, and each costs a turn of a loop."""
_OPEN_SIZE = 0x7F000000
"""From here on a size means that its writer did not know it."""
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_WIDTHS = {
    (_PCM, 8): "uint8", (_PCM, 16): "int16", (_PCM, 24): "int24", (_PCM, 32): "int32",
    (_FLOAT, 32): "float32",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """How samples lie in bytes.

    Args:
        encoding: a key of ENCODINGS, little-endian.
        rate: samples of one channel in a second.
        channels: which come in turn.
    """

    encoding: str
    rate: int
    channels: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return ENCODINGS[self.encoding] * self.channels


def read_wav(data: memoryview) -> tuple[Layout, memoryview]:
    """Find the samples of a WAV file.

    Args:
        data: the whole file.

    Returns:
        How they lie, and where; as a view.

    Raises:
        DecodeError: not a WAV file that is accepted; says why.
    """
    head = bytes(data[:12])
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        begin = head.hex(" ") or "nothing"
        raise DecodeError(
            f"expected a WAV file (RIFF … WAVE); got {len(data)} bytes that begin with {begin}"
        )
    layout = None
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            raise DecodeError('the WAV file is cut short: it has no chunk "data"')
        kind, size = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        rest = len(data) - at
        if kind == b"data":
            if layout is None:
                raise DecodeError('the WAV file has no chunk "fmt " before its data')
            size = rest if size >= _OPEN_SIZE else size
            if size > rest:
                raise DecodeError(
                    f"the WAV file is cut short: {size} bytes of data, {rest} are there"
                )
            return layout, data[at : at + size]
        if size > rest:
            shown = ascii(kind.decode("latin-1"))
            raise DecodeError(
                f"the WAV file is cut short: chunk {shown} has {size} bytes, {rest} follow"
            )
        if kind == b"fmt ":
            layout = _layout(bytes(data[at : at + min(size, 40)]))
        at += size + size % 2
    raise DecodeError(f"the WAV file has more than {_MOST_CHUNKS} chunks before its data")


def _layout(chunk: bytes) -> Layout:
    """What a chunk ``fmt`` says."""
    if len(chunk) < 16:
        raise DecodeError(f'chunk "fmt " has {len(chunk)} bytes; expected 16 or more')
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != _GUID_TAIL:
            raise DecodeError("the WAV file is of a format that its header does not name in full")
        tag = int.from_bytes(chunk[24:26], "little")
    encoding = _WIDTHS.get((tag, bits))
    if encoding is None:
        raise DecodeError(
            f"the WAV file has format {tag} with {bits} bits; expected PCM of 8, 16, 24 or 32 bits "
            "or float of 32"
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise DecodeError(f"the WAV file has {channels} channels; expected 1 to {MOST_CHANNELS}")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DecodeError(
            f"the WAV file has {rate} samples a second; expected {LOWEST_RATE} to {HIGHEST_RATE}"
        )
    layout = Layout(encoding, rate, channels)
    if block != layout.frame_bytes:
        raise DecodeError(
            f"the WAV file says {block} bytes for {channels} x {encoding}; expected "
            f"{layout.frame_bytes}"
        )
    return layout


def read_samples(
    data: memoryview, layout: Layout, *, channel: int | None, max_seconds: float
) -> Array:
    """Bytes to numbers, of one channel or of the mean of all.

    Args:
        data: the samples alone.
        layout: how they lie.
        channel: which, from 0; None = the mean.
        max_seconds: longest recording.

    Returns:
        float32[samples], full scale at 1.

    Raises:
        DecodeError: no whole samples, no such channel, or numbers that are not finite.
        TooLargeError: the recording is longer.
    """
    count, rest = divmod(len(data), layout.frame_bytes)
    if rest:
        raise DecodeError(
            f"{len(data)} bytes are no whole number of {layout.channels} x {layout.encoding}"
        )
    if not count:
        raise DecodeError("the recording has no samples")
    if count > max_seconds * layout.rate:
        raise TooLargeError(
            f"a recording of {count / layout.rate:.1f} s; the limit is {max_seconds:g} s"
        )
    if count > MOST_SAMPLES:
        raise TooLargeError(f"a recording of {count} samples; the limit is {MOST_SAMPLES}")
    if channel is not None and channel >= layout.channels:
        raise DecodeError(f"there is no channel {channel}; the recording has {layout.channels}")
    mono = np.empty(count, np.float32)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        part = data[start * layout.frame_bytes : stop * layout.frame_bytes]
        with np.errstate(invalid="ignore"):  # a signalling NaN; it is looked for below
            mono[start:stop] = _mixed(part, layout, channel)
    if not np.isfinite(mono).all():
        raise DecodeError("the recording holds numbers that are not finite")
    return mono


def _mixed(data: memoryview, layout: Layout, channel: int | None) -> Array:
    """float64[samples]: one channel, or the mean of all."""
    if channel is not None:
        return _channel(data, layout, channel)
    total = _channel(data, layout, 0)
    for other in range(1, layout.channels):
        total += _channel(data, layout, other)
    return total / layout.channels


def _channel(data: memoryview, layout: Layout, channel: int) -> Array:
    """float64[samples] of one channel, full scale at 1; nobody else's."""
    encoding = layout.encoding
    if encoding == "int24":
        triples = np.frombuffer(data, np.uint8).reshape(-1, layout.channels, 3)[:, channel]
        wide = np.zeros((len(triples), 4), np.uint8)
        wide[:, 1:] = triples  # the sample in the upper bytes keeps its sign
        values = wide.view("<i4")[:, 0] / 256.0
    else:
        kind = np.dtype(encoding).newbyteorder("<")
        values = np.frombuffer(data, kind).reshape(-1, layout.channels)[:, channel]
    return scaled(values, encoding)


def scaled(samples: Array, encoding: str) -> Array:
    """float64 with full scale at 1."""
    full = FULL_SCALE.get(encoding)
    if full is None:
        return samples.astype(np.float64)
    silence = 128.0 if encoding == "uint8" else 0.0
    made: Array = (samples.astype(np.float64) - silence) / full
    return made
