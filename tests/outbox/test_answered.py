"""A bounded memory of ids."""

from __future__ import annotations

from edged.outbox.answered import Answered
from edged.outbox.entry import NO_ID
from edged.outbox.marks import IDS


def test_known_until_so_many_newer_ones_came() -> None:
    answered = Answered()
    answered.add_all([(2, b"b" * 16), (1, b"a" * 16), (2, b"b" * 16)])
    answered.add(3, NO_ID)
    assert b"a" * 16 in answered
    assert NO_ID not in answered
    assert answered.between(2, 9) == [(2, b"b" * 16)]
    for number in range(10, 10 + IDS - 1):
        answered.add(number, b"%016d" % number)
    assert b"a" * 16 not in answered
    assert b"b" * 16 in answered


def test_one_that_came_again_is_known_as_long_as_its_last() -> None:
    answered = Answered()
    answered.add(1, b"a" * 16)
    answered.add(2, b"a" * 16)
    for number in range(3, 3 + IDS - 1):
        answered.add(number, b"%016d" % number)
    assert b"a" * 16 in answered
