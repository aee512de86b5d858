"""How far live tensors lie from the samples of a bundle."""

from __future__ import annotations

import math

import numpy as np

from edged.rollout.drift import drift_of, observe, references
from edged.rollout.tally import Moments
from edged.strings import strings
from edged.tensors import to_bfloat16

CHANCE = np.random.default_rng(7)
SAMPLES = {"x": CHANCE.normal(5, 2, (2048, 8)).astype(np.float32)}


def moved(by: float) -> float:
    reference = references(SAMPLES, {})["in.x"]
    moments = Moments()
    for _ in range(20):
        observe(moments, CHANCE.normal(5 + by, 2, (16, 8)).astype(np.float32))
    return drift_of(reference, moments)


def test_what_is_alike_has_not_moved():
    assert moved(0) < 0.2


def test_what_has_moved_is_told_in_deviations():
    assert 1.8 < moved(4) < 2.2


def test_a_number_that_is_none_is_infinitely_far():
    moments = Moments()
    observe(moments, np.array([1.0, np.nan, np.inf]))
    assert (moments.count, moments.strange) == (1, 2)
    assert drift_of(references(SAMPLES, {})["in.x"], moments) == math.inf


def test_nothing_was_seen():
    assert drift_of(references(SAMPLES, {})["in.x"], Moments()) == 0


def test_what_does_not_vary_or_is_no_number_says_nothing():
    arrays = {
        "constant": np.ones((4, 4), np.float32),
        "text": strings([b"a", b"b"], (2, 1)),
        "broken": np.array([np.nan, 1.0]),
        "none": np.zeros((0, 3)),
        "whole": np.arange(10),
        "short": to_bfloat16(np.arange(4.0)),
    }
    assert set(references({}, arrays)) == {"out.whole", "out.short"}
    moments = Moments()
    observe(moments, arrays["text"])
    assert moments.count == 0


def test_of_a_long_tensor_a_part_is_looked_at():
    moments = Moments()
    observe(moments, np.ones(10**6, np.uint8))
    assert 30_000 < moments.count <= 1 << 16
    assert moments.total == moments.count
