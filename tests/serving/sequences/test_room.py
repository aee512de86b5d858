"""Who may begin, who is given up: tables."""

from __future__ import annotations

import pytest

from edged.serving.sequences.room import Idle, Key, Need, Room, make_room, next_due_ns, overdue


def idle(name: str, used_ns: int, size_bytes: int = 10, timeout_ns: int = 100) -> Idle:
    return Idle(Key("uds:1", name), size_bytes, used_ns, timeout_ns)


A, B, C = idle("a", 30), idle("b", 10), idle("c", 20, 50)
REJECT, EVICT = Room(3, 100, may_evict=False), Room(3, 100, may_evict=True)


@pytest.mark.parametrize(
    ("there", "need", "room", "given_up"),
    [
        ([], Need(1, 10), REJECT, ""),
        ([A, B], Need(3, 100), REJECT, ""),
        ([A, B, C], Need(4, 80), REJECT, None),
        ([A, B, C], Need(3, 101), REJECT, None),
        ([A, B, C], Need(3, 100), EVICT, ""),
        ([A, B, C], Need(4, 80), EVICT, "b"),
        ([A, B, C], Need(6, 80), EVICT, "bca"),
        ([A, B, C], Need(7, 80), EVICT, None),
        ([], Need(4, 10), EVICT, None),
        ([A, B, C], Need(3, 110), EVICT, "b"),
        ([A, B, C], Need(3, 111), EVICT, "bc"),
        ([A, B, C], Need(3, 171), EVICT, None),
    ],
    ids=lambda value: None,
)
def test_room(there: list[Idle], need: Need, room: Room, given_up: str | None):
    found = make_room(there, need, room)
    assert found == (None if given_up is None else tuple(Key("uds:1", n) for n in given_up))


def test_time():
    there = [A, B, idle("d", 5, timeout_ns=1000)]
    assert next_due_ns([]) is None
    assert next_due_ns(there) == 110
    assert overdue(there, 109) == ()
    assert overdue(there, 110) == (B.key,)
    assert overdue(there, 1005) == (A.key, B.key, Key("uds:1", "d"))
