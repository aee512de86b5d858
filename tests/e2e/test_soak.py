"""Long runs: requests through hundreds of reloads, what is left behind, and crashes in a row."""

from __future__ import annotations

import os
import random
import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from edged.client import Client
from edged.errors import EdgedError
from tests.bundles import make_bundle
from tests.e2e.models import slow
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

X = np.ones((1, 4), np.float32)
HEAD = "trust: {require_signatures: false}\nreload: {settle: 10ms, poll: 1s}\n"
FAULTS = (
    "activate.logged",
    "activate.slot",
    "activate.previous",
    "activate.current",
    "good.logged",
    "recover.log",
    "import.staged",
    "import.renamed",
    "import.done",
)


class Pipelining(threading.Thread):
    """A client that keeps several requests on the way.

    Args:
        daemon: whom it asks.
        model: what it asks for.
        window: requests on the way; 0 asks one at a time, each on a connection of its own.
    """

    def __init__(self, daemon: DaemonProcess, model: str, window: int) -> None:
        super().__init__()
        self._daemon_process, self._model, self._window = daemon, model, window
        self._stopped = threading.Event()
        self.failures: list[str] = []
        self.answers = 0

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._daemon_process.client(timeout=30) as client:
                    self._ask(client)
            except EdgedError as exc:
                self.failures.append(f"{type(exc).__name__}: {exc}")

    def _ask(self, client: Client) -> None:
        while not self._stopped.is_set():
            pending = [client.submit(self._model, x=X) for _ in range(self._window or 1)]
            for one in pending:
                one.result()
                self.answers += 1
            if not self._window:
                return

    def finish(self) -> None:
        self._stopped.set()
        self.join(40)
        assert not self.is_alive()
        assert self.failures == []
        assert self.answers > 100


def test_no_request_fails_while_everything_is_changed(tmp_path: Path) -> None:
    """Socket limits, batching, queues, releases, and a model that comes and goes."""
    rng = random.Random(5)
    for release in (1, 2, 3):
        fast = double(factor=release + 1)
        make_bundle(tmp_path / f"m-{release}.edgb", fast, name="m", release=release)
        heavy = slow(300, 4 + release)
        make_bundle(tmp_path / f"s-{release}.edgb", heavy, name="s", release=release)
    make_bundle(tmp_path / "o-1.edgb", double(), name="o", release=1)

    def edit() -> str:
        pick = rng.choice
        other = "  o: {bundle: o-1.edgb}\n" if rng.random() < 0.5 else ""
        return (
            HEAD
            + f"limits: {{max_in_flight: {pick([16, 1024])}, max_request: {pick(['1MiB', '64MiB'])}}}\n"
            + f"models:\n  m:\n    bundle: m-{pick([1, 2, 3])}.edgb\n"
            + f"    batching: {{max_batch: {pick([1, 8, 32])}, max_queue_delay: {pick([0, 2])}ms}}\n"
            + f"    queue: {{max_rows: {pick([64, 1024])}}}\n"
            + f"  s: {{bundle: s-{pick([1, 2, 3])}.edgb, batching: {{max_batch: {pick([1, 4])}}}}}\n"
            + other
        )

    with running(tmp_path, edit()) as daemon:
        before = daemon.status()["generation"]
        wanted = [("m", 8), ("m", 1), ("m", 0), ("s", 4), ("s", 12)]
        callers = [Pipelining(daemon, model, window) for model, window in wanted]
        for caller in callers:
            caller.start()
        # How many saves make a generation depends on how busy the machine is; make bench has the
        # time that one takes.
        edits, until = 0, time.monotonic() + 120
        while edits < 120 or daemon.status()["generation"] - before < 40:
            assert time.monotonic() < until
            daemon.write(edit())
            edits += 1
            time.sleep(0.1)
        for caller in callers:
            caller.finish()
        log = daemon.log.read_text()
    # What makes it fast does not depend on the machine: what is known is only loaded and proven.
    loads = log.count("warming -> ready")
    assert loads > 30, "hardly anything was loaded again"
    assert log.count("passed its trial") == 7, "each release once"
    assert log.count("was measured") < loads / 2, "more than the first time, and when it got faster"


def footprint(daemon: DaemonProcess) -> tuple[int, int, int]:
    """Descriptors, threads and MiB of memory."""
    assert daemon.process is not None
    process = psutil.Process(daemon.process.pid)
    return process.num_fds(), process.num_threads(), process.memory_info().rss >> 20


