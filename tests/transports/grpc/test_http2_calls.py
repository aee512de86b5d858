"""Calls of one message: when they are asked, what they are told, and what they may take."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Reply, Status
from edged.protocol.http2_frames import (
    END_HEADERS,
    END_STREAM,
    Reason,
    Type,
    encode,
    encode_reset,
)
from edged.specs import Duration, Size
from tests.fakes.house import LOOPS, eventually
from tests.fakes.http2_house import Caller, House, framed


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "g", LOOPS["uvloop"])
    yield made
    made.stop()
    assert made.trouble == []


@pytest.fixture
def caller(house: House) -> Iterator[Caller]:
    house.start()
    made = Caller(house.path)
    yield made
    made.close()


def status(caller: Caller, number: int) -> int:
    return int(caller.answer(number)[1]["grpc-status"])


class TestAnswers:
    def test_many(self, house: House, caller: Caller) -> None:
        numbers = [caller.ask("/t/echo", b"%d" % at, ("x-a", "b")) for at in range(200)]
        for at, number in enumerate(numbers):
            body, found = caller.answer(number)
            assert body == framed(b"%d" % at)
            assert (found[":status"], found["grpc-status"]) == ("200", "0")
        head = house.service.heads[-1]
        assert (head.path, head.deadline_ns, head.metadata) == ("/t/echo", None, (("x-a", "b"),))
        assert head.origin.startswith("grpc:")

    def test_a_message_in_pieces(self, caller: Caller) -> None:
        number = caller.begin("/t/echo")
        for byte in framed(b"hello"):
            caller.send(encode(Type.DATA, 0, number, bytes([byte])))
        caller.send(encode(Type.DATA, END_STREAM, number))
        assert caller.answer(number)[0] == framed(b"hello")

    def test_a_small_answer_is_one_write(self, caller: Caller) -> None:
        number = caller.ask("/t/echo", b"x" * 1000)
        caller.frames.clear()
        caller.until(lambda f: f.stream == number)
        assert [f.type for f in caller.frames if f.stream == number] == [1, 0, 1]

    @pytest.mark.parametrize(
        ("path", "expected", "text"),
        [
            ("/t/fail", Status.NOT_FOUND, "there is no %C3%A9"),
            ("/t/none", Status.UNIMPLEMENTED, "there is no such method"),
            ("/t/raise", Status.INTERNAL, "the call could not be handled; see the daemon's log"),
        ],
    )
    def test_failures(self, caller: Caller, path: str, expected: Status, text: str) -> None:
        body, found = caller.answer(caller.ask(path, b"x"))
        assert (body, int(found["grpc-status"]), found["grpc-message"]) == (b"", expected, text)

    def test_compressed(self, caller: Caller) -> None:
        number = caller.begin("/t/echo", ("grpc-encoding", "gzip"))
        packed = gzip.compress(b"x" * 5000)
        data = b"\x01" + len(packed).to_bytes(4, "big") + packed
        caller.send(encode(Type.DATA, END_STREAM, number, data))
        assert caller.answer(number)[0] == framed(b"x" * 5000)


class TestWrong:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"", Status.INTERNAL),
            (framed(b"hello")[:-1], Status.INTERNAL),
            (framed(b"a") + framed(b"b"), Status.UNIMPLEMENTED),
            (b"\x07" + framed(b"a")[1:], Status.INTERNAL),
        ],
    )
    def test_bodies(self, caller: Caller, data: bytes, expected: Status) -> None:
        number = caller.begin("/t/echo")
        caller.send(encode(Type.DATA, END_STREAM, number, data))
        assert status(caller, number) == expected
        assert status(caller, caller.ask("/t/echo", b"x")) == 0

    def test_no_message_at_all(self, caller: Caller) -> None:
        number = caller.begin("/t/echo", flags=END_HEADERS | END_STREAM)
        assert status(caller, number) == Status.INTERNAL

    def test_over_the_limit(self, house: House) -> None:
        house.start(max_request=Size(1000))
        caller = Caller(house.path)
        for size, expected in ((1 << 20) + 1001, Status.RESOURCE_EXHAUSTED), (50_000, 0):
            number = caller.begin("/t/echo")
            data = size.to_bytes(5, "big") + bytes(min(size, 50_000))
            caller.send(encode(Type.DATA, END_STREAM, number, data))
            assert status(caller, number) == expected
        caller.close()


class TestTime:
    def test_a_deadline_withdraws(self, house: House, caller: Caller) -> None:
        before = time.monotonic_ns()
        number = caller.ask("/t/held", b"x", ("grpc-timeout", "50m"))
        assert status(caller, number) == Status.DEADLINE_EXCEEDED
        deadline = house.service.heads[-1].deadline_ns
        assert deadline is not None
        assert 0 <= deadline - before - 50_000_000 < 60 * 10**9
        assert house.service.held[0].is_cancelled

    def test_a_deadline_before_the_message(self, caller: Caller) -> None:
        number = caller.begin("/t/echo", ("grpc-timeout", "50m"))
        caller.send(encode(Type.DATA, 0, number, framed(b"hello")[:6]))
        assert status(caller, number) == Status.DEADLINE_EXCEEDED

    def test_a_message_that_does_not_come(self, house: House) -> None:
        house.start(frame_timeout=Duration(100_000_000))
        caller = Caller(house.path)
        number = caller.begin("/t/echo")
        _body, found = caller.answer(number)
        assert int(found["grpc-status"]) == Status.DEADLINE_EXCEEDED
        assert "limits.frame_timeout" in found["grpc-message"]
        assert status(caller, caller.ask("/t/echo", b"x")) == 0
        caller.close()

    def test_a_call_that_takes_its_time_is_left_alone(self, house: House) -> None:
        house.start(frame_timeout=Duration(50_000_000))
        caller = Caller(house.path)
        number = caller.ask("/t/held", b"x")
        late = caller.begin("/t/echo")
        # Two looks have given this one up.
        assert status(caller, late) == Status.DEADLINE_EXCEEDED
        house.call(house.service.held[0].on_reply, Reply([b"done"]))
        assert caller.answer(number)[0] == framed(b"done")
        caller.close()


class TestWithdrawal:
    def test_by_a_reset(self, house: House, caller: Caller) -> None:
        number = caller.ask("/t/held", b"x")
        eventually(lambda: bool(house.service.held))
        caller.send(encode_reset(number, Reason.CANCEL))
        eventually(lambda: house.service.held[0].is_cancelled)
        assert status(caller, caller.ask("/t/echo", b"x")) == 0

    def test_by_going(self, house: House, caller: Caller) -> None:
        caller.ask("/t/held", b"x")
        caller.begin("/t/echo")
        eventually(lambda: len(house.service.held) == 1)
        caller.close()
        eventually(lambda: house.service.held[0].is_cancelled)


class TestRoom:
    def test_long_messages_flow_on(self, house: House, caller: Caller) -> None:
        """More than a window, for which leave is given as soon as it is known."""
        body = bytes(range(256)) * 8000
        number = caller.begin("/t/echo")
        assert self.sent(caller, number, framed(body)) == len(body) + 5
        assert caller.until(lambda f: f.type == Type.DATA and f.stream == number)

    def test_those_together_over_the_room_wait(self, house: House) -> None:
        house.start(max_request=Size(1 << 20))
        caller = Caller(house.path)
        body = framed(bytes(2 << 20))
        numbers = [caller.begin("/t/held") for _ in range(4)]
        for number in numbers:
            caller.send(encode(Type.DATA, 0, number, body[: 200 << 10]))
        granted = set()
        for number in numbers[:2]:
            frame = caller.until(lambda f, n=number: f.type == Type.WINDOW_UPDATE and f.stream == n)
            granted.add(frame.stream)
        caller.send(encode(Type.PING, 0, 0, bytes(8)))
        caller.until(lambda f: f.type == Type.PING)
        assert {f.stream for f in caller.frames if f.type == Type.WINDOW_UPDATE} - {0} == granted
        caller.send(encode_reset(numbers[0], Reason.CANCEL))
        caller.until(lambda f: f.type == Type.WINDOW_UPDATE and f.stream == numbers[2])
        caller.close()

    def test_no_more_calls_while_answers_wait(self, house: House) -> None:
        house.start(max_unread=Size(1 << 20))
        caller = Caller(house.path, INITIAL_WINDOW_SIZE=0)
        numbers: list[int] = []
        for _ in range(7):
            numbers.append(caller.ask("/t/echo", bytes(200 << 10)))
        assert status(caller, numbers[-1]) == Status.RESOURCE_EXHAUSTED
        caller.close()

    @staticmethod
    def sent(caller: Caller, number: int, data: bytes) -> int:
        room, at = 256 << 10, 0
        while at < len(data):
            if not room:
                frame = caller.until(lambda f: f.type == Type.WINDOW_UPDATE and f.stream == number)
                caller.frames.remove(frame)
                room += int.from_bytes(frame.payload, "big")
            size = min(room, 100 << 10, len(data) - at)
            is_last = at + size == len(data)
            piece = data[at : at + size]
            caller.send(encode(Type.DATA, END_STREAM if is_last else 0, number, piece))
            at, room = at + size, room - size
        return at


def test_buffers_are_what_services_get(house: House, caller: Caller) -> None:
    kept: list[Buffer] = []
    house.service.ask = lambda head, message, on_reply: (
        kept.append(message), on_reply(Reply([memoryview(message)]))
    )[1]  # fmt: skip
    assert caller.answer(caller.ask("/t/echo", b"abc"))[0] == framed(b"abc")
    assert bytes(kept[0]) == b"abc"
