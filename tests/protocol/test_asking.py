"""The asking side without a socket: ids, who gets which answer, and what ends a conversation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import (
    DisconnectedError,
    EdgedError,
    InvalidRequestError,
    QueueFullError,
    RemoteProtocolError,
    TensorMismatchError,
)
from edged.messages import InferResponse
from edged.protocol import asking, greeting, native, prepared
from edged.protocol.asking import Asked, Conversation, Plan
from edged.protocol.frames import Kind, Limits, encode_frame
from edged.protocol.prepared import BodyLayout
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
    buffers = prepared.encode_answer(number, InferResponse("m", 1, 2, {"y": y}), LAYOUT, len(y))
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
        assert b"bridge.py" in joined(asking.hello_frame())
        assert b"/opt" not in joined(asking.hello_frame())
        monkeypatch.setattr("sys.argv", [""])
        assert b"python" in joined(asking.hello_frame())


class TestLayouts:
    def test_what_a_caller_writes(self):
        request = asking.prepare_request(
            "m", {"no word": ((3, 4), np.uint8)}, {"x": ((None, 64), "float32")}, 3, ["y"]
        )
        assert request.inputs == (
            TensorSpec("no word", "uint8", (3, 4)),
            TensorSpec("x", "float32", ("batch", 64)),
        )
        assert (request.model, request.release, request.outputs) == ("m", 3, ("y",))

    @pytest.mark.parametrize(
        ("layout", "message"),
        [
            ("float32", r"expected \(shape, dtype\)"),
            (((None, 2),), r"expected \(shape, dtype\)"),
            ((5, "int8"), r"expected \(shape, dtype\)"),
            (((None, 2), "flout32"), r"expected \(shape, dtype\)"),
            (((2, None), "int8"), "None for the first axis"),
            (((0, 2), "int8"), "numbers from 1"),
            (((2, -1), "int8"), "numbers from 1"),
            (((2,), "complex64"), "a prepared call carries"),
        ],
        ids=str,
    )
    def test_what_is_no_layout(self, layout: object, message: str):
        with pytest.raises(InvalidRequestError, match=f'"x".*{message}'):
            asking.prepare_request("m", None, {"x": layout}, None, ())

    def test_arrays_by_position(self):
        layouts = {"x": ((None, 2), "int8"), "z": ((), "int64")}
        plan = Plan(asking.prepare_request("m", None, layouts, None, ()))
        x, z = np.ones((3, 2), np.int8), np.int64(5)
        assert list(plan.by_position((x, z))) == ["x", "z"]
        with pytest.raises(InvalidRequestError, match="1 arrays; this call was prepared for x, z"):
            plan.by_position((x,))
        assert plan.frame(1, {"x": x, "z": z}, 0, 9)
        with pytest.raises(InvalidRequestError, match='"x" is a list; expected a NumPy array'):
            plan.frame(1, {"x": [[1, 2]], "z": z}, 0, 9)
        with pytest.raises(TensorMismatchError, match="prepared for"):
            plan.frame(1, {"x": x}, 0, 9)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e30])
def test_a_timeout_that_is_none(seconds: float):
    with pytest.raises(InvalidRequestError, match="timeout"):
        asking.timeout_us(seconds)


def test_timeouts():
    assert [asking.timeout_us(seconds) for seconds in (None, 0, 1e-9, 1.5)] == [0, 1, 1, 1_500_000]
