"""One gRPC client: its turn, its time, and how its connection ends."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.protocol.grpc_call import Head, Reply, Status
from edged.protocol.grpc_wire import encode_only
from edged.protocol.http2_frames import (
    END_STREAM,
    PREFACE,
    FrameReader,
    Reason,
    Type,
    encode,
    encode_settings,
)
from edged.specs import Duration, Size
from edged.system.patience import Patience
from edged.transports import awake
from edged.transports.grpc import http2_peer
from tests.fakes.house import LOOPS, eventually
from tests.fakes.http2 import whole
from tests.fakes.http2_house import Caller, House, framed


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "g", LOOPS[request.param])
    yield made
    made.stop()
    assert made.trouble == []


def reason(caller: Caller) -> int:
    return int.from_bytes(caller.last_words().payload[4:8], "big")


class TestTurns:
    def test_many_calls_at_once_are_all_answered(self, house: House) -> None:
        house.start()
        caller = Caller(house.path)
        data = b""
        for _ in range(300):
            caller.number += 2
            data += caller.headers("/t/echo")
            data += encode(Type.DATA, END_STREAM, caller.number, framed(b"x"))
        caller.send(data)
        for number in range(1, 600, 2):
            assert caller.answer(number)[0] == framed(b"x")
        caller.close()

    def test_others_have_their_turn(self, house: House) -> None:
        house.start()
        busy, other = Caller(house.path), Caller(house.path)
        for _ in range(300):
            busy.ask("/t/echo", b"x" * 100)
        assert other.answer(other.ask("/t/echo", b"y"))[0] == framed(b"y")
        busy.close()
        other.close()

    def test_answers_of_one_turn_leave_together(self, house: House) -> None:
        house.start()
        caller = Caller(house.path)
        numbers = [caller.ask("/t/held", b"%d" % at) for at in range(10)]
        eventually(lambda: len(house.service.held) == 10)

        def release() -> None:
            for one in house.service.held:
                one.on_reply(Reply([one.message]))

        house.call(release)
        for at, number in enumerate(numbers):
            assert caller.answer(number)[0] == framed(b"%d" % at)
        caller.close()

    def test_what_is_known_is_answered_on_the_spot(self, house: House) -> None:
        house.start()
        house.service.is_quiet = True
        caller = Caller(house.path)
        for number in range(8):
            text = b"%d" % number
            body, trailers = caller.answer(caller.ask("/t/echo", text))
            assert (body, trailers["grpc-status"]) == (framed(text), "0")
        assert house.service.alone == [b"%d" % number for number in range(2, 8)]
        # In between anything else, also in pieces and several at once.
        held = caller.ask("/t/held", b"w")
        eventually(lambda: len(house.service.held) == 1)
        assert caller.answer(caller.ask("/t/echo", b"x"))[0] == framed(b"x")
        assert len(house.service.alone) == 6
        house.call(house.service.held[0].on_reply, Reply([b"v"]))
        assert caller.answer(held)[0] == framed(b"v")
        assert caller.answer(caller.ask("/t/fail", b"y"))[1]["grpc-status"] == "5"
        for _ in range(3):  # the table has changed, and with it what the call's headers look like
            assert caller.answer(caller.ask("/t/echo", b"z"))[0] == framed(b"z")
        assert house.service.alone[6:] == [b"z"] * 2
        caller.close()

    def test_what_cannot_be_answered_on_the_spot_goes_the_long_way(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house.start()
        house.service.is_quiet = True
        caller = Caller(house.path)
        for _ in range(3):
            caller.answer(caller.ask("/t/echo", b"x"))
        broken: list[bytes] = []

        def breaks(_: Head, message: bytes) -> bytes:
            broken.append(message)
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(house.service, "ask_alone", breaks)
            assert caller.answer(caller.ask("/t/echo", b"y"))[0] == framed(b"y")
        assert broken == [b"y"]
        assert caller.answer(caller.ask("/t/echo", b"z"))[0] == framed(b"z")
        assert house.service.alone[-1] == b"z"
        caller.close()

    def test_awake_only_for_one_that_asks_twice_in_a_row(self, house: House) -> None:
        """Where several ask in turn, waiting for one of them keeps the others waiting."""
        house.start()
        waits: list[bool] = []

        class Never(Patience):
            def is_worth_it(self) -> bool:
                waits.append(True)
                return False

        house.server.patience = Never(0)
        callers = [Caller(house.path), Caller(house.path)]
        for caller in callers:
            caller.answer(caller.ask("/t/echo", b"x"))
        house.call(waits.clear)  # behind what the loop did after its last answer
        for caller in callers * 3:
            caller.answer(caller.ask("/t/echo", b"x"))
        assert house.call(list, waits) == []
        callers[1].answer(callers[1].ask("/t/echo", b"x"))
        eventually(lambda: waits == [True])
        for caller in callers:
            caller.close()
        eventually(lambda: house.server.latest is None)

    def test_one_that_takes_its_time_is_watched_for(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Until it asks again, or somebody else does; others are served meanwhile."""
        house.start()
        ends: list[bool] = []

        class Noted(Patience):
            def ended(self, *, in_time: bool) -> None:
                ends.append(in_time)

        monkeypatch.setattr(http2_peer, "read_awake", lambda *_: 0)
        monkeypatch.setattr(awake, "_SHARED_NS", 10**12)  # nobody else wants the core
        house.server.patience = Noted(0)
        house.server.patience.wait_ns = 10**12  # also where there is one core
        first = Caller(house.path)
        for _ in range(2):  # what greets may come by itself: from here on it is watched for
            first.answer(first.ask("/t/echo", b"x"))
        house.call(ends.clear)
        for wanted in ([True], [True, True]):
            first.answer(first.ask("/t/echo", b"x"))
            assert house.call(list, ends) == wanted
        second = Caller(house.path)
        second.answer(second.ask("/t/echo", b"x"))
        assert house.call(list, ends) == [True, True, False]
        second.answer(second.ask("/t/echo", b"x"))
        for caller in (first, second):
            caller.close()
        eventually(lambda: house.server.latest is None)
        eventually(lambda: ends[3:] in ([False], [True, False]))

    def test_a_connection_that_is_turned_away_is_told_so_each_time(self, house: House) -> None:
        house.start()
        house.service.is_quiet = True
        caller = Caller(house.path)
        for _ in range(4):
            assert caller.answer(caller.ask("/t/echo", b"x"))[1]["grpc-status"] == "0"
        (peer,) = house.server.connections
        peer.calls.refusal = encode_only(Reply([], Status.RESOURCE_EXHAUSTED, "too many"))
        assert caller.answer(caller.ask("/t/echo", b"x"))[1]["grpc-status"] == "8"
        caller.close()


