"""Several answers on the asking side, without a socket: order, ends, and what is told to the daemon."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import (
    CancelledError,
    DisconnectedError,
    InvalidRequestError,
    QueueFullError,
    RemoteProtocolError,
)
from edged.messages import InferResponse
from edged.protocol import native, streams
from edged.protocol.conversation import Asked, Conversation
from edged.protocol.frames import Buffer
from edged.protocol.stream_asking import Received
from tests.fakes.wire import joined, pieces_of
from tests.protocol.test_conversation import hear


def part(number: int, index: int) -> list[Buffer]:
    return streams.encode_part(number, InferResponse("m", 7, 3, {"y": np.array([index])}), index)


def end(number: int, *values: int) -> list[Buffer]:
    outputs = {"all": np.array(values)} if values else {}
    return native.encode_response(number, InferResponse("m", 7, 3, outputs))


class Asking:
    """A conversation with one stream."""

    def __init__(self, ahead: int = 4) -> None:
        self.conversation = Conversation()
        self.asked = Asked("m")
        self.number = self.conversation.add(self.asked)
        self.received = Received(self.asked, ahead)
        self.conversation.listen(self.asked, self.received)

    def hear(self, *frames: list[Buffer]) -> None:
        hear(self.conversation, *map(joined, frames))

    def read(self) -> list[int]:
        """The places of all answers that are there."""
        found = []
        while self.asked.is_done and not self.received.is_over:
            answer = self.received.take()
            if answer is not None:
                found.append(answer.index)
                assert answer.is_last is self.received.is_over
        return found


def test_answers_are_read_in_order_and_the_end_ends_it():
    asking = Asking()
    asking.hear(part(1, 0), part(1, 1))
    assert asking.read() == [0, 1]
    assert not asking.asked.is_done
    asking.hear(part(1, 2), end(1, 5))
    assert asking.read() == [2, 3]
    assert asking.received.is_over
    assert not asking.conversation.streams


def test_an_end_that_says_nothing_is_no_answer():
    asking = Asking()
    asking.hear(part(1, 0), end(1))
    assert asking.read() == [0]
    assert asking.received.is_over


def test_an_error_comes_after_the_answers_before_it():
    asking = Asking()
    asking.hear(part(1, 0), native.encode_error(1, QueueFullError("full")))
    assert asking.received.take().index == 0
    with pytest.raises(QueueFullError, match="full"):
        asking.received.take()


def test_a_broken_connection_ends_it_after_what_came():
    asking = Asking()
    asking.hear(part(1, 0))
    asking.conversation.end(DisconnectedError("gone"))
    assert asking.received.take().index == 0
    assert asking.asked.is_done
    with pytest.raises(DisconnectedError, match="gone"):
        asking.received.take()


def test_a_connection_that_broke_before_ends_it_at_once():
    conversation = Conversation()
    conversation.end(DisconnectedError("gone"))
    asked = Asked("m")
    conversation.add(asked)
    conversation.listen(asked, Received(asked, 4))
    assert asked.error is not None


def test_what_was_withdrawn_hears_no_more():
    asking = Asking()
    assert asking.conversation.fail_one(asking.asked, CancelledError("enough"))
    assert not asking.conversation.fail_one(asking.asked, CancelledError("enough"))
    asking.hear(part(1, 0), end(1))
    with pytest.raises(CancelledError, match="enough"):
        asking.received.take()


def test_the_daemon_is_told_when_half_of_what_it_may_send_was_read():
    asking, told = Asking(ahead=4), []
    for index in range(5):
        asking.hear(part(1, index))
        asking.read()
        told.append(asking.received.unsaid())
    assert told == [0, 2, 0, 2, 0]
    asking.hear(part(1, 5), end(1))
    asking.read()
    assert asking.received.unsaid() == 0, "nothing more is wanted after the end"


def test_a_place_that_is_not_the_next_is_an_error():
    asking = Asking()
    asking.hear(part(1, 1))
    with pytest.raises(RemoteProtocolError, match="answer 1 came where 0 was expected"):
        asking.received.take()


def test_an_older_daemon_is_told_from_a_mistake():
    asking = Asking()
    asking.hear(native.encode_error(1, InvalidRequestError("unknown kind of frame: 14")))
    with pytest.raises(InvalidRequestError, match="older than stream"):
        asking.received.take()


def test_whoever_waits_is_woken_once_for_what_it_has_not_seen():
    asking, woken = Asking(), []
    asking.asked.wake = lambda: woken.append(1)
    asking.hear(part(1, 0), part(1, 1))
    assert len(woken) == 1
    asking.read()
    asking.hear(part(1, 2))
    assert len(woken) == 2


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_streams_and_requests_share_a_connection(data):
    """Frames of many, in any pieces, some withdrawn on the way: each gets its own, in order."""
    counts = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=4), label="answers of each")
    conversation = Conversation()
    one = Asked("m")
    alone = conversation.add(one)
    open_, frames = {}, [[native.encode_response(alone, InferResponse("m", 1, 1))]]
    for count in counts:
        asked = Asked("m")
        number = conversation.add(asked)
        open_[number] = (asked, Received(asked, 4), count)
        conversation.listen(asked, open_[number][1])
        frames.append([part(number, index) for index in range(count)] + [end(number, count)])
    order = []
    while any(frames):
        place = data.draw(st.sampled_from([i for i, left in enumerate(frames) if left]))
        order.append(frames[place].pop(0))
    raw = b"".join(map(joined, order))
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=6), label="cuts")
    gone = data.draw(st.sets(st.sampled_from(sorted(open_))), label="withdrawn")
    seen = {number: [] for number in open_}
    for piece in pieces_of(raw, cuts):
        hear(conversation, piece)
        for number, (asked, received, count) in open_.items():
            while asked.is_done and not received.is_over:
                if number in gone and len(seen[number]) > count // 2:
                    received.is_over = True
                    conversation.fail_one(asked, CancelledError("enough"))
                    break
                seen[number].append(received.take().index)
    assert one.frame is not None
    assert not conversation.streams
    assert not conversation.waiting
    for number, (_, received, count) in open_.items():
        assert received.is_over
        assert seen[number] == list(range(len(seen[number])))
        assert len(seen[number]) == (count // 2 + 1 if number in gone else count + 1)
