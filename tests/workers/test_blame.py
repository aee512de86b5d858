"""Whose doing a death was: by table, and whatever is seen."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edged.workers.blame import Blame, Guest, Guilt, Suspicion, crashed_guest, guilt

A, B, C = 1, 2, 3
OWN, OTHER, UNCLEAR = Blame.OWN, Blame.OTHER, Blame.UNCLEAR

SEEN: dict[str, tuple[Sequence[int], int | None, tuple[Blame, Blame, Blame]]] = {
    "none was running": ([], None, (UNCLEAR, UNCLEAR, UNCLEAR)),
    "one was running": ([B], None, (OTHER, OWN, OTHER)),
    "two were running": ([A, C], None, (UNCLEAR, OTHER, UNCLEAR)),
    "all were running": ([A, B, C], None, (UNCLEAR, UNCLEAR, UNCLEAR)),
    "two were running, on whose thread is known": ([A, C], C, (OTHER, OTHER, OWN)),
    "it had answered, but it was its thread": ([A], B, (OTHER, OWN, OTHER)),
    "none was running, on whose thread is known": ([], A, (OWN, OTHER, OTHER)),
    "the thread of one that has left": ([A], 9, (OWN, OTHER, OTHER)),
}


@pytest.mark.parametrize("name", SEEN)
def test_guilt(name: str):
    running, crashed, expected = SEEN[name]
    found = guilt([Guest(one, one in running) for one in (A, B, C)], crashed)
    assert tuple(found.of(one) for one in (A, B, C)) == expected


@given(st.dictionaries(st.integers(0, 9), st.booleans()), st.none() | st.integers(0, 12))
def test_at_most_one_did_it(seen: dict[int, bool], crashed: int | None):
    found = guilt([Guest(*one) for one in seen.items()], crashed)
    verdicts = {one: found.of(one) for one in seen}
    assert list(verdicts.values()).count(OWN) <= 1
    if OWN in verdicts.values():
        assert UNCLEAR not in verdicts.values(), "nobody is under suspicion where one is known"
    if any(seen.values()):
        assert set(verdicts.values()) != {OTHER}, "some guest did it"
        assert any(verdicts[one] is not OTHER for one in seen if seen[one] or one == crashed)


CRASH = b"Fatal Python error: Segmentation fault\n\nStack (most recent call first):\n"
RUN = b'  File "/opt/edged/worker.py", line 9 in serve\n'
REPORTS = {
    "nothing": (b"", None),
    "no stack": (CRASH, None),
    "the second": (CRASH + RUN + b'  File "/opt/edged/host.py", line 3 in guest_2\n  File "x"', 2),
    "the outermost": (CRASH + b'  File "a", line 1 in guest_4\n  File "b", line 1 in guest_1', 1),
    "a thread of nobody's": (CRASH + RUN, None),
    "a name that is like one": (
        CRASH + b'  File "a", line 1 in guest_1x\n  File guest_2, in g',
        None,
    ),
    "no stack line": (CRASH + b"in guest_1\n", None),
    "half a line": (CRASH + b'  File "a", line 1 in guest_', None),
}


@pytest.mark.parametrize("name", REPORTS)
def test_crashed_guest(name: str):
    report, guest = REPORTS[name]
    assert crashed_guest(report) == guest


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_report_may_be_anything(before: bytes, after: bytes):
    crashed_guest(before + b'\n  File "a", line 1 in guest_' + after)


class Suspects(RuleBasedStateMachine):
    """Against the plain meaning: one is apart while a group of it has no culprit."""

    names = st.sampled_from("abcde")

    def __init__(self) -> None:
        super().__init__()
        self.suspicion = Suspicion()
        self.open: list[frozenset[str]] = []

    @rule(group=st.frozensets(names))
    def unclear(self, group: frozenset[str]) -> None:
        self.suspicion.suspect(group)
        if len(group) > 1:
            self.open.append(group)

    @rule(who=names)
    def proven(self, who: str) -> None:
        self.suspicion.proven(who)
        self.open = [group for group in self.open if who not in group]
        assert not self.suspicion.is_on(who), "it is known now, and is left out by its deaths"

    @invariant()
    def same(self) -> None:
        for who in "abcde":
            assert self.suspicion.is_on(who) == any(who in group for group in self.open)


TestSuspects = Suspects.TestCase


def test_one_alone_is_no_group():
    suspicion = Suspicion()
    suspicion.suspect(frozenset("a"))
    suspicion.suspect(frozenset())
    assert not suspicion.is_on("a")


def test_nobody_is_blamed_for_what_another_did():
    assert Guilt(A).of(B) is OTHER
    assert Guilt(None, frozenset({A, B})).of(C) is OTHER
