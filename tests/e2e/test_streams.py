"""Answers for each item from a real daemon: in order, paused, withdrawn, through reloads and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged import aio
from edged.errors import DrainingError, QueueFullError
from edged.messages import InferRequest
from edged.protocol import native, streams
from edged.protocol.frames import Kind
from tests import models
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.house import Peer
from tests.verdicts import check_config

BODY = """\
trust: {require_signatures: false}
models:
  twice: {bundle: twice.edgb}
pipelines:
  lines:
    inputs: {x: "float32[n,4]"}
    steps:
    - {name: line, each: {from: x}}
    - {name: doubled, model: twice, inputs: line}
    - {name: scaled, compute: doubled * FACTOR}
    - {name: all, gather: {from: scaled}}
    - {name: most, compute: max(all)}
    outputs: {y: all, most: most}
    stream: [y]
    max_rows: 20
"""
X = np.arange(2000, dtype=np.float32).reshape(500, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams")
    make_bundle(path / "twice.edgb", models.double(), name="twice")
    return path


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A folder for a daemon of a test's own."""
    (tmp_path / "twice.edgb").write_bytes((folder / "twice.edgb").read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[DaemonProcess]:
    with running(folder, body()) as made:
        yield made


def body(factor: int = 1) -> str:
    return BODY.replace("FACTOR", str(factor))


def line(daemon: DaemonProcess, model: str = "lines") -> dict:
    return next(one for one in daemon.status()["releases"] if one["model"] == model)


def nothing_left(daemon: DaemonProcess) -> None:
    wait_for(lambda: not line(daemon)["in_flight"] and not line(daemon, "twice")["in_flight"])


def test_each_item_is_an_answer(daemon: DaemonProcess):
    before = line(daemon)
    with daemon.client() as client:
        answers = list(client.stream("lines", x=X))
        assert [one.index for one in answers] == list(range(501))
        np.testing.assert_array_equal(np.concatenate([one["y"] for one in answers[:-1]]), X * 2)
        assert answers[-1].is_last
        assert dict(answers[-1]) == {"most": 3998.0}
        whole = client.infer("lines", x=X)
        np.testing.assert_array_equal(whole["y"], X * 2)
        assert [len(one) for one in client.stream("twice", x=X[:1])] == [1]
        found = next(one for one in client.models() if one["name"] == "lines")
        assert found["releases"][0]["stream"] == ["y"]
        text = client.call("metrics")
    after = line(daemon)
    assert after["requests"] - before["requests"] == 2
    assert after["streams"]["answers"] - before["streams"]["answers"] == 500
    assert after["streams"]["first_answer_us"] > 0
    assert 'edged_stream_first_answer_seconds_count{model="lines",release="1"}' in text
    nothing_left(daemon)


def test_the_asyncio_client(daemon: DaemonProcess):
    async def scene() -> None:
        async with aio.Client(daemon.socket) as client:

            async def go(count: int) -> None:
                found = [one async for one in client.stream("lines", x=X[:count], ahead=2)]
                rows = np.concatenate([one["y"] for one in found[:-1]])
                np.testing.assert_array_equal(rows, X[:count] * 2)

            await asyncio.gather(*(go(count) for count in (1, 7, 100, 300)))

    asyncio.run(asyncio.wait_for(scene(), 60))
    nothing_left(daemon)


def test_from_a_terminal(daemon: DaemonProcess):
    done = subprocess.run(
        [sys.executable, "-m", "edged", "infer", "--stream", "--socket", daemon.socket, "lines",
         json.dumps(X[:2].tolist())],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [json.loads(one) for one in done.stdout.splitlines()]
    assert [(one["index"], one["last"]) for one in lines] == [(0, False), (1, False), (2, True)]
    assert lines[1]["outputs"] == {"y": [(X[1] * 2).tolist()]}
    assert lines[2]["outputs"] == {"most": 14.0}


@pytest.mark.hostile("A15 streams that are withdrawn, or whose clients die, in the middle")
def test_who_goes_leaves_nothing_behind(daemon: DaemonProcess):
    program = (
        "import sys, time, numpy as np, edged\n"
        "client = edged.Client(sys.argv[1])\n"
        "streams = [client.stream('lines', x=np.zeros((500, 4), 'f'), ahead=1) for _ in range(2)]\n"
        "print([next(one).index for one in streams], flush=True)\n"
        "time.sleep(600)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(daemon.socket)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "[0, 0]\n"
    assert line(daemon)["in_flight"] == 2
    child.kill()
    child.wait()
    child.stdout.close()
    nothing_left(daemon)
    with daemon.client() as client:
        for answer in client.stream("lines", x=X, ahead=4):
            if answer.index == 10:
                break
        nothing_left(daemon)
    peer = Peer(daemon.socket)
    for number in range(1, 200):
        peer.send(
            streams.encode_stream(number, InferRequest("lines", {"x": X[:2]}), 0, 1),
            native.encode_cancel(number),
        )
    ends = 0
    while ends < 199:
        ends += peer.frame().kind != Kind.PART
    peer.close()
    nothing_left(daemon)


@pytest.mark.hostile("A16 a flood of streams that nobody reads")
def test_a_flood_that_is_not_read_is_bounded(daemon: DaemonProcess):
    """Each keeps a few items; what is over the pipeline's rows is refused, and others are served."""
    with contextlib.closing(Peer(daemon.socket)) as peer, daemon.client() as client:
        for number in range(1, 51):
            peer.send(streams.encode_stream(number, InferRequest("lines", {"x": X}), 0, 1))
        np.testing.assert_array_equal(client.infer("twice", x=X[:9])["y"], X[:9] * 2)
        kinds = [peer.frame().kind for _ in range(50)]
        assert (kinds.count(Kind.PART), kinds.count(Kind.ERROR)) == (20, 30)
        assert line(daemon)["in_flight"] == 20
        with pytest.raises(QueueFullError, match="max_rows"):
            list(client.stream("lines", x=X))
    nothing_left(daemon)


@pytest.mark.slow
def test_a_reload_in_the_middle_leaves_what_was_begun(own: Path):
    with running(own, body()) as daemon, daemon.client() as client:
        stream = client.stream("lines", x=X, ahead=1)
        first = next(stream)
        daemon.write(body(5))
        wait_for(lambda: client.status()["generation"] > first.generation)
        np.testing.assert_array_equal(client.infer("lines", x=X)["y"], X * 10)
        rest = list(stream)
        rows = np.concatenate([first["y"], *(one["y"] for one in rest[:-1])])
        np.testing.assert_array_equal(rows, X * 2)
        nothing_left(daemon)


@pytest.mark.slow
def test_a_stopping_daemon_ends_streams_or_says_so(own: Path):
    with running(own, body()) as daemon, daemon.client(60) as read, daemon.client(60) as unread:
        good, bad = read.stream("lines", x=X, ahead=1), unread.stream("lines", x=X, ahead=1)
        next(good)
        next(bad)
        assert daemon.process is not None
        os.kill(daemon.process.pid, signal.SIGTERM)
        assert len(list(good)) == 500
        assert daemon.process.wait(30) == 0
        with pytest.raises(DrainingError, match="the daemon stops"):
            list(bad)


def test_what_cannot_be_streamed_is_refused_with_its_line(folder: Path, tmp_path: Path):
    file = tmp_path / "edged.yaml"
    file.write_text(body().replace("[y]", "[most]").replace("bundle: ", f"bundle: {folder}/"))
    (problem,), _ = check_config(file, with_files=True)
    where = f'{file}:14:14: pipelines.lines.stream[0]: output "most" is made whole'
    assert problem.startswith(where)