def test_two_hundred_new_releases_leave_nothing_behind(tmp_path: Path) -> None:
    seen = []
    for release in range(1, 221):
        model = slow(200, 3) if release % 2 else double(factor=release)
        make_bundle(tmp_path / f"m-{release}.edgb", model, name="m", release=release)

    def body(release: int) -> str:
        return HEAD + f"models:\n  m: {{bundle: m-{release}.edgb}}\n"

    with running(tmp_path, body(1)) as daemon, daemon.client() as client:
        for release in range(2, 221):
            daemon.write(body(release))
            wait_for(lambda wanted=release: client.infer("m", x=X).release == wanted, 10, 0.005)
            if release % 20 == 0:
                time.sleep(0.3)  # for the last thread to end
                seen.append(footprint(daemon))
    fds, threads, memory = zip(*seen, strict=True)
    assert max(fds) - fds[0] <= 2, seen
    assert max(threads) - threads[0] <= 2, seen
    assert max(memory) - memory[0] <= 12, seen


def test_ten_thousand_errors_leave_nothing_behind(tmp_path: Path) -> None:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    wrong = [
        ("nobody", X),
        ("m", np.ones((1, 5), np.float32)),
        ("m", np.ones((1, 4), np.int32)),
        ("m@9", X),
    ]
    with running(tmp_path, HEAD + "models:\n  m: {bundle: m-1.edgb}\n") as daemon:

        def make(count: int) -> None:
            with daemon.client() as client:
                for number in range(count):
                    model, x = wrong[number % len(wrong)]
                    with pytest.raises(EdgedError):
                        client.infer(model, x=x)
            for number in range(count // 20):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(daemon.socket))
                    sock.send(os.urandom(1 + number % 40))

        make(1000)
        wait_for(lambda: daemon.status()["socket"]["connections"] == 1)
        before = footprint(daemon)
        make(10_000)
        wait_for(lambda: daemon.status()["socket"]["connections"] == 1)
        after = footprint(daemon)
    assert all(now - then <= more for now, then, more in zip(after, before, (1, 1, 8), strict=True))


@pytest.mark.hostile("G18 killed at each step of activation")
def test_fifty_kills_at_any_moment(tmp_path: Path) -> None:
    """At boot, in a reload, at each labelled step, and with the store gone: it starts and serves."""
    rng = random.Random(9)
    for release in (1, 2):
        model = double(factor=release + 1)
        make_bundle(tmp_path / f"m-{release}.edgb", model, name="m", release=release)
    make_bundle(tmp_path / "s-1.edgb", slow(500, 3), name="s", release=1)

    def body(release: int) -> str:
        return HEAD + f"models:\n  m: {{bundle: m-{release}.edgb}}\n  s: {{bundle: s-1.edgb}}\n"

    daemon = DaemonProcess(tmp_path)
    for number in range(50):
        release = rng.choice([1, 2])
        daemon.write(body(release))
        if rng.random() < 0.2:
            shutil.rmtree(tmp_path / "state/store", ignore_errors=True)
        kill(daemon, body(3 - release), rng, FAULTS[number % len(FAULTS)])
        if number % 5 < 4:
            continue
        daemon.write(body(release))
        daemon.start()
        status = daemon.status()
        with daemon.client() as client:
            result = client.infer("m", x=X)
        daemon.kill()
        assert (result.release, result["y"][0, 0]) == (release, release + 1), daemon.tail()
        assert (status["ready"], status["degradations"]) == (True, {}), daemon.tail()
        assert list((tmp_path / "state/staging").iterdir()) == []


def kill(daemon: DaemonProcess, edit: str, rng: random.Random, fault: str) -> None:
    """Start it, and end it at some moment."""
    way = rng.choice(["boot", "reload", "fault"])
    daemon.start(wait=False, **({"EDGED_FAULT_AT": fault} if way == "fault" else {}))
    process = daemon.process
    assert process is not None
    if way == "boot":
        time.sleep(rng.uniform(0, 0.5))
    else:
        wait_for(lambda: process.poll() is not None or (daemon.socket.exists() and is_up(daemon)))
        daemon.write(edit)
        time.sleep(rng.uniform(0, 0.15))
    if process.poll() is None:
        daemon.kill()


def is_up(daemon: DaemonProcess) -> bool:
    try:
        return daemon.is_up()
    except AssertionError:  # a fault point ended it
        return False
