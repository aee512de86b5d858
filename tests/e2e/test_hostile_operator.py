"""An operator's mistakes and a device's accidents: what serves goes on, and a repair is enough."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.errors import EdgedError
from tests.bundles import make_bundle, make_keys
from tests.e2e.models import slow
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double

X = np.ones((1, 4), np.float32)
HEAD = "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
MODELS = "models:\n  m: {bundle: m-1.edgb}\n"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    return tmp_path


def problems(daemon: DaemonProcess) -> list[str]:
    return list(daemon.status()["config"]["problems"])


def answer(daemon: DaemonProcess) -> float | None:
    """What the model makes of one, or None while there is no answer."""
    try:
        with daemon.client() as client:
            return float(client.infer("m", x=X)["y"][0, 0])
    except EdgedError:
        return None


def is_whole(daemon: DaemonProcess) -> bool:
    status = daemon.status()
    return bool(status["ready"]) and status["degradations"] == {} and not problems(daemon)


def test_a_configuration_that_is_no_file(box: Path) -> None:
    """Empty, gone, a folder, a loop of links, a pipe, a device, noise: each is refused."""
    with running(box, HEAD + MODELS) as daemon:
        config = daemon.config

        def refused(what: str) -> None:
            wait_for(lambda: any(what in problem for problem in problems(daemon)))
            assert answer(daemon) == 2.0

        config.write_text("")
        refused("says nothing")
        config.unlink()
        refused("No such file")
        config.symlink_to(config)
        refused("symbolic links")
        config.unlink()
        os.mkfifo(config)
        refused("not a regular file")
        config.unlink()
        config.write_bytes(b"\xb3" * 3000)
        refused("UTF-8")
        daemon.write(HEAD + MODELS)
        wait_for(lambda: is_whole(daemon))


def test_a_bundle_damaged_at_boot_is_taken_once_it_is_copied_again(box: Path) -> None:
    """Its manifest was whole, so that no digest of the configuration changes with the repair."""
    bundle = box / "m-1.edgb"
    good = bundle.read_bytes()
    bad = bytearray(good)
    bad[good.find(double().data) + 20] ^= 1
    bundle.write_bytes(bad)
    with running(box, HEAD + MODELS) as daemon:
        assert "damaged" in daemon.status()["degradations"]["model.m"]
        assert answer(daemon) is None
        bundle.write_bytes(good)
        wait_for(lambda: answer(daemon) == 2.0)
        wait_for(lambda: is_whole(daemon))


def test_a_large_bundle_copied_slowly_into_a_watched_folder(box: Path) -> None:
    """Half a bundle is never served, also not after a restart; the whole one is, by itself."""
    inbox = box / "in"
    inbox.mkdir()
    shutil.move(box / "m-1.edgb", inbox)
    large = inbox / "m-2.edgb"
    data = make_bundle(box / "large.edgb", slow(800), name="m", release=2).read_bytes()
    half = len(data) // 2
    with running(box, HEAD + "models:\n  m: {bundle: 'in/*.edgb'}\n") as daemon:
        with large.open("wb", buffering=0) as file:
            for start in range(0, half, half // 4):
                file.write(data[start : start + half // 4])
                time.sleep(0.15)
                assert daemon.status()["models"][0]["serving"] == 1
        assert daemon.stop() == 0
        daemon.start()
        assert daemon.status()["models"][0]["serving"] == 1
        large.write_bytes(data)
        wait_for(lambda: daemon.status()["models"][0]["serving"] == 2)
        wait_for(lambda: is_whole(daemon))
        # And replaced in place, while it serves.
        with large.open("r+b") as file:
            file.truncate(100)
        wait_for(lambda: problems(daemon))
        assert daemon.status()["models"][0]["serving"] == 2
        large.write_bytes(data)
        wait_for(lambda: is_whole(daemon))


def test_a_key_that_goes_and_comes_back(box: Path) -> None:
    key, public = make_keys(box)
    make_bundle(box / "m-1.edgb", double(), name="m", release=1, key=key)
    body = HEAD.replace("require_signatures: false", f"keys: [{public.name}]") + MODELS
    trusted = public.read_bytes()
    other = make_keys(box, "other")[1].read_bytes()
    with running(box, body) as daemon:
        for wrong, words in ((None, "No such file"), (b"?", "no public key"), (other, "0 of 1")):
            public.unlink(missing_ok=True)
            if wrong is not None:
                public.write_bytes(wrong)
            wait_for(lambda words=words: any(words in problem for problem in problems(daemon)))
            assert answer(daemon) == 2.0
        assert daemon.stop() == 0
        daemon.start()
        assert answer(daemon) is None, "a release that nobody trusts was served from the store"
        public.write_bytes(trusted)
        wait_for(lambda: answer(daemon) == 2.0)
        wait_for(lambda: is_whole(daemon))


def test_the_state_directory_is_deleted_while_it_serves(box: Path) -> None:
    make_bundle(box / "m-2.edgb", double(factor=3), name="m", release=2)
    with running(box, HEAD + MODELS) as daemon:
        shutil.rmtree(box / "state")
        daemon.write(HEAD + MODELS.replace("m-1", "m-2"))
        wait_for(lambda: any("cannot be stored" in problem for problem in problems(daemon)))
        assert answer(daemon) == 2.0
        assert daemon.stop() == 0
        daemon.start()
        assert answer(daemon) == 3.0
        assert is_whole(daemon)


def test_configuration_mounted_as_kubernetes_does(box: Path) -> None:
    """edged.yaml -> ..data/edged.yaml, ..data -> ..v1; an update swaps ..data and drops ..v1."""
    daemon = DaemonProcess(box)
    mount = box / "mount"
    for number in (1, 2):
        (mount / f"..v{number}").mkdir(parents=True)
        text = daemon.head() + HEAD + f"models:\n  m: {{bundle: {box}/m-{number}.edgb}}\n"
        (mount / f"..v{number}/edged.yaml").write_text(text)
    make_bundle(box / "m-2.edgb", double(factor=3), name="m", release=2)
    (mount / "..data").symlink_to("..v1")
    (mount / "edged.yaml").symlink_to("..data/edged.yaml")
    daemon.config = mount / "edged.yaml"
    daemon.start()
    try:
        assert answer(daemon) == 2.0
        (mount / "..tmp").symlink_to("..v2")
        (mount / "..tmp").rename(mount / "..data")
        shutil.rmtree(mount / "..v1")
        wait_for(lambda: answer(daemon) == 3.0)
    finally:
        daemon.stop()


@pytest.fixture
def small_state(box: Path) -> Iterator[Path]:
    """The state directory on a file system of a quarter of a MiB."""
    state = box / "state"
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(state)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield state
    subprocess.run(["umount", str(state)], check=True)


def fill(directory: Path) -> Path:
    """Use up all room."""
    path = directory / "fill"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)
    return path


def test_room_on_a_disk_that_was_full_at_boot(box: Path, small_state: Path) -> None:
    """The daemon starts without the model and says why; SIGHUP is enough once there is room."""
    filler = fill(small_state)
    with running(box, HEAD + MODELS) as daemon:
        assert "make room" in daemon.status()["degradations"]["model.m"]
        filler.unlink()
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: answer(daemon) == 2.0)
        wait_for(lambda: is_whole(daemon))


def test_a_disk_that_fills_up_while_it_serves(box: Path, small_state: Path) -> None:
    make_bundle(box / "m-2.edgb", double(factor=3), name="m", release=2)
    with running(box, HEAD + MODELS) as daemon:
        filler = fill(small_state)
        daemon.write(HEAD + MODELS.replace("m-1", "m-2"))
        wait_for(lambda: any("make room" in problem for problem in problems(daemon)))
        assert answer(daemon) == 2.0
        filler.unlink()
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: answer(daemon) == 3.0)
        wait_for(lambda: is_whole(daemon))


def test_a_state_directory_that_is_read_only_at_boot(box: Path, small_state: Path) -> None:
    """As worn flash is; a device goes on with what it has, and says that it can take nothing new."""
    make_bundle(box / "m-2.edgb", double(factor=3), name="m", release=2)
    with running(box, HEAD + MODELS):
        pass
    subprocess.run(["mount", "-o", "remount,ro", str(small_state)], check=True)
    with running(box, HEAD + MODELS) as daemon:
        assert answer(daemon) == 2.0
        assert "read-only" in daemon.status()["degradations"]["state"]
        daemon.write(HEAD + MODELS.replace("m-1", "m-2"))
        wait_for(lambda: any("Read-only" in problem for problem in problems(daemon)))
        assert answer(daemon) == 2.0
        assert daemon.stop() == 0
        # And with a bundle that is new to it: the release that served last stands in.
        daemon.start()
        assert answer(daemon) == 2.0
