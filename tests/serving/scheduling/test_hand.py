"""What is in hand of a device: one beginning, which one thread gets."""

from __future__ import annotations

from edged.serving.scheduling.hand import Hand


def test_the_last_one_begins_once():
    hand, begun = Hand(), []
    hand.begin()
    hand.put(lambda: begun.append("first"))
    hand.put(lambda: begun.append("second"))
    hand.begin()
    hand.begin()
    assert begun == ["second"]


def test_what_was_dropped_does_not_begin():
    hand, begun = Hand(), []
    hand.put(lambda: begun.append(1))
    hand.drop()
    hand.begin()
    assert not begun
