"""How a written word becomes a value of the type that the schema wants, and back.

Decides the spelling of numbers, truths, durations and sizes. Never guesses a type from a spelling:
``no`` in a text field is the text "no".
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin

from msgspec import Meta

from edged.config.document import Scalar
from edged.specs import Duration, Size

FAILED: Any = object()
"""What a reader answers when the text is not of its type."""

# Plain decimal only: in YAML 1.1 017 would be 15 and 1:30 would be 90.
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_MAX_FLOAT = 1e300

_DURATIONS = (("h", 3600 * 10**9), ("min", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 1000))
_SIZES = (
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 10**9),
    ("MB", 10**6),
    ("kB", 1000),
)


def read_scalar(node: Scalar, base: Any) -> Any:
    """Read a scalar as ``base``, or answer FAILED.

    Args:
        node: the text and whether it had quotes; a quoted 5 is text, not a number.
        base: str, int, float, bool, Duration, Size or a Literal.
    """
    if base is str:  # most of them, and there are thousands
        return FAILED if node.is_null else node.text
    if get_origin(base) is Literal:
        return _read_literal(node, get_args(base))
    if base is Duration or base is Size:
        try:
            return base.parse(0 if node.text == "0" else node.text)
        except ValueError:
            return FAILED
    if not node.plain:
        return FAILED
    if base is bool:
        return {"true": True, "false": False}.get(node.text, FAILED)
    if base is int:
        return int(node.text) if _INT.fullmatch(node.text) else FAILED
    if base is float and _FLOAT.fullmatch(node.text):
        value = float(node.text)
        return value if abs(value) <= _MAX_FLOAT else FAILED
    return FAILED


def _read_literal(node: Scalar, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if isinstance(choice, str) and node.text == choice:
            return choice
    return FAILED


def expectation(base: Any, metas: tuple[Meta, ...]) -> str:
    """What a field of this type wants, in words: ``a whole number from 1 to 65535``."""
    if get_origin(base) is Literal:
        choices = [f'"{choice}"' for choice in get_args(base)]
        return choices[0] if len(choices) == 1 else "one of " + ", ".join(choices)
    if base is Duration:
        return 'a duration like "200ms" (units: ns, us, ms, s, min, h)'
    if base is Size:
        return 'a size like "64MiB" (units: B, KiB, MiB, GiB, kB, MB, GB)'
    if base is bool:
        return "true or false"
    if base is int:
        return "a whole number" + _range(metas)
    if base is float:
        return "a number" + _range(metas)
    return "text" + _length(metas)


def _range(metas: tuple[Meta, ...]) -> str:
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""


def _length(metas: tuple[Meta, ...]) -> str:
    pattern = next((meta.pattern for meta in metas if meta.pattern is not None), None)
    longest = next((meta.max_length for meta in metas if meta.max_length is not None), None)
    words = f" of at most {longest} characters" if longest is not None else ""
    if pattern is not None:
        pattern = pattern.replace(r"\Z", "$")  # the same to a person, and better known
    shown = next((meta.examples[0] for meta in metas if meta.examples), None)
    if shown is not None and pattern is not None:
        return f'{words} like "{shown}" ({pattern})'
    return words + (f" matching {pattern}" if pattern is not None else "")


def format_value(value: Any) -> str:
    """A value as an operator would write it on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Duration):
        return _format_units(int(value), _DURATIONS, "ns")
    if isinstance(value, Size):
        return _format_units(int(value), _SIZES, "B")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(format_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {format_value(item)}" for key, item in value.items()) + "}"
    if hasattr(value, "__struct_fields__"):
        pairs = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        inner = ", ".join(f"{said}: {format_value(getattr(value, name))}" for said, name in pairs)
        return "{" + inner + "}"
    return str(value)


def _format_units(value: int, units: tuple[tuple[str, int], ...], smallest: str) -> str:
    if value == 0:
        return "0"
    for name, factor in units:
        if value % factor == 0:
            return f"{value // factor}{name}"
    return f"{value}{smallest}"
