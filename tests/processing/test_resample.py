"""Another rate: against SciPy with the same filter, and what the filter lets through."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.processing.resample import MOST_PHASES, bank, length, ratio, resample

PAIRS = [(48000, 16000), (44100, 16000), (8000, 16000), (22050, 16000), (16000, 22050)]


def impulse(up: int, down: int) -> np.ndarray:
    """The filter in one piece: at the rate that both share, symmetric."""
    filters = bank(up, down).astype(np.float64)
    taps = filters.shape[1]
    places = np.arange(up)[:, np.newaxis] - (np.arange(taps) - (taps // 2 - 1)) * up
    reach = np.abs(places).max()
    whole = np.zeros(2 * reach + 1)
    whole[(places + reach).ravel()] = filters.ravel()
    return whole / up


@pytest.mark.parametrize(("have", "want"), PAIRS)
def test_as_scipy_with_the_same_filter(have: int, want: int):
    up, down = ratio(have, want)
    samples = np.random.default_rng(0).normal(size=3001).astype(np.float32)
    wanted = scipy.signal.resample_poly(
        samples.astype(np.float64), up, down, window=impulse(up, down)
    )
    got = resample(samples, have, want)
    assert got.shape == wanted.shape == (length(3001, up, down),)
    np.testing.assert_allclose(got, wanted, atol=5e-6)


@pytest.mark.parametrize(("have", "want"), PAIRS)
def test_what_the_filter_lets_through(have: int, want: int):
    """The figures in the module's first sentence."""
    up, down = ratio(have, want)
    shared = have * up
    response = scipy.signal.freqz(impulse(up, down), worN=1 << 17)
    hertz, decibel = response[0] / np.pi * shared / 2, 20 * np.log10(np.abs(response[1]) + 1e-12)
    nyquist = min(have, want) / 2
    assert np.abs(decibel[hertz <= 0.88 * nyquist]).max() < 1e-3
    assert decibel[hertz >= nyquist].max() < -89


@pytest.mark.parametrize(("have", "want"), PAIRS)
def test_a_tone_stays_and_an_alias_does_not_come(have: int, want: int):
    def tone(hertz: float, rate: int) -> np.ndarray:
        return np.sin(2 * np.pi * hertz * np.arange(rate // 2) / rate).astype(np.float32)

    inner = slice(want // 10, -want // 10)
    got = resample(tone(1000, have), have, want)
    assert np.abs(got - tone(1000, want))[inner].max() < 3e-4  # what 0.001 dB are
    if want < have:
        assert np.abs(resample(tone(0.55 * want, have), have, want)[inner]).max() < 1e-4
    constant = resample(np.ones(have // 2, np.float32), have, want)
    np.testing.assert_allclose(constant[inner], 1, atol=1e-5)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_lengths(have: int, want: int, count: int):
    samples = np.zeros((2, 1, count), np.float32)
    got = resample(samples, have, want)
    assert got.shape == (2, 1, length(count, *ratio(have, want)))
    assert got.shape[-1] == -(-count * want // have)
    assert got.dtype == np.float32


def test_long_ones_are_done_in_parts(monkeypatch: pytest.MonkeyPatch):
    samples = np.random.default_rng(0).normal(size=(3, 999)).astype(np.float32)
    whole = resample(samples, 3, 2)
    monkeypatch.setattr("edged.processing.resample._CHUNK", 1000)
    np.testing.assert_array_equal(resample(samples, 3, 2), whole)


def test_the_same_rate_and_no_common_one():
    samples = np.ones(5, np.float32)
    assert resample(samples, 8000, 8000) is samples
    with pytest.raises(ValueError, match="choose rates with a common divisor"):
        ratio(44101, 16000)
    assert max(ratio(MOST_PHASES, 1)) == MOST_PHASES
