"""The columns of words of a scikit-learn model: taken out of it, so that it converts as numbers.

An encoder of words is two things: which number a word has, and what is made of the number. The
first goes into the bundle, where the daemon does it; the second stays in the model. Decides which
encoders can be parted so, and what unknown and missing words are to the model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec import structs

from converters.errors import UnsupportedModelError
from edged.processing.words import Vocabulary
from edged.specs import MAX_WORDS, UNKNOWN_WORD, WORD_CHARACTERS, WordColumn

ENCODERS = {"OneHotEncoder", "OrdinalEncoder"}
STRANGER = "a word that no one taught"
"""What the framework is asked with where an unknown word is meant; made longer until it is one."""


@dataclass(frozen=True)
class WordInput:
    """One column of words.

    Args:
        column: what the bundle says of it.
        marker: what a missing value is in the framework's own rows: None or NaN.
    """

    column: WordColumn
    marker: Any

    @property
    def vocabulary(self) -> Vocabulary:
        """Made by the very code that a device runs."""
        return Vocabulary(self.column)

    def spell(self, code: float) -> Any:
        """A value that the framework may be asked with for a number.

        Raises:
            ValueError: the number stands for nothing that a device takes.
        """
        words = self.column.words
        if 0 <= code < len(words) and code == int(code):
            return words[int(code)]
        if code == UNKNOWN_WORD and self.column.unknown:
            stranger = STRANGER
            while stranger in words:
                stranger += "?"
            return stranger
        if code == self.column.missing:
            return self.marker
        raise ValueError(f"{code} is the number of no word")


@dataclass(frozen=True)
class Parted:
    """A model without its words.

    Args:
        model: a copy whose encoders take numbers; the model itself where it takes no words.
        inputs: its columns of words, by place.
    """

    model: Any
    inputs: dict[int, WordInput] = field(default_factory=dict)


def part_words(model: Any, texts: bool) -> Parted:
    """Take the words out of a copy of a model.

    Encoders behind anything but pipelines and ColumnTransformers are left as they are.

    Args:
        model: a fitted estimator.
        texts: whether any of its steps was fitted on text.

    Raises:
        UnsupportedModelError: an encoder that cannot be parted; names its place and what to do.
    """
    if not texts:
        return Parted(model)
    parted = Parted(copy.deepcopy(model))
    _enter(
        parted.model, list(range(int(model.n_features_in_))), type(model).__name__, parted.inputs
    )
    return parted if parted.inputs else Parted(model)


def let_be(
    model: Any, columns: Sequence[str], words: Mapping[str, Sequence[str]]
) -> dict[int, WordInput]:
    """The samples' columns of words that a ColumnTransformer drops: any word or none will do.

    Args:
        model: a fitted estimator.
        columns: the names of the table's columns.
        words: of the samples, by column.
    """
    step = model
    while hasattr(step, "steps"):
        active = [child for _, child in step.steps if hasattr(child, "get_params")]
        step = active[0] if active else None
    if type(step).__name__ != "ColumnTransformer" or len(columns) != step.n_features_in_:
        return {}
    branches = [chosen for _, child, chosen in step.transformers_ if _is_used(child)]
    used = {at for chosen in branches for at in _places(step, chosen)}
    return {
        at: WordInput(
            WordColumn((words[name][0][:WORD_CHARACTERS],), unknown=True, missing=UNKNOWN_WORD),
            np.nan,
        )
        for at, name in enumerate(columns)
        if name in words and at not in used
    }


def _is_used(child: Any) -> bool:
    return not isinstance(child, str) or child != "drop"


def _enter(step: Any, columns: list[int], path: str, found: dict[int, WordInput]) -> None:
    """Part what gets the model's own columns: ``columns`` are their places in the model's table."""
    kind = type(step).__name__
    if kind == "ColumnTransformer":
        for name, child, chosen in step.transformers_:
            if hasattr(child, "get_params"):
                places = [columns[at] for at in _places(step, chosen)]
                _enter(child, places, f"{path}.{name}", found)
    elif hasattr(step, "steps"):
        _enter_steps(step, columns, path, found)
    elif kind in ENCODERS:
        _part(step, columns, path, found, None)


def _enter_steps(step: Any, columns: list[int], path: str, found: dict[int, WordInput]) -> None:
    """Part the first step of a pipeline, and an imputer of words before it."""
    active = [entry for entry in step.steps if hasattr(entry[1], "get_params")]
    if not active:
        return
    name, first = active[0]
    if type(first).__name__ != "SimpleImputer" or not _has_text(first):
        _enter(first, columns, f"{path}.{name}", found)
    elif len(active) > 1 and type(active[1][1]).__name__ in ENCODERS:
        _check_filler(first, f"{path}.{name}")
        _part(active[1][1], columns, f"{path}.{active[1][0]}", found, first)
        step.steps = active[1:]


def _places(step: Any, chosen: Any) -> list[int]:
    """The columns of a branch of a ColumnTransformer, as numbers."""
    names = [str(name) for name in getattr(step, "feature_names_in_", ())]
    every = list(range(int(step.n_features_in_)))
    if isinstance(chosen, slice):
        start, stop = (
            names.index(end) + is_stop if isinstance(end, str) else end
            for end, is_stop in ((chosen.start, False), (chosen.stop, True))
        )
        return every[start : stop : chosen.step]
    listed = np.atleast_1d(np.asarray(chosen, dtype=object)).tolist()
    if listed and all(isinstance(entry, bool | np.bool_) for entry in listed):
        return [at for at, is_taken in enumerate(listed) if is_taken]
    places = [names.index(entry) if isinstance(entry, str) else int(entry) for entry in listed]
    return [every[at] for at in places]


def _has_text(step: Any) -> bool:
    return any(isinstance(value, str) for value in getattr(step, "statistics_", ()))


def _check_filler(step: Any, path: str) -> None:
    """Refuse a SimpleImputer whose work is more than giving a missing word another."""
    marker = step.missing_values
    if not all(isinstance(value, str) for value in step.statistics_):
        raise UnsupportedModelError(
            f'step "{path}" (SimpleImputer) fills columns of words and of numbers: give each kind '
            "an imputer of its own"
        )
    if step.add_indicator or not _is_missing(marker):
        raise UnsupportedModelError(
            f'step "{path}" (SimpleImputer) takes {marker!r} for missing'
            f"{' and adds an indicator' if step.add_indicator else ''}: for words, missing_values "
            "must be NaN or None, and add_indicator off"
        )


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _part(
    encoder: Any, columns: Sequence[int], path: str, found: dict[int, WordInput], filler: Any
) -> None:
    """Let an encoder take the numbers of its words; numbers of its other columns stay."""
    for at, categories in enumerate(encoder.categories_):
        words = [entry for entry in categories if isinstance(entry, str)]
        if not words:
            continue
        where = f'step "{path}" ({type(encoder).__name__}), column {columns[at]}'
        if columns[at] in found:
            raise UnsupportedModelError(
                f"{where}: two encoders take this column of words; use one, and its result twice"
            )
        others = list(categories)[len(words) :]
        _check_categories(encoder, where, words, others)
        column, marker = _column(encoder, where, words, others)
        if filler is not None:
            fill = filler.statistics_[at]
            known = words.index(fill) if fill in words else None
            missing = known if known is not None else UNKNOWN_WORD if column.unknown else None
            column, marker = structs.replace(column, missing=missing), filler.missing_values
        found[columns[at]] = WordInput(column, marker)
        encoder.categories_[at] = np.arange(len(categories), dtype=np.float64)
    if encoder.handle_unknown in {"infrequent_if_exist", "warn"}:
        encoder.handle_unknown = "ignore"  # the same where nothing is infrequent


def _check_categories(encoder: Any, where: str, words: list[str], others: list[Any]) -> None:
    if getattr(encoder, "_infrequent_enabled", False):
        raise UnsupportedModelError(
            f"{where}: min_frequency and max_categories put rare words together, which is not "
            "carried; put them together before the model, or leave both out"
        )
    if len(others) > 1 or not all(map(_is_missing, others)):
        raise UnsupportedModelError(
            f"{where}: holds words and other values ({others[0]!r}); make all of them words"
        )
    long = [word for word in words if len(word) > WORD_CHARACTERS or not _is_text(word)]
    if long or len(words) > MAX_WORDS:
        raise UnsupportedModelError(
            f"{where}: {len(words)} words"
            f"{f', among them {long[0][:40]!a}' if long else ''}; a bundle carries {MAX_WORDS} of "
            f"{WORD_CHARACTERS} characters of Unicode text each"
        )


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _column(
    encoder: Any, where: str, words: list[str], others: list[Any]
) -> tuple[WordColumn, Any]:
    """What the bundle says of a column, and how the framework is told of a missing value."""
    takes_unknown = encoder.handle_unknown != "error"
    if not others:
        missing = UNKNOWN_WORD if takes_unknown else None
        return WordColumn(tuple(words), takes_unknown, missing), np.nan
    if type(encoder).__name__ == "OneHotEncoder":
        return WordColumn(tuple(words), takes_unknown, len(words)), others[0]
    # unknown_value is a number only where unknown words are taken.
    if not takes_unknown or not np.array_equal(
        encoder.unknown_value, encoder.encoded_missing_value, equal_nan=True
    ):
        raise UnsupportedModelError(
            f"{where}: was fitted on missing values, which it gives a number that is no word's: "
            "say handle_unknown='use_encoded_value' and the same number for unknown_value and "
            "encoded_missing_value, or fill them with a SimpleImputer before it"
        )
    return WordColumn(tuple(words), unknown=True, missing=UNKNOWN_WORD), others[0]
