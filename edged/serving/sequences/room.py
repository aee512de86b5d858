"""The room of open sequences: which may begin, which is given up for it, which was idle too long.

Pure, with the time passed in. The states themselves, and whose turn it is, are ``open_sequences``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Key(NamedTuple):
    """Whose sequence it is. One peer's ids mean nothing to another."""

    origin: str
    id: int | str


class Idle(NamedTuple):
    """An open sequence that nothing runs or waits for.

    Args:
        key: whose it is.
        size_bytes: of its states.
        used_ns: when its last request ended, monotonic nanoseconds.
        timeout_ns: how long it may be idle.
    """

    key: Key
    size_bytes: int
    used_ns: int
    timeout_ns: int


class Room(NamedTuple):
    """What one model's sequences may take together.

    Args:
        most: open at once.
        most_bytes: of all states.
        may_evict: whether the one that was idle longest is given up for a new one.
    """

    most: int
    most_bytes: int
    may_evict: bool


class Need(NamedTuple):
    """What is there with the new one: how many, of how many bytes."""

    sequences: int
    size_bytes: int


def make_room(idle: Iterable[Idle], need: Need, room: Room) -> tuple[Key, ...] | None:
    """Whom to give up so that a new sequence may begin.

    Args:
        idle: in any order.
        need: what would be there with it and without giving up anybody.
        room: what may be.

    Returns:
        Their keys, those that were idle longest; empty where there is room. None where there is
        not, and would not be by giving up all that may be given up.
    """
    count, size_bytes = need
    given_up: list[Key] = []
    for one in sorted(idle, key=lambda one: one.used_ns) if room.may_evict else ():
        if count <= room.most and size_bytes <= room.most_bytes:
            break
        given_up.append(one.key)
        count -= 1
        size_bytes -= one.size_bytes
    if count > room.most or size_bytes > room.most_bytes:
        return None
    return tuple(given_up)


def overdue(idle: Iterable[Idle], now_ns: int) -> tuple[Key, ...]:
    """The keys of those whose time is over."""
    return tuple(one.key for one in idle if one.used_ns + one.timeout_ns <= now_ns)


def next_due_ns(idle: Iterable[Idle]) -> int | None:
    """When the first of them has been idle too long, monotonic nanoseconds; None without one."""
    return min((one.used_ns + one.timeout_ns for one in idle), default=None)
