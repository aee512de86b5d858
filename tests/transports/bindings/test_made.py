"""Answers to requests that may come again: bounded, and gone when they cannot come any more."""

from __future__ import annotations

from edged.protocol.broker_session import Publication
from edged.transports.bindings.made import MadeAnswers


def test_an_answer_is_found_until_its_identifier_is_used_anew() -> None:
    made, answer = MadeAnswers(), Publication("out", b"1")
    made.note(b"a", Publication("out", b"0"), 5)
    made.note(b"a", answer, 5)
    made.note(b"b", answer, 5)
    made.note(b"c", answer, 6)
    assert (made.get(b"a"), made.get(b"a"), len(made)) == (answer, answer, 3)
    made.arrived(5)
    made.arrived(5)
    assert (made.get(b"a"), made.get(b"b"), made.get(b"c")) == (None, None, answer)


def test_it_is_bounded_by_number_and_by_bytes() -> None:
    made = MadeAnswers()
    for number in range(1100):
        made.note(number.to_bytes(2, "big"), Publication("out", b""), number)
    assert len(made) == 1024
    assert made.get(bytes(2)) is None
    for number in range(20):
        made.note(b"large" + bytes([number]), Publication("out", bytes(1 << 20)), 1)
    assert len(made) <= 16
    made.forget()
    assert len(made) == 0
    made.arrived(1)
    made.note(b"a", Publication("out", bytes(1 << 20)), 1)
    assert len(made) == 1
