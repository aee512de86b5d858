"""Mel bands against the published formulas, one number at a time, and SciPy's cosine transform."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft

from edged.processing.mel import cosines, filter_bank, logarithm, to_hertz, to_mel


def htk(hertz: float) -> float:
    """The HTK Book, equation 5.13, through the natural logarithm."""
    return 2595 * math.log(1 + hertz / 700) / math.log(10)


def slaney(hertz: float) -> float:
    """Slaney's Auditory Toolbox: 13 linear filters 66.67 Hz apart, then 27 up by a factor 6.4."""
    return hertz / (200 / 3) if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


@pytest.mark.parametrize(("scale", "formula"), [("htk", htk), ("slaney", slaney)])
def test_scales(scale: str, formula):
    hertz = np.array([0, 20, 440, 999, 1000, 1001, 4000, 8000.0])
    mel = to_mel(hertz, scale)
    np.testing.assert_allclose(mel, [formula(one) for one in hertz], rtol=1e-6)
    np.testing.assert_allclose(to_hertz(mel, scale), hertz, rtol=1e-12, atol=1e-9)


def triangle(hertz: float, left: float, top: float, right: float) -> float:
    if left < hertz <= top:
        return (hertz - left) / (top - left)
    return (right - hertz) / (right - top) if top < hertz < right else 0.0


def inverse(formula, mel: float) -> float:
    low, high = 0.0, 50_000.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if formula(middle) < mel else (low, middle)
    return low


@pytest.mark.parametrize("norm", ["none", "slaney"])
@pytest.mark.parametrize(("scale", "formula"), [("htk", htk), ("slaney", slaney)])
@pytest.mark.parametrize(
    ("bins", "rate", "bands", "low", "high"),
    [
        (257, 16000, 40, 20.0, 7600.0),
        (201, 16000, 80, 0.0, 8000.0),
        (513, 22050, 13, 300.0, 11025.0),
    ],
)
def test_the_bank(bins, rate, bands, low, high, scale, formula, norm):
    got = filter_bank(bins=bins, rate=rate, bands=bands, low=low, high=high, scale=scale, norm=norm)
    start, stop = formula(low), formula(high)
    edges = [inverse(formula, start + (stop - start) * i / (bands + 1)) for i in range(bands + 2)]
    wanted = np.zeros((bins, bands))
    for bin_, band in np.ndindex(bins, bands):
        left, top, right = edges[band : band + 3]
        wanted[bin_, band] = triangle(bin_ * rate / 2 / (bins - 1), left, top, right)
        if norm == "slaney":
            wanted[bin_, band] *= 2 / (right - left)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


VALUES = np.array([[[1e-12, 1.0], [100.0, 1e-4]], [[1e-3, 1e-3], [1e-3, 10.0]]], np.float32)


def test_logarithms():
    kept = np.maximum(VALUES.astype(float), 1e-10)
    np.testing.assert_allclose(logarithm(VALUES, "log", 1e-10, 0), np.log(kept), rtol=1e-5)
    np.testing.assert_allclose(
        logarithm(VALUES, "log10", 1e-10, 0), np.log10(kept), rtol=1e-5, atol=1e-6
    )
    decibel = logarithm(VALUES, "db", 1e-10, 0)
    np.testing.assert_allclose(decibel, 10 * np.log10(kept), rtol=1e-5, atol=1e-5)
    assert decibel.dtype == np.float32


def test_a_span_is_of_each_recording():
    got = logarithm(VALUES, "db", 1e-10, 30)
    np.testing.assert_allclose(got, [[[-10, 0], [20, -10]], [[-20, -20], [-20, 10]]], atol=1e-4)


@pytest.mark.parametrize(("bands", "kept"), [(40, 13), (5, 5), (1, 1)])
def test_the_cosine_transform(bands: int, kept: int):
    values = np.random.default_rng(0).normal(size=(7, bands))
    wanted = scipy.fft.dct(values, type=2, norm="ortho")[:, :kept]
    np.testing.assert_allclose(values @ cosines(bands, kept), wanted, atol=1e-5)
