"""SIGKILL in each step of a change and of a way back: afterwards the old or the new, wholly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.faults import EXIT_STATUS, VARIABLE
from edged.generation.history import History, Order
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.models import double

X = np.ones((1, 4), np.float32)
BODY = (
    "trust: {require_signatures: false}\nreload: {settle: 20ms, confirm: {window: 0}}\n"
    "models:\n  m: {bundle: m-1.edgb}\n"
)
STEPS = (
    "marks.before", "marks.written", "reload.begun", "reload.built",
    "reload.numbered", "reload.listening", "history.written", "history.renamed",
)  # fmt: skip
FACTORS = {1: 2.0, 2: 3.0}

pytestmark = pytest.mark.slow


@pytest.fixture
def box(tmp_path: Path) -> DaemonProcess:
    for release, factor in FACTORS.items():
        make_bundle(
            tmp_path / f"m-{release}.edgb", double(factor=int(factor)), name="m", release=release
        )
    daemon = DaemonProcess(tmp_path)
    daemon.write(BODY)
    daemon.start()
    wait_for(lambda: history(daemon).marks().confirmed == (1,))
    daemon.stop()
    return daemon


def history(box: DaemonProcess) -> History:
    return History(box.directory / "state/history")


def is_whole(box: DaemonProcess, release: int) -> None:
    """It answers as this configuration says, says so, and its notes agree."""
    status = box.status()
    (model,) = status["models"]
    assert (model["serving"], model["ready"], model["fallback"]) == (release, True, False)
    with box.client() as client:
        assert client.infer("m", x=X)["y"][0, 0] == FACTORS[release]
    digest = status["config"]["digest"]
    wait_for(lambda: history(box).entries()[-1].digest == digest)
    (kept,) = history(box).read(history(box).entries()[-1].generation).config.models.values()
    assert kept.bundle == f"m-{release}.edgb"


@pytest.mark.parametrize("step", STEPS)
def test_a_change(box: DaemonProcess, step: str) -> None:
    box.start(**{VARIABLE: step})
    try:
        is_whole(box, 1)
        box.write(BODY.replace("m-1", "m-2"))
        assert box.process is not None
        assert box.process.wait(30) == EXIT_STATUS, box.tail()
        # The last good one is the old or the new, whatever the files say now.
        box.write("models: [\n")
        box.start()
        release = box.status()["models"][0]["serving"]
        is_whole(box, release)
        assert release == (2 if step == "history.renamed" else 1)
        box.write(BODY.replace("m-1", "m-2"))
        wait_for(lambda: box.status()["models"][0]["serving"] == 2)
        wait_for(lambda: box.status()["degradations"] == {})
        is_whole(box, 2)
        assert not list((box.directory / "state/history").glob(".new-*"))
    finally:
        box.stop()


@pytest.mark.parametrize(
    "step", ["marks.before", "marks.written", "reload.built", "history.renamed"]
)
def test_a_way_back(box: DaemonProcess, step: str) -> None:
    """What an operator ordered is done at the next start, also if the daemon dies of it."""
    box.write(BODY.replace("m-1", "m-2"))
    box.start()
    wait_for(lambda: len(history(box).marks().confirmed) == 2)
    box.stop()
    box.start(**{VARIABLE: step})
    try:
        is_whole(box, 2)
        history(box).order(Order(1))
        box.write(BODY.replace("m-1", "m-2") + "# look\n")
        assert box.process is not None
        assert box.process.wait(30) == EXIT_STATUS, box.tail()
        box.start()
        is_whole(box, 1)
        assert "went back to generation 1" in box.status()["degradations"]["config"]
    finally:
        box.stop()
