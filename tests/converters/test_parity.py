import numpy as np
import pytest

from converters.errors import ParityError
from converters.parity import compare, find_ties, judge, round_up
from edged.manifest import Tolerance

TOLERANCE = Tolerance(rtol=1e-4, atol=1e-5)
RIGHT = np.random.default_rng(0).random((20, 3)).astype("f4")


def test_equal_numbers_pass_with_their_figures():
    result = judge({"p": RIGHT}, {"p": RIGHT + np.float32(1e-6)}, TOLERANCE)[0]
    assert (result.rows, result.rows_beyond, result.label_agreement) == (20, 0, 1.0)
    assert 0 < result.max_abs < 2e-6


def test_one_wrong_row_is_named():
    wrong = RIGHT.copy()
    wrong[13, 1] += 0.5
    with pytest.raises(
        ParityError, match=r'"p": 1 of 20 rows.*sample row 13: framework \['
    ) as error:
        judge({"p": RIGHT}, {"p": wrong}, TOLERANCE)
    assert "0.5" in str(error.value)


def test_whole_numbers_must_be_equal():
    with pytest.raises(ParityError, match="worst: sample row 2"):
        judge({"y": np.array([1, 2, 3])}, {"y": np.array([1, 2, 4])}, TOLERANCE)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_one_that_is_constant_but_for_its_rounding_proves_nothing(dtype: str) -> None:
    """A processor rounds rows beside one another in one way, and the last of them in another."""
    third = np.full((20, 3), 1 / 3, dtype)
    third[-3:] = np.nextafter(third[-3:], np.array(1, dtype))
    with pytest.raises(ParityError, match="proves nothing"):
        judge({"p": third}, {"p": third}, TOLERANCE)
    third[-1] += 8 * np.finfo(dtype).eps
    (result,) = judge({"p": third}, {"p": third}, TOLERANCE)
    assert not result.is_constant


def test_a_constant_reference_proves_nothing():
    constant = np.full((20, 3), 1 / 3, "f4")
    with pytest.raises(ParityError, match="proves nothing"):
        judge({"p": constant}, {"p": constant}, TOLERANCE)
    # Constant labels beside probabilities that move are an ordinary run of one class.
    labels = np.zeros(20, "i8")
    judge({"p": RIGHT, "label": labels}, {"p": RIGHT, "label": labels}, TOLERANCE)


def test_nan_and_inf():
    nan = RIGHT.copy()
    nan[4] = np.nan
    with pytest.raises(ParityError, match="framework itself gives NaN for sample row 4"):
        compare("p", nan, RIGHT, TOLERANCE)
    with pytest.raises(ParityError, match="sample row 4"):
        judge({"p": RIGHT}, {"p": nan}, TOLERANCE)
    inf = RIGHT.copy()
    inf[4] = np.inf
    assert compare("p", inf, inf, TOLERANCE).rows_beyond == 0
    assert compare("p", inf, RIGHT, TOLERANCE).rows_beyond == 1
    assert compare("p", RIGHT, inf, TOLERANCE).rows_beyond == 1


def test_other_shapes_are_refused():
    with pytest.raises(ParityError, match=r"\[20, 3\].*\[20, 2\]"):
        compare("p", RIGHT, RIGHT[:, :2], TOLERANCE)


def test_labels_are_free_only_where_the_scores_are_tied():
    scores = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], "f4")
    right, tied, wrong = np.array([0, 0, 1]), np.array([1, 0, 1]), np.array([0, 1, 1])
    assert find_ties(scores, TOLERANCE).tolist() == [True, False, False]
    expected = {"p": scores, "label": right}
    judge(expected, {"p": scores, "label": tied}, TOLERANCE, {"label": "p"})
    with pytest.raises(ParityError, match="sample row 1"):
        judge(expected, {"p": scores, "label": wrong}, TOLERANCE, {"label": "p"})


def test_figures_are_rounded_for_the_manifest():
    assert round_up(1.23456e-7) == 1.2e-7
    assert round_up(0.0) == 0.0
