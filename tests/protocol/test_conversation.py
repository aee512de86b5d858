"""The asking side without a socket: ids, who gets which answer, and what ends a conversation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import (
    DisconnectedError,
    EdgedError,
    QueueFullError,
    RemoteProtocolError,
)
from edged.messages import InferResponse
from edged.protocol import asking, greeting, native, prepared_runs
from edged.protocol.asking import Plan
from edged.protocol.conversation import Asked, Conversation, hello_frame
from edged.protocol.frames import Kind, Limits, encode_frame
from edged.protocol.layout import BodyLayout
from edged.tensors import TensorSpec
from tests.fakes.wire import header, joined, pieces_of

Y = np.ones((2, 1))
LAYOUT = BodyLayout([TensorSpec("y", "float64", ("batch", 1))])


def hear(conversation: Conversation, *pieces: bytes) -> None:
    """Feed bytes as a socket would."""
    for piece in pieces:
        view = memoryview(piece)
        while view:
            buffer = conversation.reader.next_buffer()
            count = min(len(view), len(buffer))
            buffer[:count] = view[:count]
            conversation.take(count)
            view = view[count:]


def result(number: int, y: np.ndarray = Y) -> bytes:
    return joined(native.encode_response(number, InferResponse("m", 1, 2, {"y": y})))


def answered(number: int, y: np.ndarray = Y) -> bytes:
    buffers = prepared_runs.encode_answer(
        number, InferResponse("m", 1, 2, {"y": y}), LAYOUT, len(y)
    )
    assert buffers is not None
    return joined(buffers)


class TestConversation:
    def test_answers_find_their_requests_in_any_order(self):
        conversation = Conversation()
        asked = [Asked("m", LAYOUT) for _ in range(4)]
        assert [conversation.add(one) for one in asked] == [1, 2, 3, 4]
        woken: list[int] = []
        asked[0].wake = lambda: woken.append(1)
        hear(conversation, answered(3, Y * 3), result(1), answered(4, Y * 4), result(2, Y * 2))
        for factor, one in enumerate(asked, 1):
            np.testing.assert_array_equal(one.infer_result()["y"], Y * factor)
        assert woken == [1]
        assert not conversation.waiting

    @given(st.lists(st.integers(0, 400), max_size=10))
    @settings(max_examples=30, deadline=None)
    def test_any_cuts(self, cuts: list[int]):
        conversation = Conversation()
        asked = [Asked("m", LAYOUT) for _ in range(3)]
        for one in asked:
            conversation.add(one)
        hear(conversation, *pieces_of(answered(1) + result(2, Y * 2) + answered(3, Y * 3), cuts))
        for factor, one in enumerate(asked, 1):
            np.testing.assert_array_equal(one.infer_result()["y"], Y * factor)

    def test_answers_to_nobody_are_ignored(self):
        conversation = Conversation()
        asked = Asked("m")
        conversation.add(asked)
        hear(conversation, result(9))
        assert not asked.is_done

    def test_the_servers_word_about_the_connection_is_the_error(self):
        conversation = Conversation()
        error = native.encode_error(0, QueueFullError("too many connections"))
        with pytest.raises(QueueFullError, match="too many connections"):
            hear(conversation, joined(error))

    def test_garbage_ends_it_after_the_good_answers(self):
        conversation = Conversation()
        asked = Asked("m")
        conversation.add(asked)
        with pytest.raises(ConnectionError, match="does not start with EDGD"):
            hear(conversation, result(1) + header(magic=b"HTTP"))
        assert asked.infer_result()["y"].shape == (2, 1)

    def test_welcome_says_who_the_server_is(self):
        conversation = Conversation()
        hear(conversation, joined(greeting.encode_welcome("edged/1", Limits(), 5)))
        assert conversation.server == "edged/1"
        hear(conversation, joined(encode_frame(Kind.WELCOME, 0, b"\xc1", [])))

    def test_the_end_fails_what_waits_once(self):
        conversation = Conversation()
        first, second = Asked("m"), Asked("m")
        for one in (first, second):
            conversation.add(one)
        hear(conversation, result(1))
        conversation.opened[Plan(asking.prepare_request("m", None, {}, None, ()))] = None
        error = conversation.end(DisconnectedError("gone"))
        assert conversation.end(QueueFullError("later")) is error is second.error
        assert first.infer_result()
        assert not conversation.opened

    def test_an_answer_frame_to_what_was_not_prepared(self):
        conversation = Conversation()
        asked = Asked("m")
        conversation.add(asked)
        hear(conversation, answered(1))
        with pytest.raises(RemoteProtocolError, match="not prepared"):
            asked.infer_result()

    @given(st.lists(st.binary(max_size=200), max_size=5), st.integers(0, 20))
    @settings(max_examples=100, deadline=None)
    def test_only_our_errors(self, pieces: list[bytes], kind: int):
        conversation = Conversation()
        asked = Asked("m", LAYOUT)
        conversation.add(asked)
        try:
            hear(conversation, header(kind=kind, body=8), b"12345678", *pieces)
        except (EdgedError, ConnectionError):
            return
        if asked.is_done:
            for read in (asked.infer_result, asked.reply, asked.opened):
                with pytest.raises(EdgedError):
                    read()

    def test_hello_names_the_program(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("sys.argv", ["/opt/plc/bridge.py"])
        assert b"bridge.py" in joined(hello_frame())
        assert b"/opt" not in joined(hello_frame())
        monkeypatch.setattr("sys.argv", [""])
        assert b"python" in joined(hello_frame())
