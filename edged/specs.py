"""What a bundle or an operator may say about data: sizes, times, and the work around a model.

Words only: ``processing/`` does the work; ``manifest.py`` and ``config/`` embed the words.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
"""A model's name is a dictionary key and an MQTT topic level; it is never joined to a path. It ends
with \\Z, because $ would let a line end through."""

_UNITS_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_UNITS_BYTES = {
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_QUANTITY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([A-Za-z]{1,3})", re.ASCII)


def _quantity(text: object, units: dict[str, int], example: str) -> int:
    if text == 0 and not isinstance(text, bool):
        return 0
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        known = ", ".join(units)
        raise ValueError(f'expected a number with a unit like "{example}" (units: {known})')
    return round(float(match[1]) * units[match[2]])


class Duration(int):
    """A length of time in nanoseconds, written ``200ms``, ``1.5s``, ``2min`` or ``0``."""

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Read the written form; raises ValueError that says what was expected."""
        return cls(_quantity(text, _UNITS_NS, "200ms"))

    @property
    def seconds(self) -> float:
        """The same length in seconds."""
        return self / 1e9


class Size(int):
    """A number of bytes, written ``64MiB`` or ``500kB``."""

    @classmethod
    def parse(cls, text: object) -> Size:
        """Read the written form; raises ValueError that says what was expected."""
        return cls(_quantity(text, _UNITS_BYTES, "64MiB"))


def size_words(size_bytes: int) -> str:
    """A number of bytes for people, in the largest unit of which there is one: ``13 KiB``."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes / 1024:.0f} KiB" if size_bytes >= 1024 else f"{size_bytes} B"


class ImageInput(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="image"):
    """An input that is a picture: how decoded pixels become the tensor.

    Pixels are decoded to ``mode``, brought to ``width`` x ``height`` (``resize: exact`` refuses any
    other size), become float, and are mapped to ``(pixel * scale - mean) / std`` a channel.
    """

    width: Annotated[int, Meta(ge=1, le=16384)]
    height: Annotated[int, Meta(ge=1, le=16384)]
    mode: Literal["L", "RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC", "NHW", "flat"] = "NCHW"
    resize: Literal["exact", "stretch", "letterbox"] = "exact"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


UNKNOWN_WORD = -1
"""What the model gets for a word that it does not know: below every word's number."""
MAX_WORDS = 65536
"""Of one column. float32 holds whole numbers up to 2^24; the manifest's own cap comes first."""

WORD_CHARACTERS = 1024
"""Of one word: a long label, not a text."""

Word = Annotated[str, Meta(max_length=WORD_CHARACTERS)]


class WordColumn(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A column of words: word number n becomes the number n.

    Args:
        words: those that the model knows, none twice.
        unknown: whether any other word is taken, as UNKNOWN_WORD; else such a row is refused.
        missing: the number of a value that is absent or ``null``: of a word, UNKNOWN_WORD, or
            ``len(words)``, which is then a number of its own. None refuses such a row.
    """

    words: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=MAX_WORDS)]
    unknown: bool = False
    missing: Annotated[int, Meta(ge=UNKNOWN_WORD, le=MAX_WORDS)] | None = None


class FeaturesInput(
    Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,  # a bundle without words stays the bytes that it was
    tag_field="kind",
    tag="features",
):
    """An input that is a table row: the columns' names in order.

    The shape is [batch, len(names)]; a JSON object with these fields becomes one row. Columns in
    ``words`` take words, and the model gets their numbers.
    """

    names: Annotated[tuple[str, ...], Meta(min_length=1, max_length=65536)]
    words: dict[str, WordColumn] = field(default_factory=dict)


class TextInput(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text"):
    """An input that is text: UTF-8 in rows of uint8 that are filled with zeros."""


InputProcessing = ImageInput | FeaturesInput | TextInput


class OutputProcessing(Struct, frozen=True, forbid_unknown_fields=True):
    """What an output means, so that a binding can show it to people.

    ``activation`` is what is still to be applied to get probabilities; ``labels`` name the last
    axis. ``text`` is written only where it is so: the last axis is UTF-8, filled up with zeros.
    """

    activation: Literal["none", "softmax", "sigmoid"] = "none"
    labels: tuple[str, ...] = ()
    text: Literal[True] | UnsetType = UNSET


class FieldSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One column taken from a JSON payload: a dotted path, and a value when it is absent."""

    path: Annotated[str, Meta(min_length=1, max_length=256)]
    default: float | None = None


class OutputSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """How a binding turns outputs into a payload."""

    codec: Annotated[
        Literal["json", "cbor", "msgpack", "tensor", "raw"],
        Meta(description="of the payload; tensor and raw carry what the model gave, untouched"),
    ] = "json"

    tensor: Annotated[str | None, Meta(description="the output to use; default: the first")] = None
    activation: Literal["bundle", "none", "softmax", "sigmoid"] = "bundle"
    top_k: Annotated[
        int, Meta(ge=0, le=1000, description="best k entries of the last axis; 0 = all, unsorted")
    ] = 0
    labels: Annotated[bool, Meta(description="use the bundle's labels where it has them")] = True
    threshold: Annotated[
        float | None, Meta(description="leave out entries whose score is below")
    ] = None
