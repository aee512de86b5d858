"""One client's share of the loop and of time; on asyncio and on uvloop, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import numpy as np
import pytest

from edged.messages import InferRequest, PrepareRequest
from edged.protocol import native, prepared, prepared_runs
from edged.protocol.frames import Kind, Limits
from edged.protocol.layout import BodyLayout
from edged.protocol.prepared_runs import RunHead
from edged.specs import Duration
from edged.tensors import TensorSpec
from edged.transports import awake
from edged.transports.native import peer as native_peer
from tests.fakes.house import Connect, House, Peer, eventually
from tests.fakes.wire import joined

X = np.arange(8, dtype=np.float32).reshape(2, 4)
SPEC = TensorSpec("x", "float32", ("batch", 4))
LAYOUT = BodyLayout([SPEC])


def infer(number: int) -> bytes:
    return joined(native.encode_infer(number, InferRequest("m", {"x": X})))


def run(number: int, x: np.ndarray = X) -> bytes:
    return joined(prepared_runs.encode_run(number, RunHead(1, len(x), 0), LAYOUT, {"x": x}))


def prepare(client: Peer) -> None:
    client.send(prepared.encode_prepare(1, PrepareRequest("m", (SPEC,))))
    head, layout = prepared.decode_prepared(client.frame(), Limits())
    assert (head.handle, head.release, head.generation) == (1, 7, 3)
    assert layout is not None


class TestPrepared:
    def test_answers(self, house: House, peer: Connect):
        house.start()
        client = peer()
        prepare(client)
        client.send(*[run(number, X * number) for number in range(1, 301)])
        for number in range(1, 301):
            frame = client.frame()
            assert (frame.kind, frame.request_id) == (Kind.ANSWER, number)
            outputs = prepared_runs.decode_answer(frame, "m", LAYOUT).outputs
            np.testing.assert_array_equal(outputs["x"], X * number)

    def test_large_and_byte_by_byte(self, house: House, peer: Connect):
        house.start()
        client = peer()
        prepare(client)
        large = np.random.default_rng(0).random((100_000, 4), np.float32)
        for byte in run(1):
            client.send(bytes([byte]))
        client.send(run(2, large), run(3))
        for x in (X, large, X):
            got = prepared_runs.decode_answer(client.frame(), "m", LAYOUT).outputs["x"]
            np.testing.assert_array_equal(got, x)

    def test_handles_belong_to_a_connection(self, house: House, peer: Connect):
        house.start()
        prepare(peer())
        other = peer()
        other.send(run(5))
        error = native.decode_response(other.frame(), "m", Limits()).error
        assert type(error).__name__ == "LayoutChangedError"
        assert "no handle 1 is open on this connection" in error.message


class TestTogether:
    def test_answers_of_one_turn_leave_in_few_writes_and_in_order(
        self, house: House, peer: Connect, monkeypatch: pytest.MonkeyPatch
    ):
        """A large one between them leaves by itself."""
        lengths: list[int] = []
        made = native_peer.Connection.connection_made

        def counted(self: native_peer.Connection, transport: asyncio.Transport) -> None:
            made(self, transport)
            self._transport = Counting(transport, lengths)

        monkeypatch.setattr(native_peer.Connection, "connection_made", counted)
        house.start()
        client = peer()
        prepare(client)
        lengths.clear()
        large = np.ones((20_000, 4), np.float32)
        frames = [run(number, large if number == 30 else X * number) for number in range(1, 61)]
        client.send(b"".join(frames))
        for number in range(1, 61):
            frame = client.frame()
            assert frame.request_id == number
            got = prepared_runs.decode_answer(frame, "m", LAYOUT).outputs["x"]
            np.testing.assert_array_equal(got, large if number == 30 else X * number)
        assert len(lengths) < 20
        assert max(lengths) >= large.nbytes

    def test_what_ends_a_connection_leaves_behind_what_was_answered(
        self, house: House, peer: Connect
    ):
        house.start()
        client = peer()
        prepare(client)
        client.send(run(1) + run(2) + b"no frame at all, but bytes enough for a header")
        assert [client.frame().request_id for _ in range(3)] == [1, 2, 0]
        assert client.socket.recv(1) == b""


class Counting:
    """A transport, and how long each write was."""

    def __init__(self, transport: asyncio.Transport, lengths: list[int]) -> None:
        self._transport = transport
        self._lengths = lengths

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._lengths.append(len(data))
        self._transport.write(data)


class TestCounted:
    def test_every_byte_both_ways(self, house: House, peer: Connect):
        """Also of the requests that are taken the shortest way."""
        house.start()
        client = peer()
        opening = joined(prepared.encode_prepare(1, PrepareRequest("m", (SPEC,))))
        client.send(opening)
        client.frame()
        large = np.ones((50_000, 4), np.float32)
        sent = [run(2), infer(3), run(4), run(5, large), run(6)]
        answered = house.server.sent_bytes
        for data in sent:
            client.send(data)
            client.frame()
        size = len(opening) + sum(map(len, sent))
        assert house.server.received_bytes == size
        # Each answer is as long as its question, but for a few words.
        assert abs(house.server.sent_bytes - answered - sum(map(len, sent))) < 5 * 100
        client.send(b"EDGD" + bytes(60))
        assert client.frame().kind == Kind.ERROR
        assert house.server.received_bytes == size + 64


def turns(house: House) -> list[int]:
    """One number: the turn that the daemon's loop is in, counted until the loop ends."""
    turn = [0]

    def count() -> None:
        turn[0] += 1
        asyncio.get_running_loop().call_soon(count)

    house.call(count)
    return turn


