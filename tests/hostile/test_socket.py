"""Part A of the catalogue against a daemon in a process of its own; the words are in test_uds.py.

Each attack is made often enough that a leak of one descriptor or one frame in each would show.
"""

from __future__ import annotations

import array
import contextlib
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edged.errors import EdgedError
from edged.messages import InferRequest
from edged.protocol import native
from edged.protocol.frames import Kind, Limits, encode_frame
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.house import Peer
from tests.fakes.wire import header, joined
from tests.hostile.baseline import bounded_peak, process_of, undisturbed
from tests.hostile.conftest import BODY

LIMITS = Limits(body_bytes=1 << 30)
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def infer(number: int, x: np.ndarray = X, model: str = "m") -> bytes:
    return joined(native.encode_infer(number, InferRequest(model, {"x": x})))


def heads(shape: list[int]) -> bytes:
    """A request that states this shape and carries eight bytes."""
    head = msgspec.msgpack.encode(["m", None, [["x", "float32", shape]]])
    return joined(encode_frame(Kind.INFER, 1, head, [bytes(8)]))


@contextlib.contextmanager
def connected(daemon: DaemonProcess) -> Iterator[Peer]:
    peer = Peer(daemon.socket)
    peer.socket.settimeout(60)
    try:
        yield peer
    finally:
        peer.close()


def said(peer: Peer, number: int) -> str:
    """The message of the error that is the next answer."""
    frame = peer.frame()
    response = native.decode_response(frame, "m", LIMITS)
    assert (frame.request_id, bool(response.error)) == (number, True), response
    assert response.error is not None
    assert_tells_nothing(response.error)
    return response.error.message


def assert_tells_nothing(error: EdgedError) -> None:
    """R2: an error holds our words and the sender's own; no path, address or trace of ours."""
    found = re.search(
        r"/(?:tmp|home|root|usr|proc|var)/|0x[0-9a-f]{6,}|\.py\b|line \d", error.message
    )
    assert found is None, error.message


def is_answered(peer: Peer, number: int) -> None:
    frame = peer.frame()
    response = native.decode_response(frame, "m", LIMITS)
    assert frame.request_id == number
    assert np.array_equal(response.outputs["y"], X * 2)


@pytest.mark.hostile("A1 connects, says nothing and closes")
def test_says_nothing(daemon: DaemonProcess) -> None:
    with undisturbed(daemon):
        for _ in range(400):
            Peer(daemon.socket).close()


@pytest.mark.hostile("A2 a length field of 2^32-1 or 2^63", "A6 reserved bits that are set")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (header(head=2**32 - 1), "a head of 4294967295 bytes"),
        (header(body=2**32 - 1), "a body of 4294967295 bytes"),
        (header(body=2**63), "a body of 9223372036854775808 bytes"),
        (header(flags=0x8000), "reserved bits"),
        (header(reserved=1), "reserved bits"),
        (os.urandom(64), "does not start with EDGD"),
    ],
    ids=["head", "body 2^32-1", "body 2^63", "flags", "reserved", "noise"],
)
def test_headers(daemon: DaemonProcess, data: bytes, words: str) -> None:
    with undisturbed(daemon), bounded_peak(daemon, 16):
        for _ in range(60):
            with connected(daemon) as peer:
                peer.send(infer(1))
                is_answered(peer, 1)
                peer.send(data)
                assert words in said(peer, 0)
                assert peer.is_closed()


@pytest.mark.hostile("A2 a length field of 2^32-1 or 2^63")
def test_frames_that_are_announced_and_never_sent(daemon: DaemonProcess) -> None:
    """The largest frame that is allowed, a hundred times at once: memory comes with the bytes."""
    with undisturbed(daemon), bounded_peak(daemon, 32), contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(daemon)).send(header(body=64 << 20) + bytes(1000))


@pytest.mark.hostile("A3 a good frame that trickles in")
def test_trickling(daemon: DaemonProcess) -> None:
    with undisturbed(daemon), connected(daemon) as peer:
        for byte in infer(1):
            peer.send(bytes([byte]))
        is_answered(peer, 1)


@pytest.mark.hostile("A4 two and a half frames in one write")
def test_two_and_a_half(daemon: DaemonProcess) -> None:
    with undisturbed(daemon), connected(daemon) as peer:
        for number in range(0, 300, 3):
            data = b"".join(infer(number + more) for more in (1, 2, 3))
            peer.send(data[:-50])
            is_answered(peer, number + 1)
            is_answered(peer, number + 2)
            peer.send(data[-50:])
            is_answered(peer, number + 3)


