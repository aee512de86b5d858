"""What is left of a device: it starts or stays, says so, and recovers by itself where it can."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.faults import ERROR_VARIABLE
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double

X = np.ones((1, 4), np.float32)
HEAD = "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
ONE = HEAD + "models:\n  m: {bundle: m-1.edgb}\n"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    return tmp_path


@pytest.fixture
def few_inodes(box: Path) -> Iterator[Path]:
    """A state directory that has room for bytes, and for a dozen more names at most."""
    state = box / "state"
    state.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "nr_inodes=40,size=16m", "none", str(state)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount")
    yield state
    subprocess.run(["umount", "-l", str(state)], check=True)


def factor(daemon: DaemonProcess) -> float:
    with daemon.client() as client:
        return float(client.infer("m", x=X)["y"][0, 0])


def test_no_valid_model_at_all(box: Path) -> None:
    """Nothing valid → starts with zero models, ready=false; the repaired bundle is taken."""
    whole = (box / "m-1.edgb").read_bytes()
    (box / "m-1.edgb").write_bytes(whole[:100])
    with running(box, ONE) as daemon:
        status = daemon.status()
        assert status["live"]
        assert not status["ready"]
        assert "m-1.edgb" in status["degradations"]["model.m"]
        (box / "m-1.edgb").write_bytes(whole)
        wait_for(lambda: daemon.status()["ready"])
        assert factor(daemon) == 2.0
        wait_for(lambda: daemon.status()["degradations"] == {})


@pytest.mark.slow
def test_no_inode_is_left(box: Path, few_inodes: Path) -> None:
    """A change needs names on disk: it is refused or noted as such, what serves goes on, and it is
    applied by itself once there are some."""
    make_bundle(box / "m-2.edgb", double(factor=3), name="m", release=2)
    with running(box, ONE) as daemon:
        hogs = []
        for number in range(100):
            hog = few_inodes / f"hog-{number}"
            try:
                hog.touch()
            except OSError:
                break
            hogs.append(hog)
        daemon.write(ONE.replace("m-1", "m-2"))
        wait_for(lambda: {"config", "last-good"} & daemon.status()["degradations"].keys())
        assert "No space left" in str(daemon.status()["degradations"])
        assert factor(daemon) in (2.0, 3.0)
        daemon.kill()
        daemon.start()  # a box that lost its power then is no brick either
        assert factor(daemon) in (2.0, 3.0)
        for hog in hogs:
            hog.unlink()
        wait_for(lambda: factor(daemon) == 3.0, seconds=60)
        wait_for(lambda: "config" not in daemon.status()["degradations"], seconds=60)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["marks.before", "history.written"])
def test_a_disk_that_fails_at_boot(box: Path, step: str) -> None:
    """EIO from the notes' disk: it serves all the same and says what it could not note."""
    with running(box, ONE, **{ERROR_VARIABLE: step}) as daemon:
        assert factor(daemon) == 2.0
        assert "Input/output error" in daemon.log.read_text()
    with running(box, ONE) as daemon:
        assert factor(daemon) == 2.0
        assert daemon.status()["degradations"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("at", ["1970-01-02 00:00:00", "2036-11-28 12:00:00"])
def test_a_clock_that_is_years_off(box: Path, at: str) -> None:
    """Notes of another time are no reason for anything: no generation is lost or tried again."""
    with running(box, ONE) as daemon:
        generation = daemon.status()["generation"]
    code = (
        "import sys, time; from datetime import datetime\n"
        f"shift = datetime.fromisoformat({at!r}).timestamp() - time.time()\n"
        "real, real_ns = time.time, time.time_ns\n"
        "time.time = lambda: real() + shift\n"
        "time.time_ns = lambda: real_ns() + int(shift * 1e9)\n"
        "from edged.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    daemon = DaemonProcess(box)
    with daemon.log.open("ab") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-c", code, "run", "--config", str(daemon.config)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        wait_for(daemon.is_up, 30)
        assert daemon.status()["generation"] == generation
        assert factor(daemon) == 2.0
        daemon.write(ONE.replace("m-1.edgb}", "m-1.edgb, aliases: {a: 1}}"))
        wait_for(lambda: daemon.status()["generation"] == generation + 1)
        assert daemon.status()["degradations"] == {}
    finally:
        daemon.stop()
    with running(box, ONE.replace("m-1.edgb}", "m-1.edgb, aliases: {a: 1}}")) as daemon:
        assert daemon.status()["generation"] == generation + 1
        assert daemon.status()["degradations"] == {}
