"""The bare server of overload: whom it lets in, whom it refuses, and in which order it answers."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from benchmarks.overload_floor import ROW_BYTES
from edged.messages import PrepareRequest
from edged.protocol import native, prepared, prepared_runs
from edged.protocol.frames import Frame, Kind, Limits
from edged.tensors import BATCH, TensorSpec

ROOT = Path(__file__).resolve().parents[2]
COMPILER = shutil.which("cc")
ROOM = 16
SERVER = """
import ctypes, sys, threading
from pathlib import Path
from benchmarks.overload_floor import Asked, open_library
lib = open_library(Path(sys.argv[1]), Path(sys.argv[2]), ["upper", "lower"])
threading.Thread(target=lib.floor_serve, daemon=True).start()
print("listening", flush=True)
asked = Asked()
for line in sys.stdin:  # each has one request answered, with what it holds
    lib.floor_take(ctypes.byref(asked))
    lib.floor_answer(ctypes.byref(asked), bytes(asked)[:64], 64)
"""
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


class Floor(NamedTuple):
    path: Path
    orders: IO[str]

    def answer(self, count: int) -> None:
        self.orders.write("now\n" * count)
        self.orders.flush()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert COMPILER is not None
    made = tmp_path_factory.mktemp("floor") / "floor.so"
    source = ROOT / "benchmarks/overload_floor.c"
    command = [COMPILER, "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", made]
    subprocess.run([*command, source, "-lpthread"], check=True)
    return made


@pytest.fixture
def floor(library: Path, tmp_path: Path) -> Iterator[Floor]:
    path = tmp_path / "s"
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, library, path], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "listening\n"
        yield Floor(path, child.stdin)
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def peers() -> Iterator[list[socket.socket]]:
    made = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    yield [*made]
    for sock in made:
        sock.close()


class Asking:
    """A connection of one class."""

    def __init__(self, sock: socket.socket, floor: Floor, model: str) -> None:
        self._sock = sock
        sock.settimeout(60)
        sock.connect(str(floor.path))
        specs = (TensorSpec("x", "float32", (BATCH, 16)),)
        self._send(prepared.encode_prepare(1, PrepareRequest(model, specs)))
        assert self.next() == (Kind.PREPARED, 1, b"")

    def run(self, *ids: int, timeout_us: int = 0) -> None:
        parts = []
        for one in ids:
            head = (1, 1, timeout_us)
            start = prepared_runs.RUN_FRAME.pack(
                prepared_runs.RUN_START, one, prepared_runs.RUN_HEAD_BYTES, 0, ROW_BYTES, *head
            )
            parts.append(start + bytes([one]) * ROW_BYTES)
        self._send(parts)

    def next(self) -> tuple[int, int, bytes]:
        """Kind and id of the next frame, and its body; of an error the code instead."""
        start = self._exactly(32)
        kind, one = start[5], int.from_bytes(start[8:16], "little")
        head = int.from_bytes(start[16:20], "little")
        rest = self._exactly(head + -head % 8 + int.from_bytes(start[24:32], "little"))
        if kind != Kind.ERROR:
            return kind, one, rest[head + -head % 8 :]
        told = native.decode_response(Frame(kind, one, head, start + rest), "m", Limits())
        assert told.error is not None
        return kind, one, told.error.code.value.encode()

    def _send(self, parts: list[bytes | bytearray | memoryview] | list[bytes]) -> None:
        self._sock.sendall(b"".join(map(bytes, parts)))

    def _exactly(self, size: int) -> bytes:
        return self._sock.recv(size, socket.MSG_WAITALL) if size else b""


def test_a_full_line_refuses_and_the_higher_class_is_answered_first(
    floor: Floor, peers: list[socket.socket]
) -> None:
    lower, upper = (Asking(peers.pop(), floor, name) for name in ("lower", "upper"))
    for asking in (lower, upper):
        asking.run(*range(1, ROOM + 4))
        told = [asking.next() for _ in range(3)]
        full = b"RESOURCE_EXHAUSTED"
        assert told == [(Kind.ERROR, ROOM + more, full) for more in (1, 2, 3)]
    floor.answer(ROOM)
    expected = [(Kind.ANSWER, one, bytes([one]) * ROW_BYTES) for one in range(1, ROOM + 1)]
    assert [upper.next() for _ in expected] == expected
    floor.answer(ROOM)
    assert [lower.next() for _ in expected] == expected


def test_who_waited_too_long_is_told_so_in_place_of_an_answer(
    floor: Floor, peers: list[socket.socket]
) -> None:
    asking = Asking(peers[0], floor, "upper")
    asking.run(1, timeout_us=1)
    asking.run(2)
    floor.answer(1)
    assert asking.next() == (Kind.ERROR, 1, b"DEADLINE_EXCEEDED")
    assert asking.next()[:2] == (Kind.ANSWER, 2)
