"""What waits, and in which order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edged.resident import Resident
from edged.serving.scheduling.backlog import PATIENCE_NS, Backlog, due_ns
from tests.serving.scheduling.test_scheduler import wait
from tests.test_resident import Memory


def held(*items) -> Backlog:
    backlog = Backlog()
    for item in items:
        backlog.add(item)
    return backlog


def test_without_deadlines_it_is_the_order_of_arrival():
    items = [wait(rows, since=since) for rows, since in ((1, 5), (2, 6), (3, 6))]
    backlog = held(*items)
    assert backlog.items == items
    assert (backlog.rows, backlog.size_bytes) == (6, 96)
    assert backlog.deadline_ns is None
    assert backlog.overdue(2**62) == ()


def test_the_earliest_deadline_is_first():
    late, soon, same = wait(deadline=900), wait(deadline=500), wait(deadline=900)
    backlog = held(late, soon, same)
    assert backlog.items == [soon, late, same]
    assert backlog.deadline_ns == 500
    assert backlog.overdue(899) == (soon,)
    assert backlog.overdue(900) == (soon, late, same)


def test_one_without_a_deadline_is_not_put_off_for_ever():
    patient = wait(since=0)
    before, after = wait(deadline=PATIENCE_NS - 1), wait(deadline=PATIENCE_NS + 1)
    assert held(after, patient, before).items == [before, patient, after]
    assert held(patient, after).deadline_ns == PATIENCE_NS + 1


def test_what_was_taken_out_comes_back_to_its_place():
    first, second, third = wait(since=1), wait(2, since=2), wait(since=3)
    backlog = held(first, second, third)
    backlog.remove((first, second))
    backlog.restore((first, second))
    assert backlog.items == [first, second, third]
    assert backlog.rows == 4
    soon = wait(deadline=7, since=4)
    backlog.add(soon)
    backlog.remove((soon, first))
    backlog.restore((soon, first))
    assert backlog.items == [soon, first, second, third]


ITEMS = st.lists(
    st.builds(
        wait,
        st.integers(1, 9),
        deadline=st.none() | st.integers(0, 2 * PATIENCE_NS),
        since=st.integers(0, 5),
    ),
    max_size=12,
)


def test_what_lies_on_a_device_is_fetched_and_the_rest_left_alone():
    plain, away = wait(), wait()
    x = plain.request.inputs = {"x": np.ones((1, 4), "f4")}
    away.request.inputs = {
        "x": Resident(Memory(np.full((1, 4), 7, "f4")), "cuda:0", np.dtype("f4"), (1, 4))
    }
    held(plain, away).fetch()
    assert plain.request.inputs is x
    np.testing.assert_array_equal(away.request.inputs["x"], np.full((1, 4), 7))
    assert type(away.request.inputs["x"]) is np.ndarray


def test_what_was_lost_with_a_device_waits_no_longer():
    class Gone(Memory):
        def read(self) -> np.ndarray:
            raise RuntimeError("CUDA failure 719")

    plain, away = wait(), wait()
    plain.request.inputs = {"x": np.ones((1, 4), "f4")}
    away.request.inputs = {
        "x": Resident(Gone(np.ones((1, 4), "f4")), "cuda:0", np.dtype("f4"), (1, 4))
    }
    backlog = held(away, plain)
    assert backlog.fetch() == (away,)
    assert (backlog.items, backlog.rows) == ([plain], plain.rows)


@given(ITEMS, st.data())
def test_sums_and_order_hold_whatever_comes_and_goes(items, data):
    items.sort(key=lambda item: item.enqueued_ns)
    backlog, model = Backlog(), []
    for item in items:
        backlog.add(item)
        model.append(item)
        if data.draw(st.booleans()):
            gone = tuple(one for one in backlog.items if data.draw(st.booleans()))
            backlog.remove(gone)
            model = [one for one in model if one not in gone]
            if data.draw(st.booleans()):
                backlog.restore(gone)
                model += gone
    assert sorted(map(id, backlog.items)) == sorted(map(id, model))
    assert backlog.rows == sum(one.rows for one in model)
    assert backlog.size_bytes == sum(one.size_bytes for one in model)
    dues = [due_ns(one) for one in backlog.items]
    if any(one.request.deadline_ns is not None for one in model):
        assert dues == sorted(dues)
    deadlines = [one.request.deadline_ns for one in model if one.request.deadline_ns is not None]
    assert backlog.deadline_ns == min(deadlines, default=None)
    assert {*backlog.clear()} == {*model}
    assert (backlog.rows, backlog.size_bytes, backlog.deadline_ns) == (0, 0, None)
