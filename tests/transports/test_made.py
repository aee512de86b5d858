"""Answers that wait for their request to come again: once, bounded, the oldest go first."""

from __future__ import annotations

from edged.protocol.mqtt import Publication
from edged.transports.made import MadeAnswers


def test_an_answer_is_found_once() -> None:
    made, answer = MadeAnswers(), Publication("out", b"1")
    made.note(b"a", Publication("out", b"0"))
    made.note(b"a", answer)
    assert len(made) == 1
    assert made.take(b"a") == answer
    assert made.take(b"a") is None


def test_it_is_bounded_by_number_and_by_bytes() -> None:
    made = MadeAnswers()
    for number in range(1100):
        made.note(number.to_bytes(2, "big"), Publication("out", b""))
    assert len(made) == 1024
    assert made.take(bytes(2)) is None
    for number in range(20):
        made.note(b"large" + bytes([number]), Publication("out", bytes(1 << 20)))
    assert len(made) <= 16
    made.forget()
    assert len(made) == 0
    made.note(b"a", Publication("out", bytes(1 << 20)))
    assert len(made) == 1
