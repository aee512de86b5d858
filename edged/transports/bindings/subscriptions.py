"""What we are subscribed to at the broker, reconciled with what we want.

Decides which filters to subscribe to and which to give back, those of an earlier process too: a
persistent session keeps them for ever. Remembers them through a pair of functions or a file.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("edged.mqtt")

_LARGEST_FILE_BYTES = 1 << 20
_STEM = "mqtt-filters"
_MOST_LEFT = 64


@dataclass(frozen=True, slots=True)
class SubscriptionMemory:
    """Where the filters of the session are remembered across processes."""

    load: Callable[[], Iterable[str]]
    save: Callable[[Iterable[str]], None]

    @classmethod
    def in_file(cls, path: Path) -> SubscriptionMemory:
        """A JSON list in a file; an unreadable one reads as empty, since it only saves tidying."""
        return cls(lambda: _load(path), lambda filters: _save(path, filters))

    @classmethod
    def of_session(cls, folder: Path, name: str | None) -> SubscriptionMemory:
        """That of a session by its name in a state directory; None for the main one."""
        return cls.in_file(folder / (f"{_STEM}.json" if name is None else f"{_STEM}-{name}.json"))

    @classmethod
    def none(cls) -> SubscriptionMemory:
        """Nothing is remembered."""
        return cls(tuple, _discard)


class Subscriptions:
    """The wanted filters and those the session may still have.

    Args:
        memory: where the latter are kept.
    """

    def __init__(self, memory: SubscriptionMemory) -> None:
        self._memory = memory
        self._wanted: dict[str, int] = {}
        self._held = set(memory.load())

    def want(self, filters: dict[str, int]) -> tuple[list[tuple[str, int]], list[str]]:
        """Note what is wanted from now on.

        Returns:
            What to subscribe to (all of it: a broker may have lost some), and what to give back.
        """
        self._wanted = dict(filters)
        stale = sorted(self._held - set(filters))
        held = self._held | set(filters)
        if held != self._held:
            # Before the broker is told: a crash in between must not leave one we do not know of.
            self._held = held
            self._memory.save(sorted(held))
        return list(filters.items()), stale

    def gave_back(self, filters: Iterable[str]) -> None:
        """Note that the broker has forgotten these."""
        held = self._held - (set(filters) - set(self._wanted))
        if held != self._held:
            self._held = held
            self._memory.save(sorted(held))


def sessions_left(folder: Path) -> list[str]:
    """Names of sessions that an earlier process had, and that may still be subscribed."""
    found = sorted(folder.glob(f"{_STEM}-*.json"))
    return [path.stem.removeprefix(f"{_STEM}-") for path in found if _load(path)][:_MOST_LEFT]


def _load(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST_FILE_BYTES))
        return [text for text in found if isinstance(text, str)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, RecursionError) as exc:
        log.warning("the list of subscriptions cannot be read: %s", exc)
        return []


def _save(path: Path, filters: Iterable[str]) -> None:
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            json.dump(list(filters), file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as exc:
        log.warning("the list of subscriptions cannot be written: %s", exc)


def _discard(_: Iterable[str]) -> None:
    pass
