"""What a bundle says of how its samples are spread."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import UNSET

from converters.statistics import gather_statistics
from edged.errors import ManifestError
from edged.manifest import Statistics, canonical_json, parse_manifest
from edged.rollout.drift import observe, psi_of, told
from edged.rollout.tally import Moments
from edged.strings import strings
from tests.bundles import make_manifest
from tests.models import double

CHANCE = np.random.default_rng(3)
X = CHANCE.normal(5, 2, (1000, 4)).astype(np.float32)


def test_tenths_of_the_samples():
    found = gather_statistics({"x": X}, {"y": X * 2})
    one = found["in.x"]
    assert set(found) == {"in.x", "out.y"}
    assert one.count == 4000
    assert (one.mean, one.deviation) == (pytest.approx(5, abs=0.1), pytest.approx(2, abs=0.1))
    assert len(one.edges) == 9
    assert one.shares == pytest.approx([0.1] * 10, abs=0.002)
    assert found == gather_statistics({"x": X}, {"y": X * 2})


@pytest.mark.parametrize("values", [(0.2, 0.7, 0.9), (0.1, 0.3, 0.6), tuple(np.arange(20) / 20)])
def test_the_samples_themselves_have_not_moved(values: tuple[float, ...]):
    """Few values, each an edge: what is written of an edge may lie above the number itself."""
    array = CHANCE.choice(np.array(values, np.float32), (400, 8))
    reference, moments = told(gather_statistics({"x": array}, {}))["in.x"], Moments()
    observe(moments, array, reference)
    assert psi_of(reference, moments) < 0.01


def test_of_what_is_no_number_there_are_none():
    arrays = {
        "text": strings([b"a", b"b"], (2, 1)),
        "broken": np.array([np.nan, 1.0]),
        "huge": np.array([1e200, 1.0]),
        "none": np.zeros((0, 3)),
    }
    assert gather_statistics(arrays, {}) is UNSET
    assert gather_statistics({"flat": np.ones((9, 1))}, {})["in.flat"].deviation == 0


def bundle(**statistics: object):
    made, _ = make_manifest(double(), statistics=statistics)
    return canonical_json(made)


GOOD = Statistics(9, 0.5, 0.1, (0.2, 0.8), (0.1, 0.8, 0.1))


def test_a_manifest_with_statistics_is_read_again():
    assert parse_manifest(bundle(**{"in.x": GOOD})).statistics == {"in.x": GOOD}
    made, _ = make_manifest(double())
    assert b"statistics" not in canonical_json(made)  # as bundles from before it are


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("in.z", GOOD, "none of its tensors"),
        ("x", GOOD, "none of its tensors"),
        ("in.x", Statistics(9, 0.0, 0.0, (1.0, 0.0), (0.0, 0.0, 0.0)), "edges that rise"),
        ("in.x", Statistics(9, 0.0, 0.0, (1.0, 1.0), (0.0, 0.0, 0.0)), "edges that rise"),
        ("in.x", Statistics(9, 0.0, 0.0, (1.0,), (1.0,)), "one share more"),
        ("in.x", Statistics(0, 0, 0, (), (1,)), "count"),
        ("in.x", Statistics(9, 0, -1, (), (1,)), "deviation"),
        ("in.x", Statistics(9, 0, 0, tuple(range(40)), (0,) * 41), "edges"),
    ],
    ids=str,
)
def test_statistics_that_make_no_sense(name: str, wrong: Statistics, words: str):
    with pytest.raises(ManifestError, match=words):
        parse_manifest(bundle(**{name: wrong}))
