"""One table of numbers: which column of the samples is which of the model's."""

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.samples import UNNAMED
from converters.sources.table import FEATURES, input_name, read_table

TABLE = np.arange(12, dtype="f8").reshape(4, 3) + 0.1


def test_float32_and_contiguous_whatever_was_brought():
    table = read_table({UNNAMED: TABLE[:, ::-1]}, (), (), 3, "a model")
    assert (table.dtype, table.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(table, TABLE[:, ::-1].astype("f4"))


def test_columns_are_chosen_by_name_where_the_samples_have_them_all():
    columns = ("hue", "other", "ash")
    table = read_table({UNNAMED: TABLE}, columns, ("ash", "hue"), 2, "a model")
    np.testing.assert_array_equal(table, TABLE[:, [2, 0]].astype("f4"))


def test_with_a_name_missing_the_place_counts_and_the_width_must_fit():
    names = ("ash", "hue", "malic")
    table = read_table({UNNAMED: TABLE}, ("hue", "other", "ash"), names, 3, "a model")
    np.testing.assert_array_equal(table, TABLE.astype("f4"))
    with pytest.raises(ConversionError, match=r"takes 2 columns a row; .* \[4, 3\]"):
        read_table({UNNAMED: TABLE}, ("hue", "other", "ash"), ("ash", "malic"), 2, "a model")


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ({"a": TABLE, "b": TABLE}, r"one table; the samples hold 2 arrays \(a, b\)"),
        ({}, "the samples hold 0 arrays"),
        ({"a": TABLE[0]}, r"takes 3 columns a row; the samples have shape \[3\]"),
    ],
)
def test_what_is_no_table(samples, words):
    with pytest.raises(ConversionError, match=words):
        read_table(samples, (), (), 3, "a model")


def test_rows_are_made_only_where_none_were_brought():
    made = read_table({}, (), (), 3, "a model", generated=7)
    assert made.shape == (7, 3)
    np.testing.assert_array_equal(made, read_table({}, (), (), 3, "a model", generated=7))
    np.testing.assert_array_equal(
        read_table({UNNAMED: TABLE}, (), (), 3, "a model", generated=7), TABLE.astype("f4")
    )


def test_the_tables_own_name_or_features():
    assert input_name({"sensor": TABLE}) == "sensor"
    assert input_name({UNNAMED: TABLE}) == input_name({}) == FEATURES
