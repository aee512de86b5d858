"""Recordings to samples, samples to another rate, spectra to mel bands: steps of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from edged.config.sound import AudioConfig, MelConfig, ResampleConfig
from edged.errors import FieldError
from edged.pipelines.checks import check_growth
from edged.pipelines.signal import as_float, check_samples
from edged.pipelines.step import Values, Work
from edged.processing.mel import cosines, filter_bank, logarithm
from edged.processing.resample import length, ratio, resample
from edged.processing.sound import Layout, read_samples, read_wav
from edged.tensors import Array, Axis, TensorSpec


def audio_work(config: AudioConfig) -> Work:
    """A file's bytes to samples of one channel, at one rate.

    Raises:
        FieldError: settings that do not go together.
    """
    bare = None
    if config.encoding != "wav":
        bare = Layout(config.encoding, config.recorded or config.rate, config.channels)
        _ratio("audio.recorded", bare.rate, config.rate)
        if config.channel is not None and config.channel >= config.channels:
            raise FieldError("audio.channel", f"there are channels 0 to {config.channels - 1}")
    elif config.recorded is not None or config.channels != 1:
        raise FieldError("audio", "a wav file says itself what recorded and channels would")

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if spec.dtype != "uint8" or len(spec.shape) != 1:
            raise FieldError("audio.from", f"is {spec}; expected the bytes of a file, uint8[bytes]")
        count: Axis = "*samples"
        if bare is not None and isinstance(spec.shape[0], int):
            frames = spec.shape[0] // bare.frame_bytes
            count = length(frames, *ratio(bare.rate, config.rate))
        return [TensorSpec("samples", "float32", (count,))]

    def run(values: Values) -> Values:
        data = np.ascontiguousarray(values["from"]).data
        layout = bare
        if layout is None:
            layout, data = read_wav(data)
        samples = read_samples(data, layout, channel=config.channel, max_seconds=config.max_seconds)
        return {"samples": _resampled(samples, layout.rate, config.rate)}

    return Work({"from": config.from_}, outputs, run, is_slow=True)


def resample_work(config: ResampleConfig) -> Work:
    """Another rate.

    Raises:
        FieldError: the rates have hardly anything in common.
    """
    up, down = _ratio("resample.want", config.have, config.want)

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        check_samples("resample.from", spec)
        samples = spec.shape[-1]
        count = length(samples, up, down) if isinstance(samples, int) else "*samples"
        return [TensorSpec("samples", "float32", (*spec.shape[:-1], count))]

    def run(values: Values) -> Values:
        return {"samples": _resampled(as_float(values["from"]), config.have, config.want)}

    return Work({"from": config.from_}, outputs, run, is_slow=True)


def _resampled(samples: Array, have: int, want: int) -> Array:
    rows, count = samples.size // max(samples.shape[-1], 1), samples.shape[-1]
    check_growth(rows * length(count, *ratio(have, want)), samples.size)
    return resample(samples, have, want)


def _ratio(path: str, have: int, want: int) -> tuple[int, int]:
    try:
        return ratio(have, want)
    except ValueError as exc:
        raise FieldError(path, str(exc)) from exc


def mel_work(config: MelConfig) -> Work:
    """Mel bands of a spectrum, their logarithms, or cepstra.

    Raises:
        FieldError: settings that do not go together.
    """
    high = config.rate / 2 if config.high is None else config.high
    if not config.low < high <= config.rate / 2:
        raise FieldError(
            "mel.high",
            f"is {high:g} Hz; expected more than low, {config.low:g}, and at most half the rate, "
            f"{config.rate / 2:g}",
        )
    if config.cepstra > config.bands:
        raise FieldError("mel.cepstra", f"of {config.bands} bands there are {config.bands} at most")
    if config.span and config.log == "none":
        raise FieldError("mel.span", "is a distance of logarithms; write log: db")
    table = cosines(config.bands, config.cepstra) if config.cepstra else None

    @lru_cache(maxsize=1)  # one length, unless the step was planned anew
    def bank(bins: int) -> Array:
        return filter_bank(
            bins=bins, rate=config.rate, bands=config.bands, low=config.low, high=high,
            scale=config.scale, norm=config.norm,
        )  # fmt: skip

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if spec.dtype != "float32" or len(spec.shape) < 2 or not isinstance(spec.shape[-1], int):
            raise FieldError("mel.from", f"is {spec}; expected a spectrum, float32[frames,bins]")
        return [TensorSpec("mel", "float32", (*spec.shape[:-1], config.cepstra or config.bands))]

    def run(values: Values) -> Values:
        spectrum = values["from"]
        made = spectrum @ bank(spectrum.shape[-1])
        if config.log != "none":
            made = logarithm(made, config.log, config.floor, config.span)
        return {"mel": made if table is None else made @ table}

    return Work({"from": config.from_}, outputs, run, is_slow=True)
