"""What a box does when it starts with something broken: it serves what it can, and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edged.errors import ModelNotReadyError
from tests.bundles import make_bundle
from tests.e2e.models import lying
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double

X = np.ones((1, 4), np.float32)
BODY = (
    "trust: {require_signatures: false}\nreload: {settle: 20ms}\nmodels:\n  m: {bundle: m-1.edgb}\n"
)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    return tmp_path


def test_a_broken_file_at_boot_is_answered_with_the_last_good_one(box: Path) -> None:
    with running(box, BODY) as daemon:
        generation = daemon.status()["generation"]
    daemon.write(BODY + "models: [\n")
    daemon.start()
    try:
        status = daemon.status()
        assert "last good configuration" in status["degradations"]["config"]
        assert "edged.yaml" in status["degradations"]["config"]
        assert status["ready"]
        assert status["generation"] == generation
        with daemon.client() as client:
            assert client.infer("m", x=X)["y"].tolist() == [[2.0] * 4]
        daemon.write(BODY.replace("m-1.edgb}", "m-1.edgb, aliases: {a: 1}}"))
        wait_for(lambda: daemon.status()["generation"] == generation + 1)
        wait_for(lambda: daemon.status()["degradations"] == {})
    finally:
        daemon.stop()


def test_a_broken_file_at_the_first_boot_ends_with_78(box: Path) -> None:
    daemon = DaemonProcess(box)
    daemon.write("models: [\n")
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(20) == 78
    assert "edged.yaml:" in daemon.tail()


def test_a_bundle_that_went_bad_is_answered_with_the_last_good_release(box: Path) -> None:
    with running(box, BODY):
        pass
    bundle = box / "m-1.edgb"
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    with running(box, BODY) as daemon:
        status = daemon.status()
        assert status["models"][0]["fallback"] is True
        assert "model.m" in status["degradations"]
        with daemon.client() as client:
            assert client.infer("m", x=X)["y"].tolist() == [[2.0] * 4]
        make_bundle(bundle, double(factor=5), name="m", release=2)
        wait_for(lambda: daemon.status()["models"][0]["serving"] == 2)
        wait_for(lambda: daemon.status()["degradations"] == {})


def test_a_model_that_never_loaded_does_not_stop_the_others(box: Path) -> None:
    make_bundle(box / "bad-1.edgb", lying(double()), name="bad", release=1)
    body = BODY + "  bad: {bundle: bad-1.edgb}\n"
    with running(box, body) as daemon, daemon.client() as client:
        assert client.infer("m", x=X).release == 1
        with pytest.raises(ModelNotReadyError, match="golden"):
            client.infer("bad", x=X)
        status = daemon.status()
        assert not status["ready"]
        assert "golden" in status["degradations"]["model.bad"]


def test_a_second_daemon_on_the_same_state_is_refused(box: Path) -> None:
    with running(box, BODY) as daemon:
        second = subprocess.run(
            [sys.executable, "-m", "edged", "run", "--config", str(daemon.config)],
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert second.returncode != 0
        assert b"another" in second.stderr
        with daemon.client() as client:
            assert client.infer("m", x=X).release == 1


def test_sigterm_answers_what_is_in_hand(box: Path) -> None:
    with running(box, BODY) as daemon:
        with daemon.client() as client:
            pending = [client.submit("m", x=X) for _ in range(50)]
            client.status()
            assert daemon.stop() == 0
            assert all(p.result()["y"].shape == (1, 4) for p in pending)
        assert not daemon.socket.exists()
