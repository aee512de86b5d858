"""What we are subscribed to at the broker, reconciled with what we want.

Decides which filters to subscribe to and which to give back, those of an earlier process too: a
persistent session keeps them for ever. Remembers them through a pair of functions or a file, and
who read them: the broker may still have messages for those.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edged.system.atomic import write_atomically

log = logging.getLogger("edged.mqtt")

_LARGEST_FILE_BYTES = 1 << 22
_STEM = "mqtt-filters"
_MOST_LEFT = 64
_MOST_PAST = 1024
"""A reload may move hundreds of bindings at once; over the years the oldest go."""
_PAST = "past"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a session is subscribed to, or was not long ago.

    Args:
        held: by filter, the names of those who read it.
        past: of filters that were given back; messages for them may still come.
    """

    held: Mapping[str, Sequence[str]]
    past: Mapping[str, Sequence[str]]


NOTHING = Remembered({}, {})


@dataclass(frozen=True, slots=True)
class SubscriptionMemory:
    """Where the filters of the session are remembered across processes."""

    load: Callable[[], Remembered]
    save: Callable[[Remembered], None]

    @classmethod
    def in_file(cls, path: Path) -> SubscriptionMemory:
        """A JSON object in a file; an unreadable one reads as empty."""
        return cls(lambda: _load(path), lambda found: _save(path, found))

    @classmethod
    def of_session(cls, folder: Path, name: str | None) -> SubscriptionMemory:
        """That of a session by its name in a state directory; None for the main one."""
        return cls.in_file(folder / (f"{_STEM}.json" if name is None else f"{_STEM}-{name}.json"))

    @classmethod
    def none(cls) -> SubscriptionMemory:
        """Nothing is remembered."""
        return cls(lambda: NOTHING, _discard)


class Subscriptions:
    """The wanted filters and those the session may still have.

    Args:
        memory: where the latter are kept.
    """

    def __init__(self, memory: SubscriptionMemory) -> None:
        self._memory = memory
        self._wanted: dict[str, int] = {}
        found = memory.load()
        self._held = {text: tuple(names) for text, names in found.held.items()}
        self._past = {text: tuple(names) for text, names in found.past.items()}

    def want(
        self, filters: dict[str, int], names: Mapping[str, Sequence[str]] | None = None
    ) -> tuple[list[tuple[str, int]], list[str]]:
        """Note what is wanted from now on.

        Args:
            filters: each with its QoS.
            names: who reads them.

        Returns:
            What to subscribe to (all of it: a broker may have lost some), and what to give back.
        """
        self._wanted = dict(filters)
        stale = sorted(self._held.keys() - filters.keys())
        readers = names or {}
        # Before the broker is told: a crash in between must not leave one we do not know of.
        held = self._held | {text: tuple(readers.get(text, ())) for text in filters}
        past = {text: who for text, who in self._past.items() if text not in filters}
        self._note(held, past)
        return list(filters.items()), stale

    def gave_back(self, filters: Iterable[str]) -> None:
        """Note that the broker has forgotten these; what it queued for them may yet come."""
        gone = set(filters) - self._wanted.keys()
        past = self._past | {text: who for text in gone if (who := self._held.get(text))}
        held = {text: who for text, who in self._held.items() if text not in gone}
        self._note(held, dict([*past.items()][-_MOST_PAST:]))

    def _note(self, held: dict[str, tuple[str, ...]], past: dict[str, tuple[str, ...]]) -> None:
        if (held, past) != (self._held, self._past):
            self._held, self._past = held, past
            self._memory.save(Remembered(held, past))


def sessions_left(folder: Path) -> list[str]:
    """Names of sessions that an earlier process had, and that may still be subscribed."""
    return [name for name, found in sessions_known(folder) if name is not None and found.held]


def sessions_known(folder: Path) -> list[tuple[str | None, Remembered]]:
    """The sessions of earlier processes and what they had; the main one has no name."""
    found: list[tuple[str | None, Remembered]] = [(None, _load(folder / f"{_STEM}.json"))]
    for path in sorted(folder.glob(f"{_STEM}-*.json")):
        remembered = _load(path)
        if remembered != NOTHING:
            found.append((path.stem.removeprefix(f"{_STEM}-"), remembered))
    return found[: _MOST_LEFT + 1]


def forget_sessions(folder: Path) -> None:
    """Forget what they had: the broker has nothing more for it. Raises OSError.

    Not what they are subscribed to still: nobody else would ever give it back.
    """
    for path in folder.glob(f"{_STEM}*.json"):
        held = _load(path).held
        if held:
            _save(path, Remembered(held, {}))
        else:
            path.unlink(missing_ok=True)


def _load(path: Path) -> Remembered:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST_FILE_BYTES))
        if isinstance(found, list):  # of a daemon that did not note who reads them
            return Remembered({text: () for text in found if isinstance(text, str)}, {})
        held, past = {}, {}
        for text, said in found.items():
            if isinstance(said, dict):
                past[text] = _names(said.get(_PAST))
            else:
                held[text] = _names(said)
        return Remembered(held, past)
    except FileNotFoundError:
        return NOTHING
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as exc:
        log.warning("the list of subscriptions cannot be read: %s", exc)
        return NOTHING


def _names(found: object) -> tuple[str, ...]:
    names = found if isinstance(found, list) else ()
    return tuple(name for name in names if isinstance(name, str))


def _save(path: Path, found: Remembered) -> None:
    document = {text: {_PAST: who} for text, who in found.past.items()} | dict(found.held)
    try:
        write_atomically(path, json.dumps(document).encode())
    except OSError as exc:
        log.warning("the list of subscriptions cannot be written: %s", exc)


def _discard(_: Remembered) -> None:
    pass
