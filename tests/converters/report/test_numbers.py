import numpy as np

from converters.report.numbers import BINS, count, output_evidence, row_shares
from edged.manifest import Tolerance

TOLERANCE = Tolerance(rtol=0.0, atol=1e-3)
RIGHT = np.arange(12, dtype="f4").reshape(4, 3)


def test_rows_are_counted_by_the_share_of_the_allowed_difference_they_use():
    got = RIGHT.astype("f8")
    got[1, 2] += 0.5e-3
    got[2, 0] += 2e-3
    got[3, 1] = np.nan
    shares = row_shares(RIGHT.astype("f8"), got, TOLERANCE)
    np.testing.assert_allclose(shares, [0, 0.5, 2, np.inf])
    counts = count(shares)
    assert sum(counts) == 4
    assert counts[0] == 1
    assert counts[-1] == 2
    assert counts[-2] == 1
    assert BINS[-2] < 0.5 < BINS[-1] == 1.0


def test_exactly_what_is_allowed_is_not_beyond():
    assert count(np.array([1.0]))[-1] == 0
    assert count(np.array([1.0]))[-2] == 1


def test_whole_numbers_are_right_or_beyond():
    shares = row_shares(np.array([1, 2, 3]), np.array([1, 2, 4]), TOLERANCE)
    assert shares.tolist() == [0, 0, np.inf]


def test_the_worst_rows_come_first_and_show_the_values_that_differ():
    wide = np.zeros((20, 100), "f4")
    wide[:, 0] = np.arange(20)
    got = wide.copy()
    got[7, 93] += 4e-4
    got[11, 5] += 2e-4
    evidence = output_evidence("y", wide, got, TOLERANCE)
    assert [entry.row for entry in evidence.worst[:2]] == [7, 11]
    assert np.float32(4e-4) in evidence.worst[0].converted
    assert len(evidence.worst[0].framework) == 8
    assert evidence.rows_beyond == 0
    assert sum(evidence.counts) == evidence.rows == 20


def test_a_scalar_output_is_one_row():
    evidence = output_evidence("y", np.float32(3).reshape(()), np.float32(3).reshape(()), TOLERANCE)
    assert (evidence.rows, sum(evidence.counts)) == (1, 1)
