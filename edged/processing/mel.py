"""Mel filter banks, logarithms of them, and their cosine transform. Pure.

The scales are those that speech models are trained with: HTK's (2595 log10(1 + f / 700), as
torchaudio and Kaldi) and Slaney's (straight up to 1000 Hz, as librosa's default).
"""

from __future__ import annotations

import math

import numpy as np

from edged.tensors import Array

_KNEE_HZ = 1000.0
_KNEE_MEL = 15.0
_HZ_A_MEL = 200.0 / 3
_LOG_STEP = math.log(6.4) / 27.0
"""Slaney's scale above the knee. Source: Slaney, Auditory Toolbox, version 2 (1998)."""


def to_mel(hertz: Array, scale: str) -> Array:
    """Frequencies on a mel scale, ``htk`` or ``slaney``; float64 to float64."""
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hertz / 700.0))
    above = _KNEE_MEL + np.log(np.maximum(hertz, _KNEE_HZ) / _KNEE_HZ) / _LOG_STEP
    return np.where(hertz < _KNEE_HZ, hertz / _HZ_A_MEL, above)


def to_hertz(mel: Array, scale: str) -> Array:
    """The inverse of ``to_mel``."""
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    above = _KNEE_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _KNEE_MEL) - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _HZ_A_MEL, above)


def filter_bank(
    *, bins: int, rate: int, bands: int, low: float, high: float, scale: str, norm: str
) -> Array:
    """Triangles on the mel scale.

    Args:
        bins: of a spectrum, from 0 to half the rate.
        rate: samples a second.
        bands: how many triangles.
        low: Hz, where the first begins.
        high: Hz, where the last ends.
        scale: ``htk`` or ``slaney``.
        norm: ``none``: each has its top at 1; ``slaney``: each has the area 1 in Hz.

    Returns:
        float32[bins, bands].
    """
    ends = to_mel(np.array([low, high]), scale)
    edges = to_hertz(np.linspace(ends[0], ends[1], bands + 2), scale)
    places = np.linspace(0, rate / 2, bins)[:, np.newaxis]
    widths = np.diff(edges)
    rising = (places - edges[:-2]) / widths[:-1]
    falling = (edges[2:] - places) / widths[1:]
    bank = np.maximum(0, np.minimum(rising, falling))
    if norm == "slaney":
        bank *= 2.0 / (edges[2:] - edges[:-2])
    return np.asarray(bank, np.float32)


def logarithm(values: Array, kind: str, floor: float, span: float) -> Array:
    """``log``, ``log10`` or ``db`` (10 log10) of values that are at least ``floor``.

    Args:
        values: float32, not negative; the last two axes are one recording's.
        kind: which.
        floor: smaller values become this.
        span: what is lower than the highest by more becomes the highest minus this, in the unit of
            the result; 0 = nothing does.
    """
    made = np.maximum(values, np.float32(floor))
    made = np.log(made) if kind == "log" else np.log10(made)
    if kind == "db":
        made *= np.float32(10)
    if span and made.size:
        axes = tuple(range(max(made.ndim - 2, 0), made.ndim))
        made = np.maximum(made, made.max(axis=axes, keepdims=True) - np.float32(span))
    return np.asarray(made)


def cosines(bands: int, kept: int) -> Array:
    """The orthonormal cosine transform (DCT-II): float32[bands, kept]."""
    place = (np.arange(bands) + 0.5)[:, np.newaxis] * np.arange(kept) * (math.pi / bands)
    table = np.cos(place) * math.sqrt(2.0 / bands)
    table[:, 0] *= math.sqrt(0.5)
    return np.asarray(table, np.float32)
