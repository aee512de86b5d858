"""What an operator writes about sounds and other signals in a pipeline. Words only."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edged.config.section import Reference, Section

Rate = Annotated[int, Meta(ge=1000, le=768_000)]
"""Samples a second: what converters of sound do."""
Hertz = Annotated[float, Meta(ge=0, le=384_000)]


class AudioConfig(Section, frozen=True, kw_only=True):
    """A recording as it is in a file, uint8[bytes], as samples at one rate."""

    from_: Annotated[Reference, Meta(description="the file's bytes")] = msgspec.field(name="from")
    rate: Annotated[Rate, Meta(description="samples a second that are wanted")]
    encoding: Annotated[
        Literal["wav", "uint8", "int16", "int24", "int32", "float32"],
        Meta(description="wav: the file's header says; else bare samples, little-endian"),
    ] = "wav"
    recorded: Annotated[
        Rate | None, Meta(description="of bare samples: how many a second; default: rate")
    ] = None
    channels: Annotated[int, Meta(ge=1, le=64, description="of bare samples")] = 1
    channel: Annotated[
        Annotated[int, Meta(ge=0, le=63)] | None,
        Meta(description="which to take, from 0; default: the mean of all"),
    ] = None
    max_seconds: Annotated[
        float, Meta(gt=0, le=7200, description="longest recording; more are refused")
    ] = 600.0


class ResampleConfig(Section, frozen=True, kw_only=True):
    """Samples along the last axis at another rate."""

    from_: Annotated[Reference, Meta(description="samples; whole numbers become -1 to 1")] = (
        msgspec.field(name="from")
    )
    have: Annotated[int, Meta(ge=1, le=10_000_000, description="samples a second that come")]
    want: Annotated[int, Meta(ge=1, le=10_000_000, description="samples a second that leave")]


class SignalConfig(Section, frozen=True, kw_only=True):
    """Samples along the last axis as overlapping frames, or the spectrum of each."""

    from_: Annotated[Reference, Meta(description="samples; whole numbers become -1 to 1")] = (
        msgspec.field(name="from")
    )
    size: Annotated[int, Meta(ge=2, le=65536, description="samples of a frame")]
    step: Annotated[
        int, Meta(ge=0, le=65536, description="samples from one frame to the next; 0 = size")
    ] = 0
    window: Annotated[
        Literal["none", "hann", "hamming"], Meta(description="what a frame is weighted by")
    ] = "none"
    spectrum: Annotated[
        Literal["none", "magnitude", "power"],
        Meta(description="of each frame: fft / 2 + 1 values"),
    ] = "none"
    fft: Annotated[
        int, Meta(ge=0, le=65536, description="a frame is filled with zeros to so many; 0 = size")
    ] = 0
    centre: Annotated[
        Literal["none", "zeros", "reflect", "edge"],
        Meta(description="frame k lies around sample k * step; what is beyond the ends"),
    ] = "none"


class MelConfig(Section, frozen=True, kw_only=True):
    """A spectrum as bands of the mel scale, their logarithms, or cepstra (MFCC)."""

    from_: Annotated[Reference, Meta(description="a spectrum [frames,fft / 2 + 1] of signal")] = (
        msgspec.field(name="from")
    )
    rate: Annotated[Rate, Meta(description="samples a second of the recording")]
    bands: Annotated[int, Meta(ge=1, le=1024, description="how many")]
    low: Annotated[Hertz, Meta(description="Hz, where the first begins")] = 0.0
    high: Annotated[
        Hertz | None, Meta(description="Hz, where the last ends; default: half the rate")
    ] = None
    scale: Annotated[
        Literal["htk", "slaney"], Meta(description="htk as torchaudio, slaney as librosa")
    ] = "htk"
    norm: Annotated[
        Literal["none", "slaney"], Meta(description="none: tops at 1; slaney: areas of 1")
    ] = "none"
    log: Annotated[
        Literal["none", "log", "log10", "db"], Meta(description="db: 10 * log10; of a power")
    ] = "none"
    floor: Annotated[float, Meta(gt=0, description="of log: smaller values become this")] = 1e-10
    span: Annotated[
        float,
        Meta(ge=0, description="of log: nothing is lower than the highest minus this; 0 = off"),
    ] = 0.0
    cepstra: Annotated[
        int, Meta(ge=0, le=1024, description="first so many of the cosine transform; 0 = bands")
    ] = 0
