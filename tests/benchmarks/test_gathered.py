"""The messages of the rows about windows and joins: each round ends with an answer of its own."""

from __future__ import annotations

import pytest

from benchmarks.gathered import KINDS, _topics


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_device_gets_one_answer_and_gets_it_last(kind: str) -> None:
    topics = list(_topics(kind, 4000))
    assert len(topics) == 4000
    of_last = [at for at, topic in enumerate(topics) if topic.endswith("/last")]
    assert of_last == list(range(4000 - KINDS[kind], 4000))
    assert topics[-1] == f"{kind}/last"
    halves = ["part/last", "join/last"]
    assert kind != "join" or topics[-2:] == halves, "a value before what it is joined to"
