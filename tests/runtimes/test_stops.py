"""Stop texts in what comes piece by piece."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.runtimes.stops import Stops


def shown(stops: tuple[str, ...], pieces: list[str]) -> tuple[list[str], bool]:
    found, texts = Stops(stops), []
    for piece in pieces:
        text, is_stop = found.take(piece)
        texts.append(text)
        if is_stop:
            return texts, True
    return [*texts, found.rest()], False


@pytest.mark.parametrize(
    ("stops", "pieces", "texts", "is_stop"),
    [
        ((), ["a", "b"], ["a", "b", ""], False),
        (("end",), ["the e", "nd is"], ["the ", ""], True),
        (("end",), ["the e", "n", "ough"], ["the ", "", "enough", ""], False),
        (("end",), ["the e"], ["the ", "e"], False),
        (("end", "the"), ["so the end"], ["so "], True),
        (("aab",), ["a", "a", "a", "b"], ["", "", "a", ""], True),
        (("\n",), ["x\ny"], ["x"], True),
    ],
)
def test_texts(stops: tuple[str, ...], pieces: list[str], texts: list[str], is_stop: bool):
    assert shown(stops, pieces) == (texts, is_stop)


@settings(max_examples=50)
@given(
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.text("ab", max_size=4), max_size=8),
)
def test_as_in_the_whole_text(stops: list[str], pieces: list[str]):
    """What is shown is the text up to the first stop text that is whole, however it was cut."""
    texts, is_stop = shown(tuple(stops), pieces)
    whole = "".join(pieces)
    assert is_stop == any(stop in whole for stop in stops)
    assert whole.startswith("".join(texts))
    if is_stop:
        assert all(stop not in "".join(texts) for stop in stops)
    else:
        assert "".join(texts) == whole
