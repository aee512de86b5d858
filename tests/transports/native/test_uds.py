"""The Unix socket against real peers, most of them hostile; on asyncio and on uvloop."""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from edged.config.listen import SocketConfig
from edged.errors import ApplyError, EdgedError
from edged.messages import InferRequest, InferResponse
from edged.protocol import greeting, native
from edged.protocol.frames import Frame, Kind, Limits, encode_frame
from edged.specs import Size
from edged.transports.credentials import peer_credentials
from edged.transports.native.uds import UnixServer
from tests.fakes.descriptors import descriptors
from tests.fakes.house import Connect, House, Peer, eventually
from tests.fakes.wire import header, joined

MEBIBYTE = 1 << 20
LIMITS = Limits(body_bytes=1 << 30)
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def infer(number: int, x: np.ndarray = X, timeout_us: int = 0) -> bytes:
    return joined(native.encode_infer(number, InferRequest("m", {"x": x}), timeout_us))


def result(frame: Frame, number: int) -> InferResponse:
    assert frame.request_id == number
    return native.decode_response(frame, "m", LIMITS)


def error(frame: Frame, number: int) -> EdgedError:
    response = result(frame, number)
    assert response.error is not None
    return response.error


def is_served(peer: Peer, number: int = 77) -> bool:
    peer.send(infer(number))
    return bool((result(peer.frame(), number).outputs["x"] == X).all())


