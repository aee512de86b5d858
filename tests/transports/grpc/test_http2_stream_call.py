"""Calls of many messages: both sides at their own pace."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Status
from edged.protocol.grpc_wire import MessageReader
from edged.protocol.http2_frames import (
    END_STREAM,
    Reason,
    Type,
    encode,
    encode_reset,
    encode_window,
)
from edged.specs import Duration
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


def test_messages_are_answered_as_they_come(caller: Caller) -> None:
    number = caller.begin("/t/talk")
    for at in range(5):
        caller.send(encode(Type.DATA, 0, number, framed(b"%d" % at)))
        frame = caller.until(lambda f: f.type == Type.DATA)
        assert frame.payload == framed(b"%d" % at)
        caller.frames.remove(frame)
    caller.send(encode(Type.DATA, END_STREAM, number))
    assert caller.answer(number)[1]["grpc-status"] == "0"


def test_many_in_one_frame_and_one_in_many(house: House, caller: Caller) -> None:
    number = caller.begin("/t/talk")
    data = b"".join(framed(b"%d" % at) for at in range(100))
    caller.send(encode(Type.DATA, 0, number, data[:300]))
    caller.send(encode(Type.DATA, END_STREAM, number, data[300:]))
    assert caller.answer(number)[0] == data
    assert house.service.talks[0].said == ["half_close"]


def test_windows_are_given_back(caller: Caller) -> None:
    number = caller.begin("/t/talk")
    room, message = 256 << 10, framed(bytes(50 << 10))
    for _ in range(20):
        while room < len(message):
            frame = caller.until(lambda f: f.type == Type.WINDOW_UPDATE and f.stream == number)
            caller.frames.remove(frame)
            room += int.from_bytes(frame.payload, "big")
        caller.send(encode(Type.DATA, 0, number, message))
        room -= len(message)
        # Read before more is said: else both sides could wait for the other to read.
        got = 0
        while got < len(message):
            frame = caller.until(lambda f: f.type == Type.DATA and f.stream == number)
            caller.frames.remove(frame)
            got += len(frame.payload)
        caller.send(encode_window(0, got) + encode_window(number, got))
    caller.send(encode(Type.DATA, END_STREAM, number))
    assert caller.answer(number)[1]["grpc-status"] == "0"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (framed(b"half")[:6], Status.INTERNAL),
        (b"\x09" + bytes(4), Status.INTERNAL),
        (framed(b"raise"), Status.INTERNAL),
        (b"\x00\xff\xff\xff\xff", Status.RESOURCE_EXHAUSTED),
    ],
)
def test_wrong(house: House, caller: Caller, data: bytes, status: Status) -> None:
    number = caller.begin("/t/talk")
    caller.send(encode(Type.DATA, END_STREAM, number, framed(b"good") + data))
    _body, found = caller.answer(number)
    assert int(found["grpc-status"]) == status
    assert house.service.talks[0].said == ["cancel"]


@pytest.mark.parametrize("how", ["reset", "close", "deadline"])
def test_who_goes_is_told_of_once(house: House, caller: Caller, how: str) -> None:
    headers = [("grpc-timeout", "100m")] if how == "deadline" else []
    number = caller.begin("/t/talk", *headers)
    caller.send(encode(Type.DATA, 0, number, framed(b"x")))
    eventually(lambda: bool(house.service.talks))
    if how == "reset":
        caller.send(encode_reset(number, Reason.CANCEL))
    elif how == "close":
        caller.close()
    else:
        assert int(caller.answer(number)[1]["grpc-status"]) == Status.DEADLINE_EXCEEDED
    talk = house.service.talks[0]
    eventually(lambda: talk.said == ["cancel"])
    house.call(talk.outgoing.send, [b"nobody hears"])
    assert talk.said == ["cancel"]


def test_answers_that_are_not_read_hold(house: House, caller: Caller) -> None:
    number = caller.begin("/t/talk")
    message = framed(bytes(70 << 10))
    caller.send(encode(Type.DATA, 0, number, message) + encode(Type.DATA, 0, number, message))
    eventually(lambda: house.service.talks[0].said == ["hold"] if house.service.talks else False)
    caller.send(encode_window(0, 1 << 20) + encode_window(number, 1 << 20))
    eventually(lambda: house.service.talks[0].said == ["hold", "release"])


def test_messages_wait_while_paused(house: House, caller: Caller) -> None:
    number = caller.begin("/t/pausing")
    for at in range(3):
        caller.send(encode(Type.DATA, 0, number, framed(b"%d" % at)))
    caller.send(encode(Type.DATA, END_STREAM, number) + encode(Type.PING, 0, 0, bytes(8)))
    caller.until(lambda f: f.type == Type.PING)
    [talk] = house.service.talks
    for at in range(3):
        assert talk.messages == [b"%d" % one for one in range(at + 1)]
        assert talk.said == []
        house.call(talk.outgoing.resume_reading)
    assert talk.said == ["half_close"]
    assert caller.answer(number)[1]["grpc-status"] == "0"


def test_what_waits_is_not_unpacked(
    house: House, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message of 64 kB that waited for the one before was kept as 64 MiB."""
    unpacked: list[int] = []
    whole = MessageReader.unpacked

    def counted(reader: MessageReader, message: Buffer) -> Buffer:
        unpacked.append(len(message))
        return whole(reader, message)

    monkeypatch.setattr(MessageReader, "unpacked", counted)
    number = caller.begin("/t/pausing", ("grpc-encoding", "gzip"))
    packed = [gzip.compress(b"%d" % at) for at in range(2)] + [b"no gzip"]
    messages = b"".join(b"\1" + len(one).to_bytes(4, "big") + one for one in packed)
    caller.send(encode(Type.DATA, 0, number, messages) + encode(Type.PING, 0, 0, bytes(8)))
    caller.until(lambda f: f.type == Type.PING)
    [talk] = house.service.talks
    for at in range(2):
        assert talk.messages == [b"%d" % one for one in range(at + 1)]
        assert len(unpacked) == at + 1
        house.call(talk.outgoing.resume_reading)
    assert talk.said == ["cancel"]
    assert int(caller.answer(number)[1]["grpc-status"]) == Status.INTERNAL


def test_half_a_message_is_given_up(house: House) -> None:
    house.start(frame_timeout=Duration(100_000_000))
    caller = Caller(house.path)
    idle, half = caller.begin("/t/talk"), caller.begin("/t/talk")
    caller.send(encode(Type.DATA, 0, half, framed(b"half")[:6]))
    assert int(caller.answer(half)[1]["grpc-status"]) == Status.DEADLINE_EXCEEDED
    caller.send(encode(Type.DATA, END_STREAM, idle, framed(b"late")))
    assert caller.answer(idle)[0] == framed(b"late")
    caller.close()
