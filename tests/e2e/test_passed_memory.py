"""Passed memory before a real daemon: the C client, models here and in a worker, and ill will."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.protocol.conversation import ANSWER_LIMITS
from edged.protocol.frames import Kind
from edged.protocol.native import decode_response
from edged.tensors import TensorSpec
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.house import Peer
from tests.fakes.lender import bind, bound, floats, lend, lent, message_of, prepare, run
from tests.models import brightest, double

ROOT = Path(__file__).resolve().parents[2]
FRAME = (480, 640, 3)
WIDE = TensorSpec("x", "float32", ("batch", 4096))
BODY = (
    "trust: {require_signatures: false}\nmodels:\n"
    "  bright: {bundle: bright-1.edgb}\n  wide: {bundle: wide-1.edgb}\n"
    "  far: {bundle: far-1.edgb, isolation: model}\n"
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("m")
    make_bundle(
        folder / "bright-1.edgb", brightest(*FRAME[:2]), name="bright", release=1, golden_rows=1
    )
    for name in ("wide", "far"):
        make_bundle(folder / f"{name}-1.edgb", double(width=4096), name=name, release=1)
    with running(folder, BODY) as process:
        yield process
        assert "Traceback" not in process.log.read_text()


@pytest.fixture
def peer(daemon: DaemonProcess) -> Iterator[Peer]:
    one = Peer(daemon.socket)
    yield one
    one.close()


@pytest.fixture(scope="module")
def frame_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    path = tmp_path_factory.mktemp("c") / "frame"
    words = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(path)]
    subprocess.run([*words, str(ROOT / "benchmarks" / "frame.c")], check=True)
    return path


def memory_of(daemon: DaemonProcess) -> tuple[int, int]:
    """Descriptors and mappings of passed memory that the daemon has."""
    assert daemon.process is not None
    process = Path(f"/proc/{daemon.process.pid}")
    names = ("memfd:edged ", "memfd:frame ")
    maps = (process / "maps").read_text()
    return len(list((process / "fd").iterdir())), sum(maps.count(name) for name in names)


class TestClientInC:
    def ask(self, client: Path, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(client), *map(str, words)], capture_output=True, text=True, timeout=60, check=False
        )

    def test_sends_frames_and_reads_answers(self, daemon: DaemonProcess, frame_client: Path):
        shape = ",".join(map(str, (1, *FRAME)))
        ended = self.ask(frame_client, daemon.socket, "bright", "frame", shape, 30)
        assert ended.returncode == 0, ended.stderr
        times, run_time, answer = ended.stdout.splitlines()
        assert float(times.removeprefix("p50_us ")) > 0
        assert float(run_time.removeprefix("run_us ")) > 0
        assert answer == f"y {255 - 29:02x}"
        # A key goes along, and changes nothing where no release is tried.
        ended = self.ask(frame_client, daemon.socket, "bright", "frame", shape, 30, "press-7")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[2] == answer
        assert self.ask(
            frame_client, daemon.socket, "bright", "frame", shape, 1, "x" * 300
        ).stderr.count("expected 1 to 256")

    def test_says_what_is_wrong(self, daemon: DaemonProcess, frame_client: Path):
        ended = self.ask(frame_client, daemon.socket, "no", "frame", "1,2", 1)
        assert ended.returncode == 2
        assert "NOT_FOUND (ModelNotFoundError)" in ended.stderr
        ended = self.ask(frame_client, daemon.socket, "bright", "frame", "1,2", 1)
        assert "TensorMismatchError" in ended.stderr
        assert self.ask(frame_client, "/nowhere", "m", "x", "1").returncode == 1


class TestModels:
    @pytest.mark.parametrize("model", ["wide", "far"])
    def test_reads_and_writes_regions(self, peer: Peer, model: str):
        region, mine = lent(peer, 1 << 18)
        places = ([(region, 0)], [(region, 1 << 17, 2 * 4096 * 4)])
        handle = bound(bind(peer, prepare(peer, WIDE, model=model), 2, *places))
        question, answer = floats(mine, 8192), floats(mine, 8192, 1 << 17)
        for number in range(1, 30):
            question[:] = number + np.arange(8192) / 8192
            peer.send(run(number, handle, 2))
            frame = peer.frame()
            assert frame.kind == Kind.ANSWER, message_of(frame)
            np.testing.assert_array_equal(answer, question * 2)

    def test_many_at_once(self, peer: Peer):
        """Requests on their way, more than run at once, each from a place of its own."""
        region, mine = lent(peer, 1 << 22)
        first = prepare(peer, WIDE, model="wide")
        step = 4096 * 4
        handles = [
            bound(bind(peer, first, 1, [(region, n * step)], [(region, (n + 64) * step, step)]))
            for n in range(64)
        ]
        for n in range(64):
            floats(mine, 4096, n * step)[:] = n
        for turn in range(5):
            peer.send(
                b"".join(run(turn * 64 + n + 1, handle, 1) for n, handle in enumerate(handles))
            )
            assert {peer.frame().kind for _ in handles} == {Kind.ANSWER}
            for n in range(64):
                found = floats(mine, 4096, (n + 64) * step)
                assert (found == 2 * n).all()
                found[:] = -1


class TestIllWill:
    @pytest.mark.hostile("D3 a region that is cut off while it is read")
    def test_files_that_are_cut_off(self, daemon: DaemonProcess, peer: Peer, tmp_path: Path):
        """Sealed memory cannot be; what can be is refused and never looked at again."""
        region, mine = lent(peer, 1 << 20)
        handle = bound(bind(peer, prepare(peer, WIDE, model="wide"), 1, [(region, 0)]))
        (tmp_path / "file").write_bytes(bytes(1 << 20))
        loose = os.memfd_create("edged", os.MFD_ALLOW_SEALING)
        file = os.open(tmp_path / "file", os.O_RDWR)
        for descriptor in (loose, file):
            os.ftruncate(descriptor, 1 << 20)
            assert decode_response(lend(peer, 1 << 20, [descriptor]), "m", ANSWER_LIMITS).error
            os.ftruncate(descriptor, 0)
            os.close(descriptor)
            peer.send(run(5, handle, 1))
            assert peer.frame().kind == Kind.ANSWER
        assert daemon.is_up()
        del mine

    @pytest.mark.hostile(
        "D4 a region that is let go, or whose client goes, in the middle of a run",
        "D9 a client that ends without a word about its regions",
        "D10 memory that its client rewrites during the run",
    )
    def test_clients_that_are_killed(self, daemon: DaemonProcess):
        """They write to their memory all the while, and go with requests on their way."""
        script = textwrap.dedent("""
            import os, sys, threading
            sys.path.insert(0, sys.argv[2])
            from edged.tensors import TensorSpec
            from tests.fakes.house import Peer
            from tests.fakes.lender import *
            for model in ("wide", "far"):
                peer = Peer(sys.argv[1])
                region, mine = lent(peer, 1 << 20)
                spec = TensorSpec("x", "float32", ("batch", 4096))
                places = ([(region, 0)], [(region, 1 << 19, 4 * 4096 * 4)])
                handle = bound(bind(peer, prepare(peer, spec, model=model), 4, *places))
                peer.send(b"".join(run(n, handle, 4) for n in range(1, 200)))
                for n in range(60):
                    mine[:] = bytes([n]) * (1 << 20)
                peer.frame()
            os.kill(os.getpid(), 9)
        """)
        wait_for(lambda: memory_of(daemon)[1] == 0)  # what earlier tests lent
        before, _ = memory_of(daemon)
        for _ in range(3):
            words = [sys.executable, "-c", script, str(daemon.socket), str(ROOT)]
            ended = subprocess.run(words, capture_output=True, timeout=60, check=False)
            assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        wait_for(lambda: memory_of(daemon)[1] == 0 and memory_of(daemon)[0] <= before)
        with daemon.client() as client:
            result = client.infer("far", x=np.ones((1, 4096), np.float32))
        assert (result["y"] == 2).all()

    def test_a_hole_that_is_punched(self, daemon: DaemonProcess, peer: Peer):
        """The seal against shrinking leaves that; what was there is zero then, and nobody dies."""
        fallocate = shutil.which("fallocate")
        if fallocate is None:
            pytest.skip("there is no program that punches holes")
        descriptor = os.memfd_create("edged", os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, 1 << 20)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        mine = mmap.mmap(descriptor, 1 << 20)
        frame = lend(peer, 1 << 20, [descriptor])
        assert frame.kind == Kind.LENT
        handle = bound(
            bind(peer, prepare(peer, WIDE, model="wide"), 1, [(1, 0)], [(1, 1 << 19, 1 << 14)])
        )
        floats(mine, 4096)[:] = 3
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        subprocess.run([fallocate, "--punch-hole", "-l", str(1 << 20), path], check=True)
        peer.send(run(5, handle, 1))
        assert peer.frame().kind == Kind.ANSWER
        assert not floats(mine, 4096, 1 << 19).any()
        os.close(descriptor)