@pytest.mark.hostile(
    "A5 an unknown kind of frame",
    "A7 a shape of [2^32, 2^32]",
    "A8 rank 255, a negative axis, an axis of zero rows",
    "R2 an error says our words and the client's own values",
)
@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (header(kind=200, head=8, body=8) + bytes(16), "unknown kind of frame: 200"),
        (heads([2**32, 2**32]), r'"x": float32\[4294967296, 4294967296\] needs 7378697629483'),
        (heads([1] * 255), '"x": shape .* at most 8 axes'),
        (heads([-1, 2]), '"x": shape .* none negative'),
        (infer(1, X[:0]), '"x"; got float32.0,4. .an empty axis holds no rows'),
        (infer(1, X.astype(np.int8)), '"x"; got int8'),
        (infer(1, X, "../../etc/passwd"), 'no model "../../etc/passwd"'),
        (infer(1, X, "m\0"), "no model"),
    ],
    ids=["kind", "2^32", "rank", "negative", "zero", "dtype", "path", "NUL"],
)
def test_refused_and_kept(daemon: DaemonProcess, frame: bytes, words: str) -> None:
    with undisturbed(daemon), bounded_peak(daemon, 16), connected(daemon) as peer:
        for _ in range(100):
            peer.send(frame, infer(2))
            assert re.search(words, said(peer, 1))
            is_answered(peer, 2)


@pytest.mark.hostile("A9 requests whose answers are never read")
def test_never_reads(daemon: DaemonProcess) -> None:
    """The daemon stops reading from it; what it holds is bounded and goes with the connection."""
    x = np.ones((1000, 4), np.float32)
    data = memoryview(b"".join(infer(number, x) for number in range(1, 2001)))
    with undisturbed(daemon), bounded_peak(daemon, 64):
        for _ in range(3):
            with connected(daemon) as peer:
                peer.socket.setblocking(False)
                sent, stuck_since = 0, time.monotonic()
                while sent < len(data) and time.monotonic() - stuck_since < 0.3:
                    try:
                        sent += peer.socket.send(data[sent:])
                        stuck_since = time.monotonic()
                    except BlockingIOError:
                        time.sleep(0.001)
                assert 0 < sent < 16 << 20, "the daemon went on reading"


@pytest.mark.hostile("A10 200 descriptors in one control message")
def test_descriptors_that_nobody_asked_for(daemon: DaemonProcess, tmp_path: Path) -> None:
    """The daemon reads with plain recv: the kernel closes what came along before it is installed.

    Files, a pipe, a directory and the sender's own socket; with frames, between frames, inside a
    large one, and behind what the daemon has no time to read.
    """
    reading, writing = os.pipe()
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    kept = process_of(daemon).num_fds()
    with undisturbed(daemon), contextlib.ExitStack() as stack:
        for fd in (reading, writing, folder):
            stack.callback(os.close, fd)
        for _ in range(20):
            with connected(daemon) as peer:
                wanted = [reading, writing, folder, peer.socket.fileno()] * 50
                control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", wanted))]
                large = joined(native.encode_call(2, "no", {"pad": "x" * 30_000}))
                data = infer(1) + large + infer(3)
                for start in range(0, len(data), 9_000):
                    piece = data[start : start + 9_000]
                    assert peer.socket.sendmsg([piece], control) == len(piece)
                is_answered(peer, 1)
                assert "no call" in said(peer, 2)
                is_answered(peer, 3)
                assert process_of(daemon).num_fds() < kept + 100
        with connected(daemon) as peer:
            peer.socket.setblocking(False)
            rights = array.array("i", [reading] * 200)
            with contextlib.suppress(BlockingIOError, OSError):  # ETOOMANYREFS is the sender's
                for number in range(3000):
                    peer.socket.sendmsg(
                        [infer(number, np.ones((500, 4), np.float32))],
                        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)],
                    )
            assert process_of(daemon).num_fds() < kept + 100


@pytest.mark.hostile("A12 a request id that is still in flight")
def test_one_id_many_times(daemon: DaemonProcess) -> None:
    """What comes back under the id belongs to one request; the others are told that it is taken."""
    with undisturbed(daemon):
        for _ in range(50):
            with connected(daemon) as peer:
                peer.send(b"".join(infer(7, X * factor) for factor in range(1, 40)))
                peer.socket.shutdown(socket.SHUT_WR)
                answered, refused = until_the_end(peer)
                assert refused
                assert answered in ([], [1.0])


