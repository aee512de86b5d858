"""What a binding says about topics: filters with named levels, and templates for answers.

Decides whether a text is a good filter or template, whether a topic matches, which levels it names,
and whether a template could produce a topic that a filter catches. Never talks to a broker.
Source: MQTT 5.0, part 4.7 (the rules of 3.1.1 are the same).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edged.errors import FieldError

MAX_TOPIC_BYTES = 1024
"""MQTT allows 65535; managed brokers stop at 256 to 1024, so longer ones do not travel."""
MAX_LEVELS = 64
"""Matching walks the levels of every message; nobody names things deeper."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
_LEVEL_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,31})\}")
_SYNTAX = (
    'write one level as text, "{name}" (one level, named), "+" (one level) '
    'or, last, "#" (all that follows)'
)


@dataclass(frozen=True, slots=True)
class _Level:
    """One level of a filter or template: fixed text, any one level, or the rest."""

    text: str = ""
    name: str | None = None
    is_free: bool = False
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class TopicFilter:
    """A topic filter with named levels, as ``plant/{site}/+/vib``.

    Args:
        source: as it was written.
        mqtt: as the broker is told, ``plant/+/+/vib`` or ``$share/group/plant/+/+/vib``.
        names: the named levels, in order.
        group: whose members share the messages; empty where each gets them all.
    """

    source: str
    mqtt: str
    names: tuple[str, ...]
    _levels: tuple[_Level, ...]
    group: str = ""

    @classmethod
    def parse(cls, text: str, path: str = "from") -> TopicFilter:
        """Read a filter.

        Args:
            text: the filter; levels may be ``{name}``, ``+`` or, last, ``#``; ``$share/GROUP/``
                may stand in front.
            path: where it stands in the document, for the error.

        Raises:
            FieldError: bad syntax, or over a cap.
        """
        _check_text(text, path)
        parts = text.split("/")
        group, shared = "", ""
        if parts[0] == "$share":
            group, parts = _shared(parts, path)
            shared = f"$share/{group}/"
        levels = tuple(
            _parse_level(part, path, is_last=index == len(parts) - 1, wildcards=True)
            for index, part in enumerate(parts)
        )
        plain = "/".join("+" if level.is_free else level.text for level in levels)
        return cls(text, shared + plain, _unique_names(levels, path), levels, group)

    @property
    def plain(self) -> str:
        """The filter without its group: which topics it catches."""
        return self.mqtt[len(f"$share/{self.group}/") :] if self.group else self.mqtt

    def match(self, topic: str) -> dict[str, str] | None:
        """The named levels of a topic, or None when the filter does not match it.

        A first level that begins with ``$`` is matched by the same text only, never by a wildcard.
        """
        parts = topic.split("/")
        levels = self._levels
        has_rest = levels[-1].is_rest
        fixed = len(levels) - 1 if has_rest else len(levels)
        if len(parts) < fixed or (len(parts) > fixed and not has_rest):
            return None
        if topic.startswith("$") and (levels[0].is_free or levels[0].is_rest):
            return None
        found: dict[str, str] = {}
        for level, part in zip(levels, parts, strict=False):
            if level.is_rest:
                break
            if not level.is_free:
                if level.text != part:
                    return None
            elif level.name is not None:
                found[level.name] = part
        return found


@dataclass(frozen=True, slots=True)
class TopicTemplate:
    """A topic with named levels to be filled in, as ``plant/{site}/out``.

    Args:
        source: as it was written.
        names: the named levels, in order; one may occur more than once.
    """

    source: str
    names: tuple[str, ...]
    _levels: tuple[_Level, ...]

    @classmethod
    def parse(cls, text: str, path: str = "to") -> TopicTemplate:
        """Read a template.

        Args:
            text: the template; levels may be ``{name}``.
            path: where it stands in the document, for the error.

        Raises:
            FieldError: bad syntax, a wildcard, a ``$`` topic, or over a cap.
        """
        _check_text(text, path)
        if text.startswith("$"):
            raise FieldError(path, f'"{text}": topics that begin with $ belong to the broker')
        levels = tuple(
            _parse_level(part, path, is_last=False, wildcards=False) for part in text.split("/")
        )
        names = dict.fromkeys(level.name for level in levels if level.name is not None)
        return cls(text, tuple(names), levels)

    def render(self, levels: Mapping[str, str]) -> str:
        """Fill in the names.

        Args:
            levels: at least the template's names.

        Raises:
            FieldError: a name is missing, a value is no single level, or the topic is too long.
        """
        parts: list[str] = []
        for level in self._levels:
            if level.name is None:
                parts.append(level.text)
                continue
            value = levels.get(level.name)
            if value is None:
                raise FieldError("to", f'no level is named "{level.name}"')
            if any(char in "/+#\0" for char in value):
                raise FieldError("to", f'"{value[:64]}" is not one topic level')
            parts.append(value)
        topic = "/".join(parts)
        check_topic(topic, "to")
        return topic


