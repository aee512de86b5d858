"""The loop of a real daemon on the core of a client that is alone, and its threads meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged import aio
from edged.client import Client
from edged.clients.placed import Placed
from edged.protocol import memory
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import brightest

SHAPE = (480, 640, 3)
ROOT = Path(__file__).resolve().parents[2]
ALL = frozenset(os.sched_getaffinity(0))
BODY = (
    "trust: {{require_signatures: false}}\n"
    "limits: {{inline_threshold: 1s, share_core: {share_core}}}\n"
    "models:\n  bright: {{bundle: bright-1.edgb}}\n"
)
MORE = "  dull: {bundle: dull-1.edgb, batching: {max_batch: 2}}\n"

pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="a stay needs two cores")


@pytest.fixture
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[DaemonProcess]:
    for name in ("bright", "dull"):
        bundle = tmp_path / f"{name}-1.edgb"
        make_bundle(bundle, brightest(*SHAPE[:2]), name=name, release=1, golden_rows=1)
    body = BODY.format(share_core=getattr(request, "param", "true"))
    # Worth it here, whatever the machine's caches are like and whatever else it does.
    (tmp_path / "sitecustomize.py").write_text(
        "from edged.system.cores import Worth\nWorth._decide = lambda self: True\n"
    )
    with running(tmp_path, body, PYTHONPATH=f"{tmp_path}:{ROOT}") as process:
        yield process
        assert "Traceback" not in process.log.read_text()


def masks(daemon: DaemonProcess) -> tuple[set[int], dict[str, set[int]]]:
    """Where the loop's thread may run, and each of the others."""
    assert daemon.process is not None
    pid = daemon.process.pid
    others = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name != str(pid):
            others[f"{task.name} {(task / 'comm').read_text()}"] = os.sched_getaffinity(
                int(task.name)
            )
    return os.sched_getaffinity(pid), others


def is_staying(daemon: DaemonProcess) -> bool:
    return len(masks(daemon)[0]) == 1


def ask(placed: Placed, number: int) -> None:
    picture = placed.inputs["frame"]
    picture[:] = number % 100
    picture[0, number % 480, number % 640, 1] = 100 + number % 100
    assert placed.run()["y"].tolist() == [100 + number % 100]


def ask_until(daemon: DaemonProcess, placed: Placed, *, is_near: bool) -> None:
    """Ask again and again until the loop stays, or does not."""
    until = time.monotonic() + 60
    number = 0
    while is_staying(daemon) is not is_near:
        number += 1
        ask(placed, number)
        assert time.monotonic() < until


def test_stays_with_a_client_and_its_threads_do_not(daemon: DaemonProcess):
    with (
        daemon.client() as client,
        client.prepare("bright", frame=((1, *SHAPE), "uint8")).place() as near,
    ):
        assert masks(daemon)[0] == ALL
        ask_until(daemon, near, is_near=True)
        # What a reload begins while the loop stays: threads that read, load and run.
        daemon.write(BODY.format(share_core="true") + MORE)
        until = time.monotonic() + 60
        number = 0
        while "dull" not in served(daemon):
            number += 1
            ask(near, number)
            assert time.monotonic() < until
        ask_until(daemon, near, is_near=True)
        _, others = masks(daemon)
        assert others
        assert {name: mask for name, mask in others.items() if mask != ALL} == {}
        assert os.sched_getaffinity(0) == ALL
    wait_for(lambda: not is_staying(daemon))


def served(daemon: DaemonProcess) -> list[str]:
    with daemon.client() as client:
        return [model["name"] for model in client.status()["models"] if model["ready"]]


def test_leaves_when_another_asks(daemon: DaemonProcess):
    frame = np.zeros((1, *SHAPE), np.uint8)
    with daemon.client() as client, daemon.client() as other:
        with client.prepare("bright", frame=((1, *SHAPE), "uint8")).place() as near:
            ask_until(daemon, near, is_near=True)
            assert other.infer("bright", frame=frame)["y"].tolist() == [0]
            assert masks(daemon)[0] == ALL
            # Also when it never says another word.
            ask_until(daemon, near, is_near=True)
        wait_for(lambda: not is_staying(daemon))


def test_stays_with_a_client_of_asyncio_that_stays_nowhere(daemon: DaemonProcess):
    async def go() -> None:
        async with aio.Client(daemon.socket) as client:
            call = await client.prepare("bright", frame=((1, *SHAPE), "uint8"))
            near = await call.place()
            until = time.monotonic() + 60
            while not is_staying(daemon):
                near.inputs["frame"][:] = 7
                assert (await near.run())["y"].tolist() == [7]
                assert os.sched_getaffinity(0) == ALL, "what it begins meanwhile would stay there"
                assert time.monotonic() < until

    asyncio.run(go())
    wait_for(lambda: not is_staying(daemon))


def test_stays_with_a_client_in_c(daemon: DaemonProcess, tmp_path: Path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    words = [compiler, "-O1", "-o", str(tmp_path / "frame"), str(ROOT / "benchmarks" / "frame.c")]
    subprocess.run(words, check=True)
    shape = ",".join(map(str, (1, *SHAPE)))
    words = [str(tmp_path / "frame"), str(daemon.socket), "bright", "frame", shape, "1000000"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as asker:
        try:
            wait_for(lambda: is_staying(daemon))
        finally:
            asker.kill()
    wait_for(lambda: not is_staying(daemon))


@pytest.mark.parametrize("daemon", ["false"], indirect=True)
def test_not_when_the_operator_says_so(daemon: DaemonProcess):
    with (
        daemon.client() as client,
        client.prepare("bright", frame=((1, *SHAPE), "uint8")).place() as near,
    ):
        for number in range(100):
            ask(near, number)
            assert masks(daemon)[0] == ALL


def test_a_core_that_is_none(daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch):
    def encode(_: int) -> list[memoryview | bytes | bytearray]:
        return encode_near(core)

    encode_near = memory.encode_near
    monkeypatch.setattr(memory, "encode_near", encode)
    client: Client
    for core in (-1, 9999, 1 << 63):
        with (
            daemon.client() as client,
            client.prepare("bright", frame=((1, *SHAPE), "uint8")).place() as near,
        ):
            for number in range(100):
                ask(near, number)
                assert masks(daemon)[0] == ALL, core
