"""Sampled signals to frames and spectra, as models of sounds and vibrations want them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edged.config.pipeline import SignalConfig
from edged.errors import FieldError
from edged.pipelines.step import Values, Work
from edged.tensors import Array, Axis, TensorSpec

_FULL = {"int16": 32768.0, "int32": 2147483648.0, "uint8": 128.0}
"""What a sample is divided by, so that full scale is 1; uint8 has its silence at 128."""


def signal_work(config: SignalConfig) -> Work:
    """Samples to float32, cut into overlapping frames, and to the spectrum of each."""
    step = config.step or config.size

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if not spec.shape or (spec.dtype not in _FULL and spec.dtype != "float32"):
            raise FieldError("signal.from", f"is {spec}; expected samples, float32[…,n] or int16")
        samples = spec.shape[-1]
        count: Axis = "*frames"
        if isinstance(samples, int):
            if samples < config.size:
                raise FieldError(
                    "signal.size", f"{spec} has {samples} samples, a frame {config.size}"
                )
            count = (samples - config.size) // step + 1
        wide = config.size // 2 + 1 if config.spectrum != "none" else config.size
        return [TensorSpec("frames", "float32", (*spec.shape[:-1], count, wide))]

    window = np.hanning(config.size + 1)[:-1] if config.window == "hann" else None

    def run(values: Values) -> Values:
        samples = as_float(values["from"])
        if samples.shape[-1] < config.size:
            raise ValueError(f"{samples.shape[-1]} samples are less than a frame of {config.size}")
        frames = np.lib.stride_tricks.sliding_window_view(samples, config.size, axis=-1)
        frames = frames[..., ::step, :]
        if window is not None:
            frames = frames * window.astype(np.float32)
        if config.spectrum != "none":
            spectrum = np.abs(np.fft.rfft(frames, axis=-1))
            frames = spectrum**2 if config.spectrum == "power" else spectrum
        return {"frames": np.ascontiguousarray(frames, np.float32)}

    return Work({"from": config.from_}, outputs, run, is_slow=True)


def as_float(samples: Array) -> Array:
    """float32 with full scale at 1; what is float32 already stays as it is."""
    full = _FULL.get(samples.dtype.name)
    if full is None:
        return samples
    silence = 128.0 if samples.dtype.kind == "u" else 0.0
    scaled: Array = ((samples.astype(np.float64) - silence) / full).astype(np.float32)
    return scaled
