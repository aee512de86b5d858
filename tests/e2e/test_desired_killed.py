"""SIGKILL in each step of a document's way: afterwards the old or the new, and the answer is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.config.documents import read_state
from edged.faults import EXIT_STATUS, VARIABLE
from edged.generation.history import History, Order
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.broker import Mosquitto
from tests.fakes.fleet import Fleet
from tests.models import double

pytestmark = [pytest.mark.broker, pytest.mark.slow]

X = np.ones((1, 4), np.float32)
NEW = "models:\n  n: {bundle: n-1.edgb}\n"
STEPS = (
    "desired.before", "desired.written", "desired.begun", "reload.built", "reload.numbered",
    "history.renamed", "desired.applied", "desired.taken", "desired.decided",
)  # fmt: skip


@pytest.fixture
def box(tmp_path: Path) -> Iterator[tuple[DaemonProcess, Fleet]]:
    for name, factor in {"m": 2, "n": 3}.items():
        make_bundle(tmp_path / f"{name}-1.edgb", double(factor=factor), name=name)
    daemon = DaemonProcess(tmp_path)
    with Mosquitto(tmp_path, persistent=True) as broker, Fleet(broker) as fleet:
        daemon.write(
            "trust: {require_signatures: false}\n"
            "reload: {settle: 20ms, confirm: {window: 300ms}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}, longest_pause: 1s, desired: {{}}}}\n"
            "models:\n  m: {bundle: m-1.edgb}\n"
        )
        try:
            yield daemon.start(), fleet
        finally:
            daemon.stop()


def is_whole(daemon: DaemonProcess, version: int | None) -> None:
    """It answers as the configuration says that it reports."""
    status = daemon.status()
    names = {one["name"] for one in status["models"] if one["ready"]}
    assert (status["desired"]["version"], names) == (version, {"m", "n"} if version else {"m"})
    with daemon.client() as client:
        assert client.infer("m", x=X)["y"][0, 0] == 2.0
        if version:
            assert client.infer("n", x=X)["y"][0, 0] == 3.0


@pytest.mark.parametrize("step", STEPS)
def test_a_document(box: tuple[DaemonProcess, Fleet], step: str) -> None:
    daemon, fleet = box
    fleet.until(lambda one: one["confirmed"])
    daemon.stop()
    daemon.start(**{VARIABLE: step})
    is_whole(daemon, None)
    fleet.want(1, NEW, fleet.until(lambda one: one["confirmed"])["digest"], retain=False)
    assert daemon.process is not None
    assert daemon.process.wait(60) == EXIT_STATUS, daemon.tail()
    daemon.start()
    status = daemon.status()
    is_whole(daemon, status["desired"]["version"])
    # The broker kept it, or the notes have it: either way it is decided, and once.
    report = fleet.verdict(1, "accepted")
    assert report["version"] == 1
    is_whole(daemon, 1)
    wait_for(lambda: read_state(daemon.directory / "state/desired").current == 1)
    digest = report["digest"]
    daemon.stop()
    daemon.start()
    is_whole(daemon, 1)
    assert fleet.until(lambda one: one["confirmed"])["digest"] == digest


@pytest.mark.parametrize("step", ["desired.returning", "desired.returned"])
def test_its_way_back(box: tuple[DaemonProcess, Fleet], step: str) -> None:
    """An operator goes back while it is on trial, and the daemon dies of that."""
    daemon, fleet = box
    report = fleet.until(lambda one: one["confirmed"])
    fleet.want(1, NEW, report["digest"])
    digest = fleet.verdict(1, "accepted")["digest"]
    daemon.stop()
    daemon.write(daemon.config.read_text().removeprefix(daemon.head()).replace(
        "300ms", "1h"))  # fmt: skip
    daemon.start(**{VARIABLE: step})
    report = fleet.until(lambda one: one["digest"] != digest)
    fleet.want(2, "", report["digest"])
    fleet.verdict(2, "trying")
    History(daemon.directory / "state/history").order(Order(0))
    daemon.config.write_text(daemon.config.read_text() + "# look\n")
    assert daemon.process is not None
    assert daemon.process.wait(60) == EXIT_STATUS, daemon.tail()
    daemon.start()
    report = fleet.verdict(2, "returned")
    is_whole(daemon, 1)
