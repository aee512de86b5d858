"""Samples at one rate to samples at another: a polyphase filter, a sinc under a Kaiser window.

Up to 0.88 of the lower of both Nyquist frequencies nothing changes by more than 0.001 dB; from that
Nyquist frequency on nothing is left above -89 dB. The filter is symmetric, so nothing is delayed.
Beyond the ends there is silence.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from edged.tensors import Array

MOST_PHASES = 8192
"""Of a ratio in lowest terms, either side. 44100 to 48000 is 147 to 160; the filter for a ratio of
this size has 6 MB, and one of two rates without a common divisor would have hundreds."""
_CROSSINGS = 48
"""Zero crossings of the sinc on each side: the width of the filter's edge."""
_BETA = 8.96
"""Of the window: 90 dB. Source: Kaiser 1974, 0.1102 * (90 - 8.7)."""
_CUTOFF = 0.94
"""Of the lower Nyquist frequency: the middle of the edge, which ends at 1."""
_CHUNK = 1 << 20
"""Products that are computed at a time: 8 MB."""


def ratio(have: int, want: int) -> tuple[int, int]:
    """How many samples become how many, in lowest terms: ``(up, down)``.

    Raises:
        ValueError: the rates have hardly anything in common.
    """
    shared = math.gcd(have, want)
    up, down = want // shared, have // shared
    if max(up, down) > MOST_PHASES:
        raise ValueError(
            f"{have} to {want} samples a second is {down}:{up}; the limit is {MOST_PHASES}, so "
            "choose rates with a common divisor"
        )
    return up, down


def length(samples: int, up: int, down: int) -> int:
    """How many samples come out."""
    return -(-samples * up // down)


@lru_cache(maxsize=4)
def bank(up: int, down: int) -> Array:
    """The filter, float32[up, taps]: row p is what an output ``p / up`` behind a sample weighs."""
    wide = max(up, down)
    reach = -(-_CROSSINGS * wide // up)  # samples on each side
    taps = 2 * reach
    place = np.arange(taps) - (reach - 1)
    times = np.arange(up)[:, np.newaxis] / up - place  # in samples, from the output to each
    scale = up / wide
    share = np.clip(times * scale / _CROSSINGS, -1, 1)
    window = np.i0(_BETA * np.sqrt(1 - share**2)) / np.i0(_BETA)
    weights = np.sinc(times * scale * _CUTOFF) * window
    weights[np.abs(times * scale) > _CROSSINGS] = 0
    weights /= weights.sum(axis=1, keepdims=True)  # a constant stays what it is
    made: Array = weights.astype(np.float32)
    made.flags.writeable = False
    return made


def resample(samples: Array, have: int, want: int) -> Array:
    """Change the rate.

    Args:
        samples: float32[…, n].
        have: samples a second.
        want: samples a second.

    Returns:
        float32[…, ceil(n * want / have)].

    Raises:
        ValueError: as ``ratio``.
    """
    up, down = ratio(have, want)
    if up == down:
        return samples
    made = np.empty((*samples.shape[:-1], length(samples.shape[-1], up, down)), np.float32)
    for place in np.ndindex(samples.shape[:-1] if made.size else (0,)):
        _filter(samples[place], bank(up, down), down, made[place])
    return made


def _filter(samples: Array, filters: Array, down: int, made: Array) -> None:
    """One row: float32[n] into float32[length]."""
    up, taps = filters.shape
    reach = taps // 2
    padded = np.pad(samples, (reach - 1, reach))
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    step = max(1, _CHUNK // taps)
    for start in range(0, len(made), step):
        stop = min(start + step, len(made))
        first, phase = np.divmod(np.arange(start, stop, dtype=np.int64) * down, up)
        np.einsum("ij,ij->i", windows[first], filters[phase], out=made[start:stop])
