import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError
from edged.processing.words import ABSENT, Vocabulary
from edged.specs import UNKNOWN_WORD, WordColumn

COLORS = ("blue", "green", "red")


def test_a_word_is_its_place():
    vocabulary = Vocabulary(WordColumn(COLORS))
    assert [vocabulary.code(word, "it") for word in COLORS] == [0, 1, 2]


@pytest.mark.parametrize("word", ["Red", "red ", "", "re\u0301d", "\ud800", "x" * 1_000_000])
def test_words_are_compared_as_they_come(word):
    assert Vocabulary(WordColumn(COLORS, unknown=True)).code(word, "it") == UNKNOWN_WORD
    with pytest.raises(DecodeError, match="it: the model does not know the word") as caught:
        Vocabulary(WordColumn(COLORS)).code(word, "it")
    assert len(caught.value.message) < 200
    assert caught.value.message.isascii()


def test_an_error_shows_few_of_many_words():
    many = Vocabulary(WordColumn(tuple(f"w{number}" for number in range(1000))))
    with pytest.raises(DecodeError, match=r"it knows 'w0', .*'w5', …$"):
        many.code("z", "it")


@pytest.mark.parametrize(
    ("value", "kind"), [({}, "an object"), ([], "a list"), (True, "a boolean"), (1.5, "a number")]
)
def test_what_is_no_word_is_refused_even_where_unknown_words_are_taken(value, kind):
    vocabulary = Vocabulary(WordColumn(COLORS, unknown=True, missing=0))
    with pytest.raises(DecodeError, match=f"expected a word .* got {kind}"):
        vocabulary.code(value, "it")


@pytest.mark.parametrize("missing", [UNKNOWN_WORD, 1, 3])
def test_what_is_absent_has_the_number_that_the_bundle_says(missing):
    column = WordColumn(COLORS, unknown=True, missing=missing)
    assert Vocabulary(column).code(ABSENT, "it") == missing


def test_what_is_absent_is_refused_where_nothing_is_said():
    with pytest.raises(DecodeError, match="it: is missing"):
        Vocabulary(WordColumn(COLORS, unknown=True)).code(ABSENT, "it")


@given(st.text())
def test_any_text_of_json_is_known_or_refused(text):
    word = json.loads(json.dumps(text))
    assert Vocabulary(WordColumn((text,))).code(word, "it") == 0
