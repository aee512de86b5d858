"""How far live tensors lie from the samples of a bundle."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edged.manifest import Statistics
from edged.rollout.drift import drift_of, observe, psi_of, references, strange_of, told
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


def spread(make, known=None) -> tuple[float, Moments]:
    """The index of what is made against the samples, or against what a bundle says of them."""
    reference = known or references(SAMPLES, {})["in.x"]
    moments = Moments()
    for _ in range(50):
        observe(moments, make((4, 8)).astype(np.float32), reference)
    return psi_of(reference, moments), moments


def test_what_is_alike_is_spread_alike():
    index, moments = spread(lambda shape: CHANCE.normal(5, 2, shape))
    assert index < 0.1
    assert (moments.looks, sum(moments.cells)) == (50, 1600)


def test_another_spread_is_told_where_the_mean_is_the_same():
    index, moments = spread(lambda shape: 5 + 3 * CHANCE.choice([-1, 1], shape))
    assert index > 1
    assert drift_of(references(SAMPLES, {})["in.x"], moments) < 0.3
    assert spread(lambda shape: CHANCE.normal(5, 4, shape))[0] > 0.25
    assert spread(lambda shape: CHANCE.normal(7, 2, shape))[0] > 0.25


def test_what_the_bundle_says_counts_as_its_samples():
    known = Statistics(16384, 5.0, 2.0, *references(SAMPLES, {})["in.x"][2:])
    flat = Statistics(9, 1.0, 0.0, (), (1.0,))
    assert set(told({"in.x": known, "in.flat": flat})) == {"in.x"}
    reference = told({"in.x": known})["in.x"]
    assert spread(lambda shape: CHANCE.normal(5, 2, shape), reference)[0] < 0.1


def test_cells_of_another_reference_are_forgotten():
    """Kept across a restart, by a file that anybody may have changed."""
    reference = references(SAMPLES, {})["in.x"]
    moments = Moments(cells=[5, 5])
    assert psi_of(reference, moments) == 0
    observe(moments, SAMPLES["x"], reference)
    assert sum(moments.cells) == SAMPLES["x"].size


def test_whole_numbers_and_few_values():
    few = {"x": CHANCE.integers(0, 3, (600, 1))}
    reference = references(few, {})["in.x"]
    moments = Moments()
    observe(moments, CHANCE.integers(0, 3, (600, 1)), reference)
    assert psi_of(reference, moments) < 0.1
    observe(moments, np.full((2000, 1), 2), reference)
    assert psi_of(reference, moments) > 0.25


def test_no_column_of_a_long_tensor_is_passed_over():
    array = np.zeros((1 << 15, 8))
    array[:, 3] = 1
    moments = Moments()
    observe(moments, array)
    assert moments.total / moments.count == pytest.approx(1 / 8, rel=0.01)


def test_a_number_that_is_none_is_counted_apart():
    """One gap in a sensor's readings is no other distribution."""
    reference, moments = references(SAMPLES, {})["in.x"], Moments()
    for _ in range(3):
        observe(moments, CHANCE.normal(5, 2, (99, 1)), reference)
        observe(moments, np.array([np.nan]), reference)
    assert (moments.count, moments.strange, sum(moments.cells)) == (297, 3, 297)
    assert strange_of(moments) == 1.0
    assert drift_of(reference, moments) < 0.5
    assert psi_of(reference, moments) < 0.2
    only = Moments(strange=9)
    assert (strange_of(only), drift_of(reference, only), strange_of(Moments())) == (100, 0, 0)


def test_what_is_too_large_to_be_summed_is_none_and_the_notes_can_be_read_again():
    moments = Moments()
    observe(moments, np.array([1.0, 1e200, -1.7e308]))
    observe(moments, np.array([1e99]))
    assert (moments.count, moments.strange) == (2, 2)
    assert msgspec.json.decode(msgspec.json.encode(moments), type=Moments) == moments


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
