import numpy as np
import pytest

from converters.edges import ask_edges, is_within, make_edges
from converters.sources.base import Exported

ROWS = {"x": np.array([[1, 5], [-2, 7], [3, 6]], "f4"), "ids": np.array([[4], [9], [2]], "i8")}


def test_rows_of_nothing_the_least_the_most_and_nothing_known():
    edges = make_edges(ROWS)
    assert list(edges) == ["zeros", "lowest", "highest", "missing"]
    assert edges["lowest"]["x"].tolist() == [[-2, 5]]
    assert edges["highest"]["ids"].tolist() == [[9]]
    assert np.isnan(edges["missing"]["x"]).all()
    assert edges["missing"]["ids"].tolist() == ROWS["ids"][:1].tolist()
    assert all(e["x"].dtype == "f4" and e["ids"].dtype == "i8" for e in edges.values())


def test_rows_that_are_alike_are_made_once_and_whole_numbers_are_never_missing():
    same = {"ids": np.zeros((3, 2), "i8")}
    assert list(make_edges(same)) == ["zeros"]
    flags = {"on": np.array([[True, False], [True, True]])}
    edges = make_edges(flags)
    assert edges["lowest"]["on"].tolist() == [[True, False]]
    assert edges["lowest"]["on"].dtype == bool


def test_missing_values_in_the_samples_do_not_hide_the_extremes():
    rows = {"x": np.array([[np.nan, 5], [2, np.nan]], "f4")}
    assert make_edges(rows)["lowest"]["x"].tolist() == [[2, 5]]


@pytest.mark.parametrize(
    ("row", "within"),
    [([[0, 6]], True), ([[0, 0]], False), ([[-2, 7]], True), ([[np.nan, 6]], False)],
)
def test_what_lies_within_the_samples(row, within):
    assert is_within({"x": np.array(row, "f4")}, ROWS) is within


def test_missing_lies_within_samples_that_have_missing_values():
    rows = {"x": np.array([[np.nan, 5], [2, 6]], "f4")}
    assert is_within({"x": np.full((1, 2), np.nan, "f4")}, rows)


def exported(call):
    return Exported(
        model=None, inputs={"x": ROWS["x"]}, outputs={"y": ROWS["x"][:, :1]},
        framework={}, reference="", call=call,
    )  # fmt: skip


def test_what_the_framework_refuses_or_answers_with_nan_is_not_taken():
    def strict(rows):
        if np.isnan(rows["x"]).any():
            raise ValueError("input contains NaN")
        return {"y": rows["x"][:, :1], "more": rows["x"]}

    assert list(ask_edges(exported(strict), "rows")) == ["zeros", "lowest", "highest"]
    through = ask_edges(exported(lambda rows: {"y": rows["x"][:, :1]}), "rows")
    assert "missing" not in through
    filled = ask_edges(exported(lambda rows: {"y": np.nan_to_num(rows["x"][:, :1])}), "rows")
    assert filled["missing"][1]["y"].tolist() == [[0]]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"y": np.zeros((2, 1))},
        {"y": np.zeros((1, 4))},
        {"y": np.zeros(1)},
        {"y": np.zeros((1, 1), int)},
    ],
)
def test_an_answer_of_another_form_is_none(answer):
    assert ask_edges(exported(lambda _rows: answer), "rows") == {}


def test_without_a_call_or_without_rows_there_are_none():
    assert ask_edges(exported(None), "rows") == {}
    assert ask_edges(exported(lambda rows: {"y": rows["x"][:, :1]}), "none") == {}