class TestTalk:
    def test_an_answer(self, house: House, peer: Connect):
        house.start()
        client = peer()
        client.send(greeting.encode_hello("test"), infer(1))
        welcome = greeting.decode_welcome(client.frame())
        assert welcome.server.startswith("edged/")
        assert (welcome.max_request_bytes, welcome.max_in_flight) == (64 << 20, 1024)
        response = result(client.frame(), 1)
        np.testing.assert_array_equal(response.outputs["x"], X)
        assert (response.release, response.generation) == (7, 3)
        assert house.door.requests[0].origin == f"uds:{os.getuid()}"
        assert (house.server.accepted, house.server.requests) == (1, 1)

    def test_pipelining(self, house: House, peer: Connect):
        house.start()
        client = peer()
        client.send(*[infer(number, X * number) for number in range(1, 301)])
        for number in range(1, 301):
            response = result(client.frame(), number)
            np.testing.assert_array_equal(response.outputs["x"], X * number)

    def test_large_tensors_both_ways(self, house: House, peer: Connect):
        house.start()
        client = peer()
        picture = np.random.default_rng(0).integers(0, 255, (20, 1 << 20), np.uint8)
        client.send(infer(1, picture), infer(2))
        np.testing.assert_array_equal(result(client.frame(), 1).outputs["x"], picture)
        assert result(client.frame(), 2).error is None

    def test_timeout_becomes_a_deadline(self, house: House, peer: Connect):
        house.start()
        client = peer()
        before = time.monotonic_ns()
        client.send(infer(1, timeout_us=5_000_000), infer(2), infer(3, timeout_us=2**62))
        for number in (1, 2, 3):
            result(client.frame(), number)
        deadline = house.door.requests[0].deadline_ns
        assert before + 5 * 10**9 <= deadline <= time.monotonic_ns() + 5 * 10**9
        assert house.door.requests[1].deadline_ns is None

    @pytest.mark.hostile("R6 a feature that is off says so", "R23 routes are an allow list")
    def test_calls(self, house: House, peer: Connect, caplog: pytest.LogCaptureFixture):
        house.start()
        client = peer()
        client.send(native.encode_call(1, "status", {"a": [1, "b"]}))
        assert native.decode_reply(client.frame()) == {"asked": {"a": [1, "b"]}}
        client.send(native.encode_call(2, "fail", {"model": "x"}))
        assert error(client.frame(), 2).message == "no such model"
        client.send(native.encode_call(3, "fail", {}))
        assert error(client.frame(), 3).message == "the call failed; see the daemon's log"
        client.send(native.encode_call(4, "reboot", {}))
        assert error(client.frame(), 4).message == (
            'no call "reboot"; there are: fail, hold, status'
        )
        assert is_served(client)

    def test_half_closed_client_still_gets_its_answers(self, house: House, peer: Connect):
        house.start()
        house.door.is_holding = True
        client = peer()
        client.send(infer(1), infer(2))
        client.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: len(house.door.held) == 2)
        house.call(house.door.release_all)
        assert {client.frame().request_id, client.frame().request_id} == {1, 2}
        assert client.is_closed()

    def test_what_a_client_that_died_has_asked_is_withdrawn(self, house: House, peer: Connect):
        """It was taken for one that reads on, and all that it had in the queue was run."""
        house.start()
        house.door.is_holding = True
        client = peer()
        client.send(infer(1), infer(2))
        eventually(lambda: len(house.door.held) == 2)
        client.socket.close()  # as the kernel does it for a process that was killed
        eventually(lambda: house.door.cancelled == 2)
        eventually(lambda: not house.server.connections)

    def test_a_call_is_done_though_its_client_died(self, house: House, peer: Connect):
        house.start()
        client = peer()
        client.send(native.encode_call(1, "hold", {}))
        eventually(lambda: house.gate is not None)
        (connection,) = house.server.connections
        client.socket.close()
        eventually(lambda: connection._is_ending)
        assert connection._requests.are_calls_under_way
        house.call(house.gate.set)
        eventually(lambda: not house.server.connections)

    def test_half_closed_client_still_gets_its_reply(self, house: House, peer: Connect):
        house.start()
        client = peer()
        client.send(native.encode_call(1, "hold", {}))
        client.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: house.gate is not None)
        house.call(house.gate.set)
        assert native.decode_reply(client.frame()) == "at last"
        assert client.is_closed()

    def test_output_that_the_wire_has_not_is_an_error(self, house: House, peer: Connect):
        house.start()
        house.door.is_holding = True
        client = peer()
        client.send(infer(1))
        eventually(lambda: house.door.held)
        ((_, on_response),) = house.door.held
        house.call(on_response, InferResponse("m", 1, 1, {"y": np.array([1j])}), True)
        assert "dtype" in error(client.frame(), 1).message

    def test_door_that_raises_costs_one_connection(
        self, house: House, peer: Connect, caplog: pytest.LogCaptureFixture
    ):
        house.start()
        client, other = peer(), peer()
        house.door.submit = lambda *_: 1 / 0
        client.send(infer(1))
        assert "see the daemon's log" in error(client.frame(), 0).message
        assert client.is_closed()
        del house.door.submit
        assert is_served(other)
        assert "ZeroDivisionError" in caplog.text

    def test_peer_credentials(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert peer_credentials(ours) == (os.getpid(), os.getuid(), os.getgid())


class TestHostile:
    """SECURITY part 3 A, line by line."""

    @pytest.mark.hostile("A1 connects, says nothing and closes")
    def test_connect_send_nothing_close(self, house: House, peer: Connect):
        """Connect, send nothing, close -> closed quietly, no fd kept."""
        house.start()
        assert is_served(peer())
        before = descriptors()
        for _ in range(50):
            Peer(house.path).close()
        eventually(lambda: house.server.accepted == 51)
        eventually(lambda: len(house.server.connections) == 1)
        eventually(lambda: descriptors() <= before)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (header(head=2**32 - 1), "a head of 4294967295 bytes"),
            (header(body=2**32 - 1), "a body of 4294967295 bytes"),
            (header(body=2**63), "a body of 9223372036854775808 bytes"),
            (header(flags=1), "reserved bits"),
            (header(reserved=2**31), "reserved bits"),
            (header(version=2), "protocol version 2"),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "does not start with EDGD"),
        ],
        ids=["head 2^32-1", "body 2^32-1", "body 2^63", "flags", "reserved", "version", "http"],
    )
    @pytest.mark.hostile("A2 a length field of 2^32-1 or 2^63", "A6 reserved bits that are set")
    def test_bad_stream(self, house: House, peer: Connect, data: bytes, message: str):
        """Length field 2^32-1 or 2^63 -> refused before any allocation, RSS unchanged, connection
        closed with one error frame; reserved flag bits set -> error, not ignored."""
        house.start()
        client, other = peer(), peer()
        assert is_served(other)
        before = psutil.Process().memory_info().rss
        client.send(infer(1), data)
        assert result(client.frame(), 1).error is None, "the frame before it was good"
        assert message in error(client.frame(), 0).message
        assert client.is_closed()
        assert psutil.Process().memory_info().rss - before < 32 << 20
        assert is_served(other)

    @pytest.mark.hostile("A3 a good frame that trickles in")
    def test_one_byte_at_a_time(self, house: House, peer: Connect):
        """A correct frame sent byte by byte -> served; other clients unaffected."""
        house.start()
        client, other = peer(), peer()
        for position, byte in enumerate(infer(1)):
            client.send(bytes([byte]))
            if position % 40 == 0:
                assert is_served(other)
        assert result(client.frame(), 1).error is None

    @pytest.mark.hostile("A4 two and a half frames in one write")
    def test_two_and_a_half_frames_in_one_write(self, house: House, peer: Connect):
        """Two and a half frames in one write -> two answers in order, then wait for the rest."""
        house.start()
        client = peer()
        data = infer(1) + infer(2) + infer(3)
        client.send(data[:-40])
        assert [client.frame().request_id for _ in range(2)] == [1, 2]
        client.send(data[-40:])
        assert client.frame().request_id == 3

    @pytest.mark.parametrize("kind", [0, 4, 5, 7, 9, 11, 15, 19, 21, 24, max(Kind) + 1, 255])
    @pytest.mark.hostile("A5 an unknown kind of frame", "R23 routes are an allow list")
    def test_unknown_message_type(self, house: House, peer: Connect, kind: int):
        """Unknown message type with valid length -> error frame, connection kept."""
        house.start()
        client = peer()
        client.send(header(kind=kind, number=9, head=8, body=8) + bytes(16))
        assert f"unknown kind of frame: {kind}" in error(client.frame(), 9).message
        assert is_served(client)

    @pytest.mark.parametrize(
        "frame",
        [
            encode_frame(Kind.INFER, 9, b"\xc1", []),
            encode_frame(Kind.STEP, 9, b"\xc1", []),
            encode_frame(
                Kind.INFER,
                9,
                b"\x93\xa1m\xc0\x91\x93\xa1x\xa7float32\x92\x00\xcf" + b"\x7f" * 8,
                [],
            ),
            encode_frame(Kind.CALL, 9, b"\x92\xa1m" + b"\x81\xa1a" * 5000 + b"\xc0", []),
            encode_frame(Kind.CALL, 9, b"\x92\xa1m\x81\xa1a\x81\x91\x80\x01", []),
            encode_frame(Kind.HELLO, 9, b"\x91\xc0", []),
            encode_frame(Kind.INFER, 9, b"", [bytes(8 << 10)]),
        ],
        ids=["no msgpack", "a step", "shape 0 and 2^63", "deep", "strange key", "hello", "no head"],
    )
    def test_bad_request_keeps_the_connection(self, house: House, peer: Connect, frame: list):
        house.start()
        client = peer()
        client.send(frame)
        assert error(client.frame(), 9).message
        assert is_served(client)

    @pytest.mark.hostile("A12 a request id that is still in flight")
    def test_same_request_id_twice_in_flight(self, house: House, peer: Connect):
        """Same request id twice in flight -> second refused; answers never mixed."""
        house.start()
        house.door.is_holding = True
        client, other = peer(), peer()
        other.send(infer(5))
        client.send(infer(5), infer(5, X * 2))
        assert "request id 5 is already in flight" in error(client.frame(), 0).message
        assert client.is_closed()
        eventually(lambda: len(house.door.held) == 1)
        house.call(house.door.release_all)
        assert result(other.frame(), 5).error is None, "ids belong to a connection"

    def test_an_id_may_be_used_again_after_its_answer(self, house: House, peer: Connect):
        house.start()
        client = peer()
        assert all(is_served(client, 5) for _ in range(3))

    def test_too_many_in_flight(self, house: House, peer: Connect):
        house.start(max_in_flight=3)
        house.door.is_holding = True
        client = peer()
        client.send(*[infer(number) for number in range(1, 6)])
        for number in (4, 5):
            refused = error(client.frame(), number)
            assert "3 requests of this connection are unanswered" in refused.message
        house.call(house.door.release_all)
        assert {client.frame().request_id for _ in range(3)} == {1, 2, 3}

    @pytest.mark.hostile("A9 requests whose answers are never read")
    def test_client_that_never_reads(self, house: House, peer: Connect):
        """Client that sends requests and never reads -> reading pauses, its output is capped."""
        house.start(max_unread=Size(8 * MEBIBYTE))
        client, other = peer(), peer()
        client.socket.setblocking(False)
        request = infer(1, np.zeros(MEBIBYTE, np.uint8))
        sent = 0
        stuck_since = time.monotonic()
        while time.monotonic() - stuck_since < 0.2 and sent < 64 * MEBIBYTE:
            try:
                at = sent % len(request)
                sent += client.socket.send(request[at:])
                stuck_since = time.monotonic()
            except BlockingIOError:
                assert is_served(other)
        assert sent < 8 * MEBIBYTE, "the daemon went on reading"
        assert is_served(other)
        assert len(house.server.connections) == 2

    @pytest.mark.hostile(
        "A9 requests whose answers are never read", "R36 what waits is capped in bytes"
    )
    def test_answers_of_one_that_never_reads_are_capped(self, house: House, peer: Connect):
        """Client that never reads -> its output is capped, then it is closed."""
        house.start(max_unread=Size(8 * MEBIBYTE))
        house.door.is_holding = True
        client, other = peer(), peer()
        client.send(*[infer(n, np.zeros(MEBIBYTE, np.uint8)) for n in range(1, 21)])
        eventually(lambda: len(house.door.held) == 20)
        house.call(house.door.release_all)
        eventually(lambda: len(house.server.connections) == 1)
        house.door.is_holding = False
        assert is_served(other)

    @pytest.mark.hostile(
        "A10 200 descriptors in one control message",
        "R41 descriptors that nobody asked for are closed",
    )
    def test_200_descriptors_in_one_message(self, house: House, peer: Connect):
        """200 fds in one control message -> fd count back to baseline."""
        house.start()
        client = peer()
        assert is_served(client)
        before = descriptors()
        with Path(os.devnull).open() as null:
            rights = array.array("i", [null.fileno()] * 200)
            request = infer(1)
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            assert client.socket.sendmsg([request], control) == len(request)
        assert result(client.frame(), 1).error is None
        eventually(lambda: descriptors() <= before)

    @pytest.mark.hostile("A13 clients that are killed in mid-request")
    def test_client_killed_in_mid_request(self, house: House, peer: Connect):
        """Client SIGKILLed in mid-request -> no growth in fds; others are served."""
        house.start()
        house.door.is_holding = True
        other = peer()
        script = (
            "import os, socket, sys\n"
            "data = sys.stdin.buffer.read()\n"
            "for i in range(200):\n"
            "    if os.fork() == 0:\n"
            "        s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "        s.sendall(data + data[: (i * 37) % len(data)])\n"
            "        os.kill(os.getpid(), 9)\n"
            "    assert os.WTERMSIG(os.wait()[1]) == 9\n"
        )
        house.door.is_holding = False
        assert is_served(other)
        house.door.is_holding = True
        before = descriptors()
        subprocess.run(
            [sys.executable, "-c", script, str(house.path)], input=infer(1), check=True, timeout=30
        )
        eventually(lambda: house.server.accepted == 201)
        eventually(lambda: house.door.cancelled == 200)
        eventually(lambda: len(house.server.connections) == 1)
        eventually(lambda: descriptors() <= before)
        house.door.is_holding = False
        assert is_served(other)

    @pytest.mark.hostile("A14 ten thousand idle connections")
    def test_too_many_connections(self, house: House, peer: Connect):
        """Idle connections -> cap reached, refused with a reason, existing served."""
        house.start(max_connections=5)
        clients = [peer() for _ in range(5)]
        assert all(is_served(client) for client in clients)
        for _ in range(3):
            late = peer()
            reason = error(late.frame(), 0)
            assert "5 connections are open" in reason.message
            assert "listen.max_connections" in reason.message
            assert late.is_closed()
        assert all(is_served(client) for client in clients)
        clients.pop().close()
        eventually(lambda: len(house.server.connections) == 4)
        assert is_served(peer())
        assert house.server.refused == 3


