"""How many answers may leave now."""

from __future__ import annotations

from edged.flow import MOST_AHEAD, Flow


def test_answers_are_given_while_there_is_room():
    flow, told = Flow(2, 1.0), []
    flow.on_room = lambda: told.append(flow.left)
    for left in (1, 0):
        assert flow.has_room
        flow.give()
        assert flow.left == left
    assert not flow.has_room
    flow.grant(3)
    assert flow.has_room
    assert told == [3]


def test_a_full_connection_holds_what_the_asker_would_take():
    flow, told = Flow(1, 1.0), []
    flow.on_room = lambda: told.append(flow.left)
    flow.hold()
    flow.grant(1)
    assert not flow.has_room
    assert not told
    flow.release()
    assert told == [2]


def test_room_that_is_not_there_is_not_told():
    flow, told = Flow(1, 1.0), []
    flow.on_room = lambda: told.append(flow.left)
    flow.give()
    flow.hold()
    flow.release()
    assert not told


def test_nobody_can_save_up_more_than_may_be_unread():
    flow = Flow(MOST_AHEAD, 1.0)
    flow.grant(MOST_AHEAD)
    assert flow.left == MOST_AHEAD


def test_an_asker_that_can_say_no_more_takes_all():
    flow, told = Flow(1, 1.0), []
    flow.on_room = lambda: told.append(flow.has_room)
    flow.give()
    flow.free()
    assert told == [True]
    for _ in range(2 * MOST_AHEAD):
        flow.give()
    assert flow.has_room
