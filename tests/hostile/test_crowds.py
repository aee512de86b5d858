"""Crowds over HTTP: clients that are killed, say nothing, write slowly or read slowly, by the hundred.

``EDGED_CROWD=10000`` makes it ten thousand killed clients and idle connections (``make crowds``).
Those of the native socket are in ``test_socket.py``.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from onnx import helper

from edged.manifest import TensorEntry
from tests.bundles import make_bundle
from tests.e2e.process import wait_for
from tests.fakes.web import Visitor
from tests.hostile.baseline import bounded_peak, process_of, undisturbed
from tests.hostile.test_http import GOOD, INFER, WebDaemon, post
from tests.models import TinyModel, double, onnx_bytes

pytestmark = pytest.mark.slow

CROWD = int(os.environ.get("EDGED_CROWD", "300"))
CAP = 256
"""``listen.http.max_connections``."""
WIDTH = 200_000
"""Of a row, whose answer, 800 kB, no socket's buffer holds."""
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


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDaemon]:
    folder = tmp_path_factory.mktemp("crowd")
    make_bundle(folder / "m.edgb", double(), name="m")
    make_bundle(folder / "w.edgb", wide(), name="w", golden_rows=1)
    made = WebDaemon(folder)
    made.write(
        "trust: {require_signatures: false}\n"
        "limits: {frame_timeout: 500ms, max_request: 4MiB, stream_wait: 1s}\n"
        "models: {m: {bundle: m.edgb}, w: {bundle: w.edgb}}\n"
    )
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.mark.hostile("B15 clients that are killed in mid-request")
@pytest.mark.timeout(600)
def test_killed_in_mid_request(daemon: WebDaemon) -> None:
    command = [sys.executable, "-S", "-c", KILLED, str(daemon.web), str(CROWD)]
    with undisturbed(daemon):
        subprocess.run(command, input=post(GOOD), check=True, timeout=500)
    assert_served(daemon)


@pytest.mark.hostile("B16 ten thousand idle connections")
@pytest.mark.timeout(600)
def test_idle_connections(daemon: WebDaemon) -> None:
    """Those within the cap stay and are served; each further one is told 503."""
    count = max(CROWD, CAP + 100)
    with room_for(count), undisturbed(daemon, 32), bounded_peak(daemon, 64), crowd() as peers:
        peers.connect(daemon, count)
        refused = [sock.recv(4096)[9:12] for sock in peers.sockets[CAP:]]
        assert refused == [b"503"] * (count - CAP)
        peers.sockets[0].sendall(post(GOOD))
        assert peers.sockets[0].recv(4096)[9:12] == b"200"
        peers.close()
        wait_for(lambda: is_served(daemon))


@pytest.mark.hostile("B17 requests that trickle in, and answers that nobody reads")
def test_slow_writers(daemon: WebDaemon) -> None:
    """Each is told 408 at the deadline of a request, however often a byte comes."""
    request = post(GOOD)
    with undisturbed(daemon), crowd() as peers:
        peers.connect(daemon, 100)
        open_ones, at = list(peers.sockets), 0
        for sock in open_ones:
            sock.setblocking(False)
        until = time.monotonic() + 60
        while open_ones and time.monotonic() < until:
            for sock in list(open_ones):
                with contextlib.suppress(OSError):
                    sock.sendall(request[at % len(request) :][:1] if at < 90 else b"")
                with contextlib.suppress(BlockingIOError):
                    if answer := sock.recv(4096):
                        assert answer[9:12] == b"408"
                    open_ones.remove(sock)
            at += 1
            time.sleep(0.02)
        assert not open_ones
    assert_served(daemon)


@pytest.mark.hostile("B17 requests that trickle in, and answers that nobody reads")
def test_slow_readers(daemon: WebDaemon) -> None:
    """Each is closed after ``limits.stream_wait``, its answer cut short."""
    with undisturbed(daemon, 48), bounded_peak(daemon, 256), crowd() as peers:
        quiet = process_of(daemon).num_fds()
        peers.connect(daemon, 20)
        for sock in peers.sockets:
            sock.sendall(large())
        assert_served(daemon)  # beside them
        wait_for(lambda: process_of(daemon).num_fds() <= quiet, 90)
        for sock in peers.sockets:
            got = bytearray()
            with contextlib.suppress(ConnectionResetError):
                while part := sock.recv(1 << 16):
                    got += part
            assert len(got) < 4 * WIDTH, "the whole of it lay somewhere"
    assert_served(daemon)


def wide() -> TinyModel:
    """Gives back a long row."""
    shape = ("batch", WIDTH)
    inputs, outputs = (TensorEntry("x", "float32", shape),), (TensorEntry("y", "float32", shape),)
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return TinyModel(
        "wide",
        onnx_bytes(nodes, inputs, outputs),
        inputs,
        outputs,
        lambda arrays: {"y": arrays["x"]},
        lambda rows: {"x": np.zeros((rows, WIDTH), np.float32)},
    )


def large() -> bytes:
    """A request for one such row, as bytes both ways."""
    text = (
        f'{{"inputs":[{{"name":"x","shape":[1,{WIDTH}],"datatype":"FP32","parameters":'
        f'{{"binary_data_size":{4 * WIDTH}}}}}],"parameters":{{"binary_data_output":true}}}}'
    ).encode()
    headers = f"Inference-Header-Content-Length: {len(text)}\r\n"
    return post(text + bytes(4 * WIDTH), headers).replace(b"/m/infer", b"/w/infer", 1)


class Peers:
    """Connections of clients that mean no good."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def connect(self, daemon: WebDaemon, count: int) -> None:
        """Open so many; blocking, so that each waits while the listener's backlog is full."""
        for _ in range(count):
            sock = socket.socket(socket.AF_UNIX)
            self.sockets.append(sock)
            sock.connect(str(daemon.web))
            sock.settimeout(60)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@contextlib.contextmanager
def crowd() -> Iterator[Peers]:
    """Connections that are closed at the end."""
    peers = Peers()
    try:
        yield peers
    finally:
        peers.close()


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Descriptors enough for so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < count + 500:
        pytest.skip(f"this user may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count + 500, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_served(daemon: WebDaemon) -> bool:
    """Whether an honest client gets a right answer."""
    visitor = Visitor(daemon.web)
    try:
        code, document = visitor.ask("POST", INFER, GOOD)
    finally:
        visitor.close()
    return code == 200 and document["outputs"][0]["data"] == [2, 4, 6, 8]


def assert_served(daemon: WebDaemon) -> None:
    assert is_served(daemon)
