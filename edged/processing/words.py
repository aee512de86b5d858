"""Words to numbers: what a column of words becomes before a model sees it.

Decides which number a word is, and what becomes of words that the model never saw. Compares words
as they come: no case, space or Unicode form is made alike, because the framework makes none alike.
"""

from __future__ import annotations

from typing import Any

from edged.errors import DecodeError
from edged.specs import UNKNOWN_WORD, WordColumn

ABSENT: Any = object()
"""A value that is not there: the field is missing or ``null``."""
SHOWN_CHARACTERS = 64
"""Of a word in an error: enough to find it, whatever its length."""
SHOWN_WORDS = 6
"""Of the known words in an error: a line is read, a dictionary is not."""
_KINDS: dict[type, str] = {dict: "an object", list: "a list", bool: "a boolean"}


class Vocabulary:
    """The numbers of one column's words.

    A look-up costs the same for any word: Python's hashes are keyed, so that no sender can choose
    words that collide.

    Args:
        column: the words in the order of their numbers.
    """

    def __init__(self, column: WordColumn) -> None:
        self._column = column
        self._codes = {word: code for code, word in enumerate(column.words)}

    def code(self, value: Any, where: str) -> int:
        """The number of a word, of one that is unknown, or of ABSENT.

        Args:
            value: as the JSON parser gave it, or ABSENT.
            where: for the error.

        Raises:
            DecodeError: no text, or one that the column does not take.
        """
        if value is ABSENT:
            if self._column.missing is None:
                raise DecodeError(f"{where}: is missing and has no default")
            return self._column.missing
        if type(value) is not str:
            kind = _KINDS.get(type(value), "a number")
            raise DecodeError(f"{where}: expected a word (a JSON string); got {kind}")
        code = self._codes.get(value)
        if code is not None:
            return code
        if self._column.unknown:
            return UNKNOWN_WORD
        known = ", ".join(
            ascii(word[:SHOWN_CHARACTERS]) for word in self._column.words[:SHOWN_WORDS]
        )
        more = ", …" if len(self._column.words) > SHOWN_WORDS else ""
        raise DecodeError(
            f"{where}: the model does not know the word {value[:SHOWN_CHARACTERS]!a}; "
            f"it knows {known}{more}"
        )
