"""Sampled signals to frames and spectra, as models of sounds and vibrations want them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edged.config.sound import SignalConfig
from edged.errors import FieldError
from edged.pipelines.checks import check_growth
from edged.pipelines.step import Values, Work
from edged.processing.sound import FULL_SCALE, scaled
from edged.tensors import Array, Axis, TensorSpec

_HAMMING = (0.54, 0.46)
_CHUNK = 1 << 20
"""Samples that are transformed at a time: the complex numbers on the way have 16 MB."""
_PAD = {"zeros": "constant", "reflect": "reflect", "edge": "edge"}
"""What NumPy calls it."""


def signal_work(config: SignalConfig) -> Work:
    """Samples to float32, cut into overlapping frames, and to the spectrum of each.

    Raises:
        FieldError: settings that do not go together.
    """
    step = config.step or config.size
    points = config.fft or config.size
    if points < config.size:
        raise FieldError("signal.fft", f"is less than a frame of {config.size}; expected more")
    if config.fft and config.spectrum == "none":
        raise FieldError("signal.fft", "is for a spectrum; write spectrum: magnitude or power")
    # The frames of a longer transform lie in its middle.
    cut = (points - config.size) // 2
    left = points // 2 - cut if config.centre != "none" else 0
    both = points // 2 * 2 - (points - config.size) if config.centre != "none" else 0

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        check_samples("signal.from", spec)
        samples = spec.shape[-1]
        count: Axis = "*frames"
        if isinstance(samples, int):
            if samples + both < config.size:
                raise FieldError(
                    "signal.size", f"{spec} has {samples} samples, a frame {config.size}"
                )
            count = (samples + both - config.size) // step + 1
        wide = points // 2 + 1 if config.spectrum != "none" else config.size
        return [TensorSpec("frames", "float32", (*spec.shape[:-1], count, wide))]

    window = weights(config.window, config.size)

    def run(values: Values) -> Values:
        samples = as_float(values["from"])
        if config.centre != "none" and samples.shape[-1]:
            sides = [(0, 0)] * (samples.ndim - 1) + [(left, both - left)]
            samples = np.pad(samples, sides, _PAD[config.centre])  # type: ignore[call-overload]
        if samples.shape[-1] < config.size:
            raise ValueError(f"{samples.shape[-1]} samples are less than a frame of {config.size}")
        frames = np.lib.stride_tricks.sliding_window_view(samples, config.size, axis=-1)
        frames = frames[..., ::step, :]
        wide = points // 2 + 1 if config.spectrum != "none" else config.size
        check_growth(frames.size // config.size * wide, samples.size)
        if config.spectrum != "none":
            return {"frames": spectra(frames, window, points, power=config.spectrum == "power")}
        if window is not None:
            frames = frames * window
        return {"frames": np.ascontiguousarray(frames, np.float32)}

    return Work({"from": config.from_}, outputs, run, is_slow=True)


def check_samples(path: str, spec: TensorSpec) -> None:
    """Refuse what is no signal; raises FieldError at ``path``."""
    if not spec.shape or spec.dtype not in ("uint8", "int16", "int32", "float32"):
        raise FieldError(path, f"is {spec}; expected samples, float32[…,n] or int16")


def weights(kind: str, size: int) -> Array | None:
    """float32[size], one period of a window; None for ``none``."""
    if kind == "none":
        return None
    wave = np.cos(2 * np.pi * np.arange(size) / size)
    base, share = _HAMMING if kind == "hamming" else (0.5, 0.5)
    return np.asarray(base - share * wave, np.float32)


def spectra(frames: Array, window: Array | None, points: int, *, power: bool) -> Array:
    """Magnitudes of each frame, or their squares.

    Args:
        frames: float32[…, n, size].
        window: float32[size].
        points: of the transform; frames are filled with zeros.
        power: squares.

    Returns:
        float32[…, n, points / 2 + 1].
    """
    count = frames.shape[-2]
    made = np.empty((*frames.shape[:-1], points // 2 + 1), np.float32)
    for place in np.ndindex(frames.shape[:-2]):
        for start in range(0, count, max(1, _CHUNK // points)):
            some = slice(start, start + max(1, _CHUNK // points))
            part = frames[place][some]
            found = np.fft.rfft(part if window is None else part * window, points, axis=-1)
            made[place][some] = found.real**2 + found.imag**2 if power else np.abs(found)
    return made


def as_float(samples: Array) -> Array:
    """float32 with full scale at 1; what is float32 already stays as it is."""
    if samples.dtype.name not in FULL_SCALE:
        return samples
    return scaled(samples, samples.dtype.name).astype(np.float32)