class TestAwake:
    """Who is alone is waited for awake; others have their turn, and nothing else changes."""

    @pytest.fixture(autouse=True)
    def _on_two_cores(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})

    def answers(self, client: Peer, *numbers: int) -> None:
        for number in numbers:
            client.send(run(number, X * number))
            got = prepared_runs.decode_answer(client.frame(), "m", LAYOUT).outputs["x"]
            np.testing.assert_array_equal(got, X * number)

    def test_answers_one_after_another(
        self, house: House, peer: Connect, monkeypatch: pytest.MonkeyPatch
    ):
        reads: list[int] = []
        readv = awake.os.readv

        def noted(fd: int, buffers: tuple) -> int:
            reads.append(readv(fd, buffers))
            return reads[-1]

        monkeypatch.setattr(awake.os, "readv", noted)
        monkeypatch.setattr(native_peer, "AWAKE_NS", 10**9)
        house.start(busy_wait=Duration(1_000_000))
        house.door.is_quiet = True
        client = peer()
        prepare(client)
        self.answers(client, *range(2, 200))
        assert reads, "it went to sleep each time"
        # Anything else that comes while it is awake is handled as ever.
        client.send(run(300), infer(301), run(302)[:50])
        assert {client.frame().request_id, client.frame().request_id} == {300, 301}
        client.send(run(302)[50:])
        assert client.frame().request_id == 302

    def test_others_have_their_turn(self, house: House, peer: Connect):
        house.start(busy_wait=Duration(1_000_000))
        house.door.is_quiet = True
        client, other = peer(), peer()
        prepare(client)
        prepare(other)
        for number in range(2, 40):
            client.send(run(number))
            other.send(run(number))
            assert client.frame().request_id == other.frame().request_id == number

    def test_a_client_that_goes_meanwhile(self, house: House, peer: Connect):
        house.start(busy_wait=Duration(1_000_000))
        house.door.is_quiet = True
        for _ in range(20):
            client = peer()
            prepare(client)
            self.answers(client, 2)
            client.close()
        eventually(lambda: not house.server.connections)

    def test_never_when_the_operator_says_so(
        self, house: House, peer: Connect, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(awake.os, "readv", None)
        house.start(busy_wait=Duration(0))
        house.door.is_quiet = True
        client = peer()
        prepare(client)
        self.answers(client, 2, 3)


class TestTurns:
    def test_a_flood_takes_turns_with_others(self, house: House, peer: Connect):
        """Thousands of requests in one write delay another client by a bounded number of them."""
        house.start(max_in_flight=65536)
        flood, other = peer(), peer()
        seen: list[tuple[int, int]] = []
        turn = turns(house)
        submit = house.door.submit

        def note(request: InferRequest, on_response: object) -> object:
            seen.append((turn[0], int(request.inputs["who"][0])))
            return submit(request, on_response)

        house.door.submit = note

        def ask(number: int, who: int) -> bytes:
            inputs = {"who": np.array([who])}
            return joined(native.encode_infer(number, InferRequest("m", inputs)))

        def start() -> None:
            # Both are in the daemon's socket buffers before the loop looks at either.
            flood.send(*[ask(number, 1) for number in range(1, 1001)])
            other.send(*[ask(number, 2) for number in range(1, 11)])

        house.call(start)
        for client, count in ((other, 10), (flood, 1000)):
            assert [client.frame().request_id for _ in range(count)] == list(range(1, count + 1))
        by_turn: dict[int, int] = {}
        for number, who in seen:
            if who == 1:
                by_turn[number] = by_turn.get(number, 0) + 1
        assert max(by_turn.values()) <= 2 * len(native_peer._TURN), by_turn
        assert len(by_turn) > 7
        last_other = max(index for index, (_, who) in enumerate(seen) if who == 2)
        assert last_other <= 3 * len(native_peer._TURN) + 10, "the flood went first"

    def test_the_rest_of_a_flood_waits_for_a_client_that_does_not_read(
        self, house: House, peer: Connect
    ):
        house.start(max_in_flight=65536)
        client = peer()
        prepare(client)
        rows = np.ones((500, 4), np.float32)
        client.socket.settimeout(0.3)
        sent = 0
        data = b"".join(run(number, rows) for number in range(1, 2001))
        with contextlib.suppress(TimeoutError):
            while sent < len(data):
                sent += client.socket.send(data[sent : sent + 65536])
        assert sent < len(data), "the daemon went on reading"
        client.socket.settimeout(10)
        answered = 0
        client.socket.setblocking(False)
        deadline = time.monotonic() + 60
        while answered < 2000:
            assert time.monotonic() < deadline
            with contextlib.suppress(BlockingIOError):
                sent += client.socket.send(data[sent : sent + 65536])
            try:
                frames = client._reader.feed(client.socket.recv(1 << 20))
            except BlockingIOError:
                continue
            for frame in frames:
                answered += 1
                assert frame.request_id == answered

    def test_half_closed_in_the_middle_of_a_flood(self, house: House, peer: Connect):
        house.start(max_in_flight=65536)
        client = peer()
        prepare(client)
        client.send(*[run(number) for number in range(1, 501)])
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.frame().request_id for _ in range(500)] == list(range(1, 501))
        assert client.is_closed()

    def test_one_call_a_turn(self, house: House, peer: Connect):
        """A question about everything is work: the next one of the same client waits a turn."""
        house.start(max_in_flight=65536)
        turn, seen = turns(house), []

        async def note(_: object) -> int:
            seen.append(turn[0])
            return len(seen)

        house.server.calls["count"] = note
        flood = peer()

        def start() -> None:
            calls = [joined(native.encode_call(n, "count", {})) for n in range(1, 201)]
            flood.send(*calls, infer(201))

        house.call(start)
        assert sorted(flood.frame().request_id for _ in range(201)) == list(range(1, 202))
        assert len(seen) == len(set(seen)) == 200, "several in one turn"