class TestEnds:
    def test_another_protocol(self, house: House) -> None:
        house.start()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(house.path))
            sock.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
            data = b""
            while more := sock.recv(65536):
                data += more
        frames = whole(FrameReader(), [data])
        assert frames[-1].type == Type.GOAWAY
        assert b"this is no HTTP/2" in frames[-1].payload

    def test_too_many_connections(self, house: House) -> None:
        house.start(max_connections=1)
        first = Caller(house.path)
        assert first.answer(first.ask("/t/echo", b"x"))
        second = socket.socket(socket.AF_UNIX)
        second.settimeout(10)
        second.connect(str(house.path))
        data = b""
        while more := second.recv(65536):
            data += more
        assert b"listen.max_connections" in data
        assert house.server.refused == 1
        first.close()
        second.close()

    @pytest.mark.hostile("W8 a preface or frame that trickles in")
    def test_a_client_that_says_nothing(self, house: House) -> None:
        house.start(frame_timeout=Duration(50_000_000))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(house.path))
            sock.sendall(PREFACE[:10])
            data = b""
            while more := sock.recv(65536):
                data += more
        assert b"limits.frame_timeout" in data

    @pytest.mark.hostile("W8 a preface or frame that trickles in")
    def test_half_a_frame(self, house: House) -> None:
        house.start(frame_timeout=Duration(50_000_000))
        caller = Caller(house.path)
        caller.send(encode(Type.PING, 0, 0, bytes(8))[:5])
        assert reason(caller) == Reason.ENHANCE_YOUR_CALM
        assert caller.is_closed()

    def test_a_flood_ends_it_and_nobody_else(self, house: House) -> None:
        house.start()
        bad, good = Caller(house.path), Caller(house.path)
        bad.send(encode(Type.PING, 0, 0, bytes(8)) * 1500)
        assert reason(bad) == Reason.ENHANCE_YOUR_CALM
        assert bad.is_closed()
        assert good.answer(good.ask("/t/echo", b"y"))[0] == framed(b"y")
        bad.close()
        good.close()

    def test_one_that_was_forgotten(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http2_peer, "_IDLE_S", 0.05)
        house.start()
        caller = Caller(house.path)
        assert reason(caller) == Reason.NO_ERROR
        assert caller.is_closed()

    def test_the_daemon_stops(self, house: House) -> None:
        house.start()
        idle, busy = Caller(house.path), Caller(house.path)
        number, talk = busy.ask("/t/held", b"x"), busy.begin("/t/talk")
        assert idle.answer(idle.ask("/t/echo", b"x"))
        eventually(lambda: bool(house.service.held and house.service.talks))
        house.call(house.server.close)
        assert reason(idle) == reason(busy) == Reason.NO_ERROR
        assert idle.is_closed()
        assert int(busy.answer(talk)[1]["grpc-status"]) == Status.UNAVAILABLE
        late = busy.ask("/t/echo", b"late")
        house.call(house.service.held[0].on_reply, Reply([b"done"]))
        assert busy.answer(number)[0] == framed(b"done")
        assert busy.is_closed()
        assert not [frame for frame in busy.frames if frame.stream == late]


