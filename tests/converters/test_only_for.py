"""Whom a bundle is for, from the command line into the manifest's words."""

from __future__ import annotations

import pytest

from converters.errors import ConversionError
from converters.flags import build_parser
from converters.given import complete, fields_from
from converters.only_for import parse_only_for
from converters.recipe import Recipe


def parse(*words: str) -> Recipe:
    args = build_parser().parse_args(
        ["convert", "m.onnx", "-o", "x", "--name", "m", "--release", "1", *words]
    )
    return complete(fields_from(args), None)


def test_words_and_their_values() -> None:
    assert parse_only_for(["class=gate, door", "architecture=aarch64"]) == {
        "class": ["gate", "door"],
        "architecture": ["aarch64"],
    }
    assert parse("--only-for", "class=gate").only_for == {"class": ("gate",)}
    assert not isinstance(parse().only_for, dict)


@pytest.mark.parametrize("words", [["class"], ["class="], ["class=,"], ["a=b", "a=c"]])
def test_what_says_nothing(words: list[str]) -> None:
    with pytest.raises(ConversionError, match=r"expected WORD=VALUE\[,VALUE\], each word once"):
        parse_only_for(words)


@pytest.mark.parametrize("word", ["Class=gate", "=gate", "class=a b", "class=ä"])
def test_what_is_no_word(word: str) -> None:
    with pytest.raises(ConversionError, match="only_for"):
        parse("--only-for", word)
