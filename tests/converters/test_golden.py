import numpy as np
import pytest

from converters.errors import ConversionError
from converters.golden import choose_rows, gather
from converters.parity import compare
from edged.manifest import Tolerance

RIGHT = np.random.default_rng(0).random((50, 3)).astype("f4")


def parity(worst):
    got = RIGHT.copy()
    got[worst, 0] += np.float32(5e-6)
    return (compare("p", RIGHT, got, Tolerance(rtol=0, atol=1e-5)),)


def test_rows_are_spread_and_hold_the_one_nearest_to_failing():
    rows = choose_rows(16, parity(33), frozenset())
    assert len(rows) in (15, 16)
    assert {0, 33, 49} <= set(rows)


def test_ties_do_not_travel():
    rows = choose_rows(16, parity(33), frozenset({0, 33}))
    assert not {0, 33} & set(rows)
    with pytest.raises(ConversionError, match="every sample is a tie"):
        choose_rows(16, parity(33), frozenset(range(50)))


def test_edge_cases_come_after_the_rows():
    edge = ({"x": np.zeros((1, 3), "f4")}, {"p": np.full((1, 3), 9, "f4")})
    tensors = gather({"x": RIGHT}, {"p": RIGHT}, [4, 8], {"zeros": edge})
    assert tensors["in.x"].shape == (3, 3)
    np.testing.assert_array_equal(tensors["out.p"], [RIGHT[4], RIGHT[8], [9, 9, 9]])


def test_a_call_without_rows_travels_whole():
    assert gather({"x": RIGHT}, {"p": RIGHT[0, 0]}, [], {})["out.p"].shape == ()
