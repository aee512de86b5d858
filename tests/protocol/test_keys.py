"""The key of a request, as callers give it and as it is sent."""

from __future__ import annotations

import pytest

from edged.errors import InvalidRequestError
from edged.protocol.keys import KEY_CAP, key_text


@pytest.mark.parametrize(
    ("given", "sent"),
    [(None, None), ("press-7", "press-7"), (7, "7"), ("x" * KEY_CAP,) * 2],
    ids=str,
)
def test_texts_and_numbers(given: object, sent: str | None):
    assert key_text(given) == sent


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "a key of 0 characters"),
        ("x" * 257, "a key of 257 characters: expected 1 to 256"),
        (10**300, "a key of 301"),
        (True, "key is a bool"),
        (1.5, "key is a float"),
        (b"press", "key is a bytes"),
        ([[1.0]], 'An input named "key" goes into the mapping'),
        ("\udcff", "no text"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_is_none(given: object, words: str):
    with pytest.raises(InvalidRequestError, match=words):
        key_text(given)
