"""The load generator against a server that answers wrongly on purpose: it must notice."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.protocol.frames import HEADER, Frame, FrameReader, Kind, Limits, encode_frame

SOURCE = Path(__file__).resolve().parents[2] / "benchmarks/load.c"
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("load") / "load"
    assert COMPILER is not None
    command = [COMPILER, "-O1", "-Wall", "-Wextra", "-Werror", "-o", path, SOURCE, "-lm"]
    subprocess.run(command, check=True)
    return path


class Server:
    """Answers each INFER with the float it holds, doubled, or as ``manner`` says."""

    def __init__(self, path: Path, manner: str) -> None:
        self.manner = manner
        self.helloes = 0
        self.connections = 0
        self._count = 0
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
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
        reader = FrameReader(Limits())
        with peer:
            while data := peer.recv(1 << 16):
                frames = reader.feed(data)
                if self.manner == "other order":
                    frames = frames[::-1]
                try:
                    for frame in frames:
                        for buffer in self._answer(frame):
                            peer.sendall(buffer)
                except OSError:
                    return

    def _answer(self, frame: Frame) -> list[bytes]:
        if frame.kind == Kind.HELLO:
            self.helloes += 1
            return encode_frame(Kind.WELCOME, 0, b"", [])
        self._count += 1
        (value,) = struct.unpack_from("<f", frame.body)
        body, kind, request_id = struct.pack("<f4x", value * 2), Kind.RESULT, frame.request_id
        if self._count == 20:
            if self.manner == "wrong number":
                body = struct.pack("<f4x", value * 2 + 1)
            elif self.manner == "other request":
                request_id += 1 << 40
            elif self.manner == "silent":
                return []
            elif self.manner == "refuses":
                kind = Kind.ERROR
        if self.manner == "busy" and self._count % 4:
            words = (b"", b"xRESOURCE_EXHAUSTEDx", b"xDEADLINE_EXCEEDEDx", b"xxx")
            if self._count % 4 < 3:
                return encode_frame(Kind.ERROR, request_id, words[self._count % 4], [])
            time.sleep(0.03)
        return encode_frame(kind, request_id, b"head", [body])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    values = [1.0, 2.5, -3.0]
    frames = [encode_frame(Kind.INFER, 1, b"xyz", [struct.pack("<f4x", v)]) for v in values]
    (tmp_path / "requests").write_bytes(b"".join(b"".join(map(bytes, f)) for f in frames))
    answers = [struct.pack("<IIf", 0, 1, value * 2) for value in values]
    (tmp_path / "answers").write_bytes(b"".join(answers))
    (tmp_path / "setup").write_bytes(HEADER.pack(b"EDGD", 1, Kind.HELLO, 0, 0, 0, 0, 0))
    return tmp_path


@pytest.fixture
def serve(files: Path) -> Iterator:
    servers = []

    def start(manner: str) -> Server:
        servers.append(Server(files / "s", manner))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def run(load: Path, files: Path, *more: str) -> subprocess.CompletedProcess[str]:
    names = {"socket": "s", "requests": "requests", "answers": "answers", "setup": "setup"}
    words = [word for name, file in names.items() for word in (f"--{name}", str(files / file))]
    return subprocess.run(
        [load, *words, "--seconds", "0.3", "--warmup", "0", *more],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("manner", ["right", "other order"])
@pytest.mark.parametrize("mode", [("--depth", "8"), ("--rate", "300"), ()])
def test_right_answers_in_any_order(load: Path, files: Path, serve, manner: str, mode: tuple):
    server = serve(manner)
    done = run(load, files, "--connections", "3", *mode)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["answered"] > 0
    assert report["errors"] == report["wrong"] == report["lost"] == 0
    assert 0 < report["p50_us"] <= report["p99_us"] <= report["max_us"] * 1.01
    assert server.connections == server.helloes == 3


@pytest.mark.parametrize(
    ("manner", "field"), [("wrong number", "wrong"), ("other request", "wrong")]
)
def test_an_answer_that_is_not_the_requests_own(load: Path, files: Path, serve, manner, field):
    serve(manner)
    done = run(load, files, "--depth", "4")
    assert done.returncode == 3
    assert json.loads(done.stdout)[field] >= 1


@pytest.mark.slow
def test_an_answer_that_never_comes_is_lost(load: Path, files: Path, serve):
    serve("silent")
    done = run(load, files, "--depth", "4")
    assert done.returncode == 3
    assert json.loads(done.stdout)["lost"] == 1


def test_a_refusal_is_counted_and_shown(load: Path, files: Path, serve):
    serve("refuses")
    done = run(load, files, "--depth", "4")
    assert json.loads(done.stdout)["errors"] == 1
    assert "refused" in done.stderr


def test_the_trace_has_each_request(load: Path, files: Path, serve):
    serve("right")
    done = run(load, files, "--trace", str(files / "trace"))
    pairs = list(struct.iter_unpack("<QQ", (files / "trace").read_bytes()))
    assert len(pairs) == json.loads(done.stdout)["answered"]
    assert all(0 < taken < 10**10 for _, taken in pairs)


def test_with_a_deadline_what_became_of_each_is_counted(load: Path, files: Path, serve):
    serve("busy")
    done = run(load, files, "--rate", "100", "--depth", "64", "--deadline", "20000")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert min(report[name] for name in ("late", "expired", "refused")) > 0
    assert report["errors"] == 0, "refusals are none"
    assert "load: refused" not in done.stderr


def test_without_one_they_are_errors(load: Path, files: Path, serve):
    serve("busy")
    report = json.loads(run(load, files, "--rate", "100", "--depth", "64").stdout)
    assert report["errors"] > 0
    assert report["refused"] == report["expired"] == report["in_time"] == 0
