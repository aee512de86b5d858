"""The load generator for HTTP against a server that answers wrongly on purpose."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "benchmarks/http_load.c"
COMPILER = shutil.which("cc")
REQUEST = b"POST /infer HTTP/1.1\r\nContent-Length: 3\r\n\r\nask"
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("load") / "http_load"
    assert COMPILER is not None
    command = [COMPILER, "-O1", "-Wall", "-Wextra", "-Werror", "-o", path, SOURCE, "-lm"]
    subprocess.run(command, check=True)
    return path


class Server:
    """Answers each request in a manner: rightly when it is empty."""

    def __init__(self, listener: socket.socket, manner: str) -> None:
        self.manner, self.connections, self.asked = manner, 0, 0
        self._listener = listener
        listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            try:
                while peer.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST:
                    self.asked += 1
                    for part in self._answer(self.manner):
                        peer.sendall(part)
            except OSError:
                return

    def _answer(self, manner: str) -> list[bytes]:
        status, body = b"200 OK", b'{"data":[1.5],"id":"%d"}' % self.asked
        if manner == "wrong":
            body = b'{"data":[1.6]}'
        if manner == "refuses":
            status = b"503 Busy"
        if manner == "in the head only":  # what is wanted is looked for in the body
            status, body = b'200 "data":[1.5]', b"{}"
        name = b"Content-Length: " if self.asked % 2 else b"content-length:"
        head = b"HTTP/1.1 " + status + b"\r\n" + name + b"%d\r\n\r\n" % len(body)
        return [head + body[:2], body[2:]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator:
    servers = []

    def start(manner: str = "", *, is_port: bool = False) -> tuple[Server, str]:
        listener = socket.socket(socket.AF_INET if is_port else socket.AF_UNIX)
        listener.bind(("127.0.0.1", 0) if is_port else str(tmp_path / "s"))
        servers.append(Server(listener, manner))
        return servers[-1], str(listener.getsockname()[1] if is_port else tmp_path / "s")

    yield start
    for server in servers:
        server.close()


def run(load: Path, folder: Path, place: str, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "request").write_bytes(REQUEST)
    (folder / "wanted").write_bytes(b'"data":[1.5]')
    command = [load, place, folder / "request", folder / "wanted", "0.3", *(more or ("3",))]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("is_port", [False, True], ids=["socket", "port"])
@pytest.mark.parametrize("mode", [("3",), ("3", "300", "7")], ids=["closed", "open"])
def test_right_answers(load: Path, tmp_path: Path, serve, is_port: bool, mode: tuple[str, ...]):
    server, place = serve(is_port=is_port)
    done = run(load, tmp_path, place, *mode)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["errors"] == report["wrong"] == 0
    assert 0 < report["answered"] <= server.asked
    assert 0 < report["p50_us"] <= report["p99_us"]
    assert server.connections == 3


def test_an_open_loop_asks_as_often_as_it_is_told(load: Path, tmp_path: Path, serve):
    server, place = serve()
    # 36 of 0.36 s are due on average; the seed makes the times, and each is asked however late.
    report = json.loads(run(load, tmp_path, place, "3", "100", "7").stdout)
    first = server.asked
    assert 15 < first < 65
    run(load, tmp_path, place, "3", "100", "7")
    assert server.asked == 2 * first
    assert report["answered"] <= first


@pytest.mark.parametrize(
    ("manner", "field"),
    [("wrong", "wrong"), ("in the head only", "wrong"), ("refuses", "errors")],
)
def test_an_answer_that_is_not_the_right_one(load: Path, tmp_path: Path, serve, manner, field):
    _, place = serve(manner)
    done = run(load, tmp_path, place)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report[field] == report["answered"] > 0


def test_nobody_there(load: Path, tmp_path: Path):
    done = run(load, tmp_path, str(tmp_path / "nobody"))
    assert done.returncode == 1
    assert "nobody" in done.stderr
