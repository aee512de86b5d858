"""Frames and spectra, against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from edged.config.sound import SignalConfig
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


def signal(samples: np.ndarray, **fields: object) -> np.ndarray:
    """The step's frames, which have the shape that it foretold."""
    work = signal_work(SignalConfig(from_="x", **fields))
    (spec,) = work.outputs({"from": TensorSpec("from", "float32", samples.shape)})
    made = work.run({"from": samples})["frames"]
    assert spec.shape == made.shape
    return made


@pytest.mark.parametrize("samples", [401, 4000])
@pytest.mark.parametrize("points", [0, 401, 512, 513])
@pytest.mark.parametrize("size", [400, 401])
@pytest.mark.parametrize(
    ("centre", "numpys"), [("reflect", "reflect"), ("zeros", "constant"), ("edge", "edge")]
)
def test_centred_frames_of_a_longer_transform(
    samples: int, points: int, size: int, centre: str, numpys: str
):
    """As torch.stft and librosa: padded by half the transform, the window in its middle."""
    if points and points < size:
        pytest.skip("no transform is shorter than its frame")
    points = points or size
    got = signal(
        TONE[:samples], size=size, step=160, window="hamming", fft=points, centre=centre,
        spectrum="magnitude",
    )  # fmt: skip
    padded = np.pad(TONE[:samples].astype(float), points // 2, mode=numpys)
    window = np.zeros(points)
    left = (points - size) // 2
    window[left : left + size] = scipy.signal.get_window("hamming", size)
    starts = range(0, len(padded) - points + 1, 160)
    wanted = [np.abs(np.fft.rfft(padded[at : at + points] * window)) for at in starts]
    assert len(got) == len(wanted)
    np.testing.assert_allclose(got, wanted, atol=2e-3)


def test_a_longer_transform_without_centring_fills_up_behind():
    got = signal(TONE, size=400, step=160, fft=512, spectrum="power")
    wanted = np.abs(np.fft.rfft(TONE[160:560].astype(float), 512)) ** 2
    np.testing.assert_allclose(got[1], wanted, rtol=1e-3, atol=1e-2)


def test_many_frames_are_transformed_in_parts(monkeypatch: pytest.MonkeyPatch):
    samples = np.stack([TONE, -2 * TONE])
    whole = signal(samples, size=400, step=160, window="hann", spectrum="power")
    monkeypatch.setattr("edged.pipelines.signal._CHUNK", 2000)
    np.testing.assert_array_equal(
        signal(samples, size=400, step=160, window="hann", spectrum="power"), whole
    )


def test_settings_that_do_not_go_together():
    with pytest.raises(FieldError, match="less than a frame of 400"):
        signal_work(SignalConfig(from_="x", size=400, fft=256, spectrum="power"))
    with pytest.raises(FieldError, match="is for a spectrum"):
        signal_work(SignalConfig(from_="x", size=400, fft=512))
    work = signal_work(SignalConfig(from_="x", size=400, centre="reflect"))
    with pytest.raises(ValueError, match="0 samples are less"):
        work.run({"from": TONE[:0]})
