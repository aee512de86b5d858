"""Whose turn it is: order within a key, nobody waits across keys, nothing is left behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.transports.bindings.lanes import Lanes


class Worker:
    """Goes when told; ``at_once``: is done before ``go`` returns."""

    def __init__(
        self, lanes: Lanes, key: str, seen: list[Worker], *, at_once: bool = False
    ) -> None:
        self.lanes, self.key, self.seen, self.at_once = lanes, key, seen, at_once

    def go(self) -> None:
        self.seen.append(self)
        if self.at_once:
            self.lanes.leave(self.key, self)


def test_one_at_a_time_of_a_key_and_all_keys_at_once() -> None:
    lanes, seen = Lanes(), []
    first, second, other = (Worker(lanes, key, seen) for key in "aab")
    for one in (first, second, other):
        lanes.enter(one.key, one)
    assert seen == [first, other]
    lanes.leave("a", first)
    lanes.leave("a", first)
    assert seen == [first, other, second]
    lanes.leave("a", second)
    lanes.leave("b", other)
    assert len(lanes) == 0


def test_one_that_gives_up_while_it_waits_never_goes() -> None:
    lanes, seen = Lanes(), []
    first, second, third = (Worker(lanes, "a", seen) for _ in range(3))
    for one in (first, second, third):
        lanes.enter("a", one)
    lanes.leave("a", second)
    lanes.leave("a", first)
    assert seen == [first, third]


def test_a_long_line_of_quick_ones_needs_no_deep_stack() -> None:
    lanes, seen = Lanes(), []
    first = Worker(lanes, "a", seen)
    lanes.enter("a", first)
    for _ in range(5000):
        lanes.enter("a", Worker(lanes, "a", seen, at_once=True))
    lanes.leave("a", first)
    assert len(seen) == 5001
    assert len(lanes) == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 30)), max_size=60))
def test_any_schedule_keeps_the_order_of_each_key(moves: list[tuple[int, bool, int]]) -> None:
    lanes, seen, entered, gone = Lanes(), [], [], set()
    for number, at_once, at in moves:
        if entered and at % 3 == 0:
            leaver = entered[at % len(entered)]
            gone.add(leaver)
            lanes.leave(leaver.key, leaver)
            continue
        worker = Worker(lanes, str(number), seen, at_once=at_once)
        entered.append(worker)
        lanes.enter(worker.key, worker)
    for one in entered:
        lanes.leave(one.key, one)
    assert len(lanes) == 0
    for key in "012":
        went = [one for one in seen if one.key == key]
        assert went == [one for one in entered if one.key == key and one in went]
        assert all(one in went or one in gone for one in entered if one.key == key)