def can_match(template: TopicTemplate, topic_filter: TopicFilter) -> bool:
    """Whether some rendering of the template is a topic that the filter matches.

    A named level of the template is taken to be able to hold anything, so True may be a false
    alarm, False never is.
    """
    made, wanted = template._levels, topic_filter._levels  # noqa: SLF001 - two views of one notation
    has_rest = wanted[-1].is_rest
    fixed = len(wanted) - 1 if has_rest else len(wanted)
    if len(made) < fixed or (len(made) > fixed and not has_rest):
        return False
    return all(
        ours.is_free or theirs.is_free or ours.text == theirs.text
        for ours, theirs in zip(made[:fixed], wanted[:fixed], strict=True)
    )


def check_topic(topic: str, path: str) -> None:
    """Check a topic that something may be published to.

    Raises:
        FieldError: empty, over the cap, with a wildcard, or the broker's own (``$``).
    """
    _check_text(topic, path)
    if "+" in topic or "#" in topic:
        raise FieldError(path, f'"{topic[:128]}" has a wildcard; a topic to publish to has none')
    if topic.startswith("$"):
        raise FieldError(path, f'"{topic[:128]}": topics that begin with $ belong to the broker')


def _check_text(text: str, path: str) -> None:
    if not text:
        raise FieldError(path, "is empty; expected a topic like plant/{site}/vib")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise FieldError(path, "holds half a surrogate pair, which UTF-8 cannot carry") from None
    if size > MAX_TOPIC_BYTES:
        raise FieldError(path, f"has {size} bytes; the limit is {MAX_TOPIC_BYTES}")
    if text.count("/") >= MAX_LEVELS:
        raise FieldError(path, f"has {text.count('/') + 1} levels; the limit is {MAX_LEVELS}")
    if found := _CONTROL.search(text):
        raise FieldError(path, f"holds the control character U+{ord(found[0]):04X}")


def _shared(parts: list[str], path: str) -> tuple[str, list[str]]:
    """The group of a shared filter, and the levels behind it (MQTT 5.0, 4.8.2)."""
    if len(parts) < 3 or parts[2:] == [""]:
        raise FieldError(path, "a shared filter is $share/GROUP/TOPIC, e.g. $share/fleet/in/{site}")
    group = parts[1]
    if not group or any(char in "+#{}" for char in group):
        raise FieldError(path, f'"{group}" is no group of a shared filter; expected plain text')
    return group, parts[2:]


def _parse_level(part: str, path: str, *, is_last: bool, wildcards: bool) -> _Level:
    named = _LEVEL_NAME.fullmatch(part)
    if named is not None:
        return _Level(name=named[1], is_free=True)
    if part in {"+", "#"} and not wildcards:
        raise FieldError(path, f'"{part}" is a wildcard; a topic to publish to has none')
    if part == "+":
        return _Level(is_free=True)
    if part == "#":
        if not is_last:
            raise FieldError(path, '"#" may only be the last level')
        return _Level(text="#", is_rest=True)
    if any(char in "+#{}" for char in part):
        raise FieldError(path, f'the level "{part}" mixes text and wildcard; {_SYNTAX}')
    return _Level(text=part)


def _unique_names(levels: tuple[_Level, ...], path: str) -> tuple[str, ...]:
    names = [level.name for level in levels if level.name is not None]
    for name in names:
        if names.count(name) > 1:
            raise FieldError(path, f'the level name "{name}" occurs twice')
    return tuple(names)