class TestListener:
    def test_close_ends_connections_after_what_was_written(self, house: House, peer: Connect):
        house.start()
        client = peer()
        client.send(infer(1, np.zeros(1 << 20, np.uint8)))
        eventually(lambda: house.server.requests == 1)
        house.call(house.server.close)
        assert result(client.frame(), 1).error is None
        assert client.is_closed()
        assert not house.path.exists()

    def test_close_listener_keeps_connections(self, house: House, peer: Connect):
        house.start()
        client = peer()
        assert is_served(client)
        house.call(house.server.close_listener)
        assert not house.path.exists()
        with pytest.raises(OSError, match="No such file"):
            Peer(house.path)
        assert is_served(client)

    def test_new_path_is_there_before_the_old_goes(self, house: House, peer: Connect):
        house.start()
        client = peer()
        assert is_served(client)
        old, house.path = house.path, house.path.with_name("t")
        house.run(house.server.apply(house.config()))
        assert house.server.path == str(house.path)
        assert not old.exists()
        assert is_served(peer())
        assert is_served(client), "connections over the old path stay"

    def test_new_path_that_cannot_be_made_changes_nothing(self, house: House, peer: Connect):
        """The old socket still listens."""
        house.start()
        taken = house.path.with_name("taken")
        taken.write_text("not a socket")
        old, house.path = house.path, taken
        with pytest.raises(ApplyError, match="is not a socket"):
            house.run(house.server.apply(house.config()))
        house.path = old
        assert house.server.path == str(old)
        assert is_served(peer())
        assert taken.read_text() == "not a socket"

    def test_mode_and_limits_change_in_place(self, house: House, peer: Connect):
        house.start()
        client = peer()
        assert is_served(client)
        config = house.config(max_in_flight=2)
        socket_config = SocketConfig(path=str(house.path), mode="0600")
        listen = type(config.listen)(socket=socket_config, max_connections=1)
        config = type(config)(listen=listen, limits=config.limits)
        inode = house.path.stat().st_ino
        house.run(house.server.apply(config))
        assert (house.path.stat().st_mode & 0o777, house.path.stat().st_ino) == (0o600, inode)
        assert "1 connections are open" in error(peer().frame(), 0).message
        assert is_served(client)

    def test_passed_socket_is_used_and_left_behind(self, house: House, peer: Connect):
        """The service manager owns the file: it must be there for the next start."""
        passed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        passed.bind(str(house.path))
        passed.listen()
        house.start(passed)
        client = peer()
        assert is_served(client)
        house.run(house.server.apply(house.config()))
        house.call(house.server.close)
        assert client.is_closed()
        assert house.path.exists()

    def test_what_was_answered_leaves_before_the_end(self, house: House, peer: Connect):
        house.start()
        client = peer()
        x = np.zeros((2, 2 * MEBIBYTE), np.float32)
        client.send(infer(1, x))
        eventually(lambda: house.server.requests == 1)
        house.call(house.server.close)
        house.run(house.server.closed(0.02))
        assert house.server.connections, "the client has not read yet; nobody waits for ever"
        assert result(client.frame(), 1).outputs["x"].shape == x.shape
        house.run(house.server.closed(10))
        assert not house.server.connections

    def test_path_is_empty_before_start(self):
        server = UnixServer(None, {})
        assert server.path == ""
        server.close()
