"""Inputs that are put together: which can be, and what the codec of a part sees."""

from __future__ import annotations

from typing import Any

import pytest

from edged.errors import FieldError
from edged.manifest import Manifest
from edged.processing.narrow import for_columns, for_windows
from edged.specs import FeaturesInput, WordColumn
from tests.fakes.manifests import make_manifest


def model(shape: tuple[int | str, ...], *more: Any, **words: Any) -> Manifest:
    return make_manifest([("x", "float32", shape), *more], [("y", "float32", ("batch",))], **words)


@pytest.mark.parametrize(
    ("shape", "rows", "row", "whole"),
    [
        (("batch", 8, 3), 8, (3,), (1, 8, 3)),
        ((8, 3), 8, (3,), (8, 3)),
        (("batch", "time", 3), 8, (3,), (1, 8, 3)),
        (("batch", 8), 8, (1,), (1, 8)),
        (("batch", 24), 8, (3,), (1, 24)),
        (("batch", 8, 2, 2), 8, (2, 2), (1, 8, 2, 2)),
    ],
)
def test_windows(
    shape: tuple[int | str, ...], rows: int, row: tuple[int, ...], whole: tuple[int, ...]
) -> None:
    narrow, fit = for_windows(model(shape), rows, None)
    assert (fit.row, fit.whole, fit.name) == (row, whole, "x")
    (spec,) = narrow.input_specs()
    assert spec.shape == ("batch", *row)


@pytest.mark.parametrize(
    ("shape", "rows", "words"),
    [
        (("batch", 7, 3), 8, "8 rows are not input"),
        (("batch", 20), 8, "8 rows are not input"),
        (("batch", 8, "any"), 8, "8 rows are not input"),
        (("batch",), 8, "8 rows are not input"),
        (("batch", 65536, 9), 65536, "make windows of 2359296 bytes; at most 1048576"),
    ],
)
def test_no_windows(shape: tuple[int | str, ...], rows: int, words: str) -> None:
    with pytest.raises(FieldError, match=words):
        for_windows(model(shape), rows, None)


def test_only_one_input_is_filled() -> None:
    two = model(("batch", 8, 3), ("z", "float32", ("batch", 1)))
    with pytest.raises(FieldError, match='takes "x", "z"'):
        for_windows(two, 8, None)
    with pytest.raises(FieldError, match='has no input "q"'):
        for_windows(model(("batch", 8, 3)), 8, "q")
    assert for_windows(model(("batch", 8, 3)), 8, "x")[1].name == "x"


def test_columns_and_their_words() -> None:
    work = FeaturesInput(names=("a", "b", "c"), words={"c": WordColumn(words=("red", "blue"))})
    whole = model(("batch", 3), input_processing={"x": work})
    name, (own, joined) = for_columns(whole, None, (1, 2))
    assert name == "x"
    assert [one.input_specs()[0].shape for one in (own, joined)] == [("batch", 1), ("batch", 2)]
    assert own.input_processing["x"] == FeaturesInput(names=("a",))
    assert joined.input_processing["x"] == FeaturesInput(names=("b", "c"), words=work.words)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (("batch", 4), r'1 \+ 2 columns are 3; input "x"'),
        (("batch", 3, 1), "needs an input of rows and columns"),
        ((3,), "needs an input of rows and columns"),
    ],
)
def test_columns_that_do_not_add_up(shape: tuple[int | str, ...], words: str) -> None:
    with pytest.raises(FieldError, match=words):
        for_columns(model(shape), None, (1, 2))