def until_the_end(peer: Peer) -> tuple[list[float], int]:
    """Which multiples of X were answered, and how many were refused for their id."""
    answered, refused = [], 0
    with contextlib.suppress(AssertionError, ConnectionResetError):  # the end of the connection
        while frame := peer.frame():
            response = native.decode_response(frame, "m", LIMITS)
            if response.error is None:
                answered.append(float(response.outputs["y"][0, 1]) / 2)
            else:
                refused += "already in flight" in response.error.message
    return answered, refused


KILLED = """
import os, socket, sys
data = sys.stdin.buffer.read()
for number in range(int(sys.argv[2])):
    if os.fork() == 0:
        s = socket.socket(socket.AF_UNIX)
        s.connect(sys.argv[1])
        s.sendall(data + data[: (number * 37) % len(data)])
        os.kill(os.getpid(), 9)
    assert os.WTERMSIG(os.wait()[1]) == 9
"""


@pytest.mark.hostile("A13 clients that are killed in mid-request")
@pytest.mark.parametrize(
    "count",
    [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_killed_in_mid_request(daemon: DaemonProcess, count: int) -> None:
    command = [sys.executable, "-S", "-c", KILLED, str(daemon.socket), str(count)]
    with undisturbed(daemon):
        subprocess.run(command, input=infer(1), check=True, timeout=500)


@pytest.mark.hostile("A14 ten thousand idle connections")
@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_idle_connections(daemon: DaemonProcess, count: int) -> None:
    """At most 256 stay; each further one is told why; the neighbour never notices."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < count + 500:
        pytest.skip(f"this user may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count + 500, hard)), hard))
    idle: list[Peer] = []
    try:
        with undisturbed(daemon, 32), bounded_peak(daemon, 48):
            for _ in range(count):
                idle.append(Peer(daemon.socket))
            refused = 0
            for peer in idle[256:]:
                assert "256 connections are open" in said(peer, 0)
                assert peer.is_closed()
                refused += 1
            assert refused == count - 256
            idle[0].send(infer(5))
            is_answered(idle[0], 5)
            for peer in idle:
                peer.close()
            wait_for(lambda: is_served(daemon))
    finally:
        for peer in idle:
            peer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_served(daemon: DaemonProcess) -> bool:
    with contextlib.suppress(EdgedError), daemon.client() as client:
        return bool(client.infer("m", x=X)["y"].any())
    return False


@pytest.mark.hostile("A3 a good frame that trickles in")
def test_frames_that_are_never_finished(daemon: DaemonProcess) -> None:
    """Each connection is told so and closed; what is whole in time was served above."""
    daemon.write(BODY + "limits: {frame_timeout: 200ms}\n")
    wait_for(lambda: closes_the_unfinished(daemon))
    try:
        with undisturbed(daemon), contextlib.ExitStack() as stack:
            peers = [stack.enter_context(connected(daemon)) for _ in range(60)]
            for size, peer in enumerate(peers, start=1):
                peer.send(infer(1)[:size])
            for peer in peers:
                assert "was not whole" in said(peer, 0)
                assert peer.is_closed()
    finally:
        daemon.write(BODY)
        wait_for(lambda: not closes_the_unfinished(daemon))


def closes_the_unfinished(daemon: DaemonProcess) -> bool:
    """Whether the short timeout is in force for a new connection."""
    with connected(daemon) as peer:
        peer.send(infer(1)[:40])
        peer.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            return bool(peer.frame())
    return False


@pytest.mark.hostile("R9 every list of a peer has caps of count and bytes")
def test_a_flood_of_calls(daemon: DaemonProcess) -> None:
    """Thousands of questions in one write: the neighbour is answered in between."""
    calls = b"".join(joined(native.encode_call(n, "status", {})) for n in range(1, 3001))
    with undisturbed(daemon) as neighbour, connected(daemon) as peer:
        started = len(neighbour.times_ms)
        sending = threading.Thread(target=peer.send, args=(calls,))
        sending.start()
        for number in range(1, 3001):
            assert peer.frame().request_id == number
        sending.join(60)
        assert len(neighbour.times_ms) > started + 5
