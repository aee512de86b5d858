import numpy as np
import pytest

from converters.errors import ConversionError
from converters.sources.spelling import (
    make_word_edges,
    mark_missing,
    number_samples,
    settle_missing,
    spell_samples,
    spell_table,
)
from converters.sources.words import WordInput
from edged.processing.words import ABSENT
from edged.specs import UNKNOWN_WORD, WordColumn

LOOSE = WordInput(WordColumn(("blue", "red"), unknown=True, missing=2), None)
STRICT = WordInput(WordColumn(("blue", "red")), np.nan)
TABLE = np.array([[1.5, 0], [2.5, np.nan], [3.5, 1]])
NAMES, WORDS = ("mass", "color"), {"color": ("mauve", "red")}


def test_samples_are_spelled_marked_and_numbered():
    spelled = spell_samples(TABLE, NAMES, WORDS, {1: LOOSE})
    assert spelled[:, 1].tolist() == ["mauve", ABSENT, "red"]
    assert mark_missing(spelled, {1: LOOSE})[:, 1].tolist() == ["mauve", None, "red"]
    numbers = number_samples(spelled, {1: LOOSE})
    assert numbers.tolist() == [[1.5, UNKNOWN_WORD], [2.5, 2], [3.5, 1]]
    assert numbers.dtype == np.float32
    assert spelled[:, 1].tolist() == ["mauve", ABSENT, "red"]


def test_a_column_without_any_word_is_missing_throughout():
    nothing = np.array([[1.5, np.nan], [2.5, np.nan]])
    assert spell_samples(nothing, NAMES, {}, {1: LOOSE})[:, 1].tolist() == [ABSENT, ABSENT]


def test_a_word_that_is_not_taken_names_row_and_column():
    spelled = spell_samples(TABLE, NAMES, WORDS, {1: STRICT})
    with pytest.raises(
        ConversionError, match=r"samples, row 0, column 1: .* know the word 'mauve'"
    ):
        number_samples(spelled, {1: STRICT})
    with pytest.raises(ConversionError, match="samples, row 0, column 1: is missing"):
        number_samples(spelled[1:], {1: STRICT})


def test_numbers_are_spelled_for_the_framework():
    rows = np.array([[1, 1], [2, 2], [3, UNKNOWN_WORD]], dtype=np.float32)
    assert spell_table(rows[:2], {1: LOOSE})[:, 1].tolist() == ["red", None]
    assert spell_table(rows, {1: LOOSE})[2, 1] not in {"blue", "red", None}
    for code in (2, UNKNOWN_WORD, 0.5, np.nan):
        with pytest.raises(ValueError, match="the number of no word"):
            spell_table(np.array([[1, code]]), {1: STRICT})


def test_edges_are_of_what_is_promised_and_of_nothing_else():
    row = np.array([[1.5, 1]], dtype=np.float32)
    edges = make_word_edges(row, {1: LOOSE})
    assert {name: edge[0, 1] for name, edge in edges.items()} == {
        "missing": 1,
        "unknown-words": UNKNOWN_WORD,
        "missing-words": 2,
    }
    assert np.isnan(edges["missing"][0, 0])
    assert row.tolist() == [[1.5, 1]]
    assert set(make_word_edges(row, {1: STRICT})) == {"missing"}
    assert make_word_edges(row[:, 1:], {0: STRICT}) == {}


def refuse_missing(rows):
    if any(value is None for value in rows[0]):
        raise TypeError("no None, please")
    return {"p": np.ones(1)}


@pytest.mark.parametrize(
    ("answers", "missing"),
    [
        (lambda _rows: {"p": np.ones(1)}, 0),
        (lambda rows: {"p": np.array([rows[0, 1] is None])}, None),
        (refuse_missing, None),
    ],
    ids=["the-same", "otherwise", "refused"],
)
def test_a_missing_word_is_taken_only_where_the_framework_takes_it_so(answers, missing):
    one = WordInput(WordColumn(("blue", "red"), missing=0), None)
    settled = settle_missing({1: one}, np.array([[1.0, "red"]], dtype=object), answers)
    assert settled[1].column == WordColumn(("blue", "red"), missing=missing)
