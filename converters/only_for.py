"""Whom a bundle is for, as the command line says it."""

from __future__ import annotations

from collections.abc import Sequence

from converters.errors import ConversionError


def parse_only_for(words: Sequence[str]) -> dict[str, list[str]]:
    """``["class=gate,door"]`` as a recipe writes it.

    Raises:
        ConversionError: a word has no value, or is there twice.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        name, _, values = word.partition("=")
        if name in found or not _values(values):
            raise ConversionError(
                f'--only-for "{word[:80]}": expected WORD=VALUE[,VALUE], each word once'
            )
        found[name] = _values(values)
    return found


def _values(text: str) -> list[str]:
    return [value.strip() for value in text.split(",") if value.strip()]
