"""The inbox of a real daemon: dropped, verified, installed and served, without a command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.client import Client
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double
from tests.trust import Ring

BODY = """\
trust: {root: site.trust}
reload: {settle: 20ms, poll: 300ms}
inbox: {folder: inbox, quiet: 1s}
models:
  m: {bundle: 'bundles/m-*.edgb'}
"""
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Ring:
    return Ring(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, ring: Ring) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("box")
    for name in ("bundles", "inbox"):
        (folder / name).mkdir()
    (folder / "site.trust").write_bytes(ring.signed(ring.document()))
    bundle(folder / "bundles/m-1.edgb", ring, 1)
    with running(folder, BODY) as one:
        yield one


def bundle(path: Path, ring: Ring, release: int, signer: str = "a") -> Path:
    tiny = double(factor=release + 1)
    return make_bundle(path, tiny, name="m", release=release, key=[ring[signer]])


def drop(daemon: DaemonProcess, file: Path, name: str) -> None:
    """By rename, as rsync and every careful program does."""
    file.rename(daemon.directory / "inbox" / name)


def status(daemon: DaemonProcess) -> dict[str, Any]:
    with Client(daemon.socket) as client:
        return client.status()


def serving(daemon: DaemonProcess) -> int:
    x = np.ones((1, 4), np.float32)
    with Client(daemon.socket) as client:
        (answer,) = client.infer("m", {"x": x}).values()
    return round(float(answer.ravel()[0])) - 1


def refused(daemon: DaemonProcess, name: str) -> str:
    file = daemon.directory / "inbox/refused" / f"{name}.txt"
    wait_for(file.exists, PATIENCE_S)
    wait_for(file.read_text, PATIENCE_S)
    return file.read_text()


def test_a_bundle_that_is_dropped_serves(daemon: DaemonProcess, ring: Ring) -> None:
    assert serving(daemon) == 1
    drop(daemon, bundle(daemon.directory / "any", ring, 2), "whatever it is called.edgb")
    wait_for(lambda: serving(daemon) == 2, PATIENCE_S)
    assert not list((daemon.directory / "inbox").glob("*.edgb"))
    assert (daemon.directory / "bundles/m-2.edgb").exists()
    assert "release 2 of m" in status(daemon)["inbox"]["last"]


def test_one_that_is_copied_slowly_waits(daemon: DaemonProcess, ring: Ring) -> None:
    data = bundle(daemon.directory / "any", ring, 3).read_bytes()
    looks = daemon.log.read_text().count("inbox:")
    with (daemon.directory / "inbox/slow.edgb").open("wb", buffering=0) as file:
        file.write(data[: len(data) // 2])
        wait_for(lambda: status(daemon)["inbox"]["waiting"] == 1, PATIENCE_S)
        file.write(data[len(data) // 2 :])
        assert status(daemon)["inbox"]["waiting"] == 1
        assert daemon.log.read_text().count("inbox:") == looks
    wait_for(lambda: serving(daemon) == 3, PATIENCE_S)


@pytest.mark.hostile("G1 signed by an unknown key")
def test_wrong_ones_are_moved_aside_and_said(daemon: DaemonProcess, ring: Ring) -> None:
    before = serving(daemon)
    drop(daemon, bundle(daemon.directory / "any", ring, 9, "stranger"), "stranger.edgb")
    assert "signed by 0 of 1 required trusted keys" in refused(daemon, "stranger.edgb")
    data = bundle(daemon.directory / "any", ring, 9).read_bytes()
    (daemon.directory / "inbox/half.edgb").write_bytes(data[:-100])
    assert refused(daemon, "half.edgb")
    (daemon.directory / "inbox/link.edgb").symlink_to(daemon.directory / "any")
    os.mkfifo(daemon.directory / "inbox/pipe.edgb")
    for name in ("link.edgb", "pipe.edgb"):
        assert "is not a regular file" in refused(daemon, name)
    drop(daemon, bundle(daemon.directory / "any", ring, 1), "older.edgb")
    assert "is older than release" in refused(daemon, "older.edgb")
    assert serving(daemon) == before
    log = daemon.log.read_text()
    assert all(log.count(f"inbox: {one}.edgb is refused") == 1 for one in ("stranger", "pipe"))


def test_trust_changes_hands_by_the_inbox(daemon: DaemonProcess, ring: Ring) -> None:
    """The new document counts; what serves goes on although its key is retired, and loudly."""
    before = serving(daemon)
    file = daemon.directory / "any"
    file.write_bytes(ring.signed(ring.document(2, "n1 n2", "b"), "n1 n2"))
    drop(daemon, file, "forged.trust")
    assert "root keys of version 1" in refused(daemon, "forged.trust")
    assert status(daemon)["trust"]["version"] == 1
    file.write_bytes(ring.signed(ring.document(2, release="b"), "r1 r3"))
    drop(daemon, file, "next.trust")
    wait_for(lambda: status(daemon)["trust"]["version"] == 2, PATIENCE_S)
    said = status(daemon)
    assert said["config"]["applied"]
    assert "serves on, although release" in said["degradations"]["trust"]
    assert serving(daemon) == before
    drop(daemon, bundle(daemon.directory / "any", ring, 20), "retired.edgb")
    assert "before version 2 of the trust document" in refused(daemon, "retired.edgb")
    assert daemon.stop() == 0
    daemon.start()
    assert serving(daemon) == before
    assert "trust" in status(daemon)["degradations"]
    drop(daemon, bundle(daemon.directory / "any", ring, 21, "b"), "new.edgb")
    wait_for(lambda: serving(daemon) == 21, PATIENCE_S)
    wait_for(lambda: "trust" not in status(daemon)["degradations"], PATIENCE_S)


def test_trust_by_hand_waits_until_it_counts_and_says_when_it_does_not(
    daemon: DaemonProcess, ring: Ring
) -> None:
    """The first tests left version 2 or 1 in effect; each of these is above both."""
    file = daemon.directory / "by-hand.trust"
    file.write_bytes(ring.signed(ring.document(7, release="a b"), "r1 r2"))
    done = apply_trust(daemon, file)
    assert (done.returncode, status(daemon)["trust"]["version"]) == (0, 7), done.stderr
    assert "is in effect (" in done.stdout
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace("inbox: {", "inboxes: {"))
    file.write_bytes(ring.signed(ring.document(8, release="a b"), "r1 r2"))
    done = apply_trust(daemon, file)
    assert done.returncode == 78
    assert "inboxes" in done.stderr
    # A stolen key does not wait for an editor.
    assert "trust version 8 is kept, and installs go by it" in done.stdout
    assert "in effect" not in done.stdout
    assert done.stderr.startswith("the document is kept, and installs go by it; the daemon does ")
    daemon.config.write_text(good)


def apply_trust(daemon: DaemonProcess, file: Path) -> subprocess.CompletedProcess[str]:
    words = ["trust", "apply", str(file), "--wait", "--config", str(daemon.config)]
    words += ["--socket", str(daemon.socket), "--state-dir", str(daemon.directory / "state")]
    return subprocess.run(
        [sys.executable, "-m", "edged", *words],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
