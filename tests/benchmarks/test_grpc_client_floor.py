"""The server that says what a gRPC client takes by itself: a real client has its answers from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers.server import free_ports

grpc = pytest.importorskip("grpc")

SOURCE = Path(__file__).resolve().parents[2] / "benchmarks/grpc_client_floor.c"
COMPILER = shutil.which("cc")
ANSWER = bytes(range(256)) * 3
pytestmark = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux", reason="no C compiler here"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("floor")
    assert COMPILER is not None
    program, answer = folder / "grpc_client_floor", folder / "answer"
    command = [COMPILER, "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE]
    subprocess.run(command, check=True)
    answer.write_bytes(ANSWER)
    (port,) = free_ports(1)
    with subprocess.Popen([program, str(port), answer, "100"]) as process:
        yield f"127.0.0.1:{port}"
        process.kill()


@pytest.mark.parametrize("size", [0, 100, 300_000])
def test_every_call_has_the_same_answer(place: str, size: int) -> None:
    """Also where its windows have to be opened again and again."""
    with grpc.insecure_channel(place) as channel:
        ask = channel.unary_unary("/a.B/C")
        for _ in range(20):
            assert ask(bytes(size), timeout=30, wait_for_ready=True) == ANSWER
        waiting = [ask.future(bytes(size), timeout=30) for _ in range(20)]
        assert all(one.result() == ANSWER for one in waiting)


def test_who_goes_is_forgotten(place: str) -> None:
    for _ in range(3):
        with grpc.insecure_channel(place, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            ask = channel.unary_unary("/a.B/C")
            assert ask(b"", timeout=30, wait_for_ready=True) == ANSWER