class TestFrameTimeout:
    def test_a_frame_that_is_not_finished(self, house: House, peer: Connect):
        """SECURITY A: a correct frame sent one byte per 50 ms -> served if inside the frame
        deadline, else closed; other clients unaffected."""
        house.start(frame_timeout=Duration(50_000_000))
        client, idle = peer(), peer()
        idle.send(infer(1))
        assert idle.frame().request_id == 1
        client.send(infer(1), infer(2)[:-1])
        assert client.frame().request_id == 1
        error = native.decode_response(client.frame(), "m", Limits()).error
        assert "a frame was not whole after 0.05 s (limits.frame_timeout)" in error.message
        assert client.is_closed()
        idle.send(infer(2))
        assert idle.frame().request_id == 2, "between frames it may be silent"

    def test_a_large_frame_that_is_not_finished(self, house: House, peer: Connect):
        house.start(frame_timeout=Duration(50_000_000))
        client = peer()
        big = joined(native.encode_infer(1, InferRequest("m", {"x": np.zeros(300_000)})))
        client.send(big[:200_000])
        error = native.decode_response(client.frame(), "m", Limits()).error
        assert "was not whole" in error.message
        assert client.is_closed()

    def test_many_frames_that_are_each_in_time_are_served(self, house: House, peer: Connect):
        """The timer that finds another frame on its way than the one it was set for waits anew."""
        house.start()
        client = peer()
        client.send(infer(1)[:-1])
        eventually(lambda: house.server.connections)
        (connection,) = house.server.connections
        eventually(lambda: connection._timer is not None)
        client.send(infer(1)[-1:], infer(2)[:-1])
        assert client.frame().request_id == 1
        house.call(connection._timer.cancel)
        house.call(connection._on_frame_timeout, 0)
        assert connection._timer is not None
        client.send(infer(2)[-1:])
        assert client.frame().request_id == 2
        house.call(connection._timer.cancel)
        house.call(connection._on_frame_timeout, 2)
        assert connection._timer is None, "between frames nothing is timed"
        client.send(infer(3))
        assert client.frame().request_id == 3

    def test_one_timer_only_while_a_frame_is_on_its_way(self, house: House, peer: Connect):
        house.start()
        client = peer()
        client.send(infer(1))
        assert client.frame().request_id == 1
        (connection,) = house.server.connections
        assert connection._timer is None
        client.send(infer(2)[:-1])
        eventually(lambda: connection._timer is not None)
        timer = connection._timer
        client.send(infer(2)[-1:], infer(3)[:-1])
        assert client.frame().request_id == 2
        assert connection._timer is timer
        client.close()
        eventually(lambda: not house.server.connections)
        assert timer.cancelled()


class TestGone:
    def test_a_broken_connection_withdraws(self, house: House, peer: Connect):
        house.start()
        house.door.is_holding = True
        client = peer()
        prepare(client)
        client.send(run(2), infer(3))
        eventually(lambda: len(house.door.held) == 2)
        (connection,) = house.server.connections
        house.call(connection._transport.abort)
        eventually(lambda: house.door.cancelled == 2)
        assert not house.door.held

    def test_cancel(self, house: House, peer: Connect):
        house.start()
        house.door.is_holding = True
        client = peer()
        prepare(client)
        client.send(run(2), infer(3), native.encode_cancel(2))
        error = native.decode_response(client.frame(), "m", Limits()).error
        assert error.code.value == "CANCELLED"
        house.call(house.door.release_all)
        assert client.frame().request_id == 3
