"""Rows in which words stand as they are, and the same rows in which they are numbers.

The framework is asked with the words, the converted model with the numbers that the daemon's own
step gives them. Decides what a row of the samples is to each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs

from converters.errors import ConversionError
from converters.sources.words import WordInput
from edged.errors import DecodeError
from edged.processing.words import ABSENT
from edged.specs import UNKNOWN_WORD
from edged.tensors import Array


def spell_samples(
    table: Array,
    columns: Sequence[str],
    words: Mapping[str, Sequence[str]],
    inputs: Mapping[int, WordInput],
) -> Array:
    """The samples with their words, as the user wrote them: object[rows, columns].

    Args:
        table: numbers; those of words count in ``words``, NaN where there was none.
        columns: the names of the table's columns.
        words: of the samples, by column.
        inputs: the model's columns of words.

    Raises:
        ConversionError: the samples hold words where the model takes none, or the reverse.
    """
    spelled: Array = table.astype(object)
    for at, name in enumerate(columns):
        if name in words and at not in inputs:
            raise ConversionError(
                f'samples, column "{name}": "{words[name][0][:40]}" is not a number, and no '
                "encoder of the model takes words there; fit the model without that column"
            )
    for at in inputs:
        name = columns[at] if at < len(columns) else ""
        numbers = table[:, at]
        if name not in words and not np.isnan(numbers).all():
            place = f'"{name}"' if name else f"{at}"
            raise ConversionError(
                f"samples, column {place}: the model takes words there, and the rows hold numbers; "
                "bring --samples with the words themselves: a .csv file with a header"
            )
        own = words.get(name, ())
        spelled[:, at] = [ABSENT if np.isnan(code) else own[int(code)] for code in numbers]
    return spelled


def number_samples(spelled: Array, inputs: Mapping[int, WordInput]) -> Array:
    """The same rows as a device gives them to the model: float32[rows, columns].

    Raises:
        ConversionError: a word that the model does not take; names the row.
    """
    table = spelled.copy()
    for at, one in inputs.items():
        vocabulary = one.vocabulary
        try:
            table[:, at] = [
                vocabulary.code(value, f"samples, row {row}, column {at}")
                for row, value in enumerate(spelled[:, at])
            ]
        except DecodeError as exc:
            raise ConversionError(exc.message) from exc
    return np.ascontiguousarray(table, dtype=np.float32)


def spell_table(table: Array, inputs: Mapping[int, WordInput]) -> Array:
    """Words for the numbers of a made table, for asking the framework.

    Raises:
        ValueError: a number stands for nothing that a device takes.
    """
    spelled: Array = table.astype(object)
    for at, one in inputs.items():
        spelled[:, at] = [one.spell(float(code)) for code in table[:, at]]
    return spelled


def mark_missing(spelled: Array, inputs: Mapping[int, WordInput]) -> Array:
    """The same with what the framework takes for a missing value."""
    marked: Array = spelled.copy()
    for at, one in inputs.items():
        marked[:, at] = [one.marker if value is ABSENT else value for value in spelled[:, at]]
    return marked


def settle_missing(
    inputs: Mapping[int, WordInput], spelled: Array, answers: Any
) -> dict[int, WordInput]:
    """Let devices refuse a missing word wherever the framework does, or takes it otherwise.

    Args:
        inputs: as ``part_words`` gives them.
        spelled: the samples with their words.
        answers: the framework: rows of objects to its outputs by name; raises where it refuses.
    """
    settled = dict(inputs)
    for at, one in inputs.items():
        if one.column.missing is None:
            continue
        row = mark_missing(spelled[:1], inputs)
        meant = row.copy()
        row[0, at], meant[0, at] = one.marker, one.spell(float(one.column.missing))
        try:
            got, wanted = answers(row), answers(meant)
            is_same = all(np.array_equal(got[name], wanted[name]) for name in wanted)
        except Exception:  # frameworks raise anything: it refuses such rows
            is_same = False
        if not is_same:
            settled[at] = replace(one, column=structs.replace(one.column, missing=None))
    return settled


def make_word_edges(table: Array, inputs: Mapping[int, WordInput]) -> dict[str, Array]:
    """Rows that prove what the bundle promises of unknown and of missing words.

    Also the row of missing numbers, in which words stay words: a missing one has its own row.

    Args:
        table: the samples as numbers.
        inputs: the columns of words.
    """
    edges: dict[str, Array] = {}
    numbers = [at for at in range(table.shape[1]) if at not in inputs]
    if numbers:
        edges["missing"] = table[:1].copy()
        edges["missing"][0, numbers] = np.nan
    codes = {
        "unknown-words": {a: UNKNOWN_WORD for a, one in inputs.items() if one.column.unknown},
        "missing-words": {
            at: one.column.missing
            for at, one in inputs.items()
            if one.column.missing is not None and one.column.missing != UNKNOWN_WORD
        },
    }
    for name, chosen in codes.items():
        if chosen:
            edges[name] = table[:1].copy()
            for at, code in chosen.items():
                edges[name][0, at] = code
    return edges