class TestUnread:
    @pytest.mark.hostile("W7 windows that never open and sockets that are not read")
    def test_windows_that_never_open(self, house: House) -> None:
        house.start(frame_timeout=Duration(50_000_000), stream_wait=Duration(100_000_000))
        caller = Caller(house.path, INITIAL_WINDOW_SIZE=0)
        caller.ask("/t/echo", b"x" * 1000)
        assert caller.is_closed()
        eventually(lambda: not house.server.connections)

    @pytest.mark.hostile("W7 windows that never open and sockets that are not read")
    def test_a_socket_that_is_not_read(self, house: House) -> None:
        house.start(frame_timeout=Duration(50_000_000), stream_wait=Duration(100_000_000))
        caller = Caller(house.path, INITIAL_WINDOW_SIZE=1 << 30)
        caller.send(encode(Type.WINDOW_UPDATE, 0, 0, (1 << 30).to_bytes(4, "big")))
        with contextlib.suppress(OSError):
            for _ in range(10):
                caller.ask("/t/echo", b"x" * 200_000)
        eventually(lambda: not house.server.connections)
        caller.close()

    def test_answers_that_pile_up(self, house: House) -> None:
        """What is answered later, to a client that has stopped to read."""
        house.start(max_unread=Size(1 << 20))
        caller = Caller(house.path, INITIAL_WINDOW_SIZE=1 << 30)
        caller.send(encode(Type.WINDOW_UPDATE, 0, 0, (1 << 30).to_bytes(4, "big")))
        for _ in range(10):
            caller.ask("/t/held", b"x" * 250_000)
        eventually(lambda: len(house.service.held) == 10)
        for one in house.service.held:
            house.call(one.on_reply, Reply([one.message]))
        eventually(lambda: not house.server.connections)
        caller.close()

    def test_one_that_reads_slowly_gets_all(self, house: House) -> None:
        house.start()
        caller = Caller(house.path)
        number = caller.ask("/t/echo", b"x" * 250_000)
        got = 0
        while got < 250_005:
            frame = caller.until(lambda f: f.type == Type.DATA)
            caller.frames.remove(frame)
            got += len(frame.payload)
            size = len(frame.payload).to_bytes(4, "big")
            caller.send(encode(Type.WINDOW_UPDATE, 0, 0, size))
            caller.send(encode(Type.WINDOW_UPDATE, 0, number, size))
        assert caller.answer(number)[1]["grpc-status"] == "0"
        caller.close()


def test_bytes_one_by_one(house: House) -> None:
    house.start()
    caller = Caller(house.path)
    caller.number = 1
    data = caller.headers("/t/echo") + encode(Type.DATA, END_STREAM, 1, framed(b"slow"))
    for at in range(len(data)):
        caller.send(data[at : at + 1])
    assert caller.answer(1)[0] == framed(b"slow")
    caller.send(encode_settings({}))
    caller.close()
