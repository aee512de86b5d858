"""Frames and spectra, against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from edged.config.pipeline import SignalConfig
from edged.errors import FieldError
from edged.pipelines.signal import as_float, signal_work
from edged.tensors import TensorSpec

RATE = 16000
TONE = np.sin(2 * np.pi * 1000 * np.arange(RATE // 4) / RATE).astype(np.float32)


@pytest.mark.parametrize("length", [4000, "n"])
@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"size": 400}, (10, 400)),
        ({"size": 400, "step": 160}, (23, 400)),
        ({"size": 512, "step": 160, "window": "hann", "spectrum": "power"}, (22, 257)),
    ],
)
def test_shapes_are_as_foretold(fields: dict, shape: tuple, length: object):
    work = signal_work(SignalConfig(from_="x", **fields))
    (spec,) = work.outputs({"from": TensorSpec("from", "float32", ("batch", length))})
    got = work.run({"from": np.stack([TONE, TONE])})["frames"]
    assert got.shape == (2, *shape)
    assert got.dtype == np.float32
    assert spec.shape == ("batch", shape[0] if length == 4000 else "*frames", shape[1])


def test_the_spectrum_is_scipys():
    config = SignalConfig(from_="x", size=512, step=128, window="hann", spectrum="magnitude")
    got = signal_work(config).run({"from": TONE})["frames"]
    window = scipy.signal.get_window("hann", 512)
    stft = scipy.signal.ShortTimeFFT(window, 128, RATE)
    want = np.abs(stft.stft(TONE.astype(float)))
    start = stft.m_num_mid // 128 - stft.p_min  # the first frame that begins with a sample
    np.testing.assert_allclose(got, want[:, start : start + len(got)].T, atol=2e-2)
    assert got[5].argmax() == 32  # 1000 Hz of 16000 / 512


def test_whole_numbers_have_full_scale_at_one():
    np.testing.assert_array_equal(as_float(np.array([-32768, 0, 16384], np.int16)), [-1, 0, 0.5])
    np.testing.assert_array_equal(as_float(np.array([0, 128, 192], np.uint8)), [-1, 0, 0.5])
    assert as_float(TONE) is TONE


def test_too_few_samples():
    work = signal_work(SignalConfig(from_="x", size=400))
    with pytest.raises(FieldError, match="has 300 samples, a frame 400"):
        work.outputs({"from": TensorSpec("from", "int16", (300,))})
    with pytest.raises(ValueError, match="300 samples are less than a frame of 400"):
        work.run({"from": TONE[:300]})
    with pytest.raises(FieldError, match="expected samples"):
        work.outputs({"from": TensorSpec("from", "int64", (900,))})
