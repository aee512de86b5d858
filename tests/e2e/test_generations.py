"""``edged apply``, ``history`` and ``rollback`` against a real daemon, and a window that is breached
by real failures under load; each command's exit status is the truth."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.errors import EdgedError
from tests.bundles import make_bundle
from tests.e2e.harmful import crasher
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double

X = np.ones((1, 4), np.float32)
HEAD = "trust: {require_signatures: false}\nreload: {settle: 20ms, confirm: {window: WINDOW}}\n"
MODELS = "models:\n  m: {bundle: FILES}\n"


def body(*releases: int, window: str = "0") -> str:
    files = ", ".join(f"m-{number}.edgb" for number in releases)
    return (HEAD + MODELS).replace("WINDOW", window).replace("FILES", f"[{files}]")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    directory = tmp_path_factory.mktemp("generations")
    for release in (1, 2):
        make_bundle(
            directory / f"m-{release}.edgb", double(factor=release + 1), name="m", release=release
        )
    with running(directory, body(1)) as daemon:
        yield daemon


def edged(box: DaemonProcess, *words: str, socket: Path | None = None) -> tuple[int, str, str]:
    options = ["--config", str(box.config)]
    if words[0] != "history":
        options += ["--socket", str(socket or box.socket)]
    done = subprocess.run(
        [sys.executable, "-m", "edged", *words, *options],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def factor(box: DaemonProcess) -> float:
    with box.client() as client:
        return float(client.infer("m", x=X)["y"][0, 0])


def states(box: DaemonProcess) -> dict[int, str]:
    _, text, _ = edged(box, "history", "--json")
    return {one["generation"]: one["state"] for one in json.loads(text)}


def test_the_whole_way(box: DaemonProcess, tmp_path: Path) -> None:
    assert edged(box, "apply", "--wait")[0] == 0  # nothing to do is no failure
    wait_for(lambda: states(box) == {1: "confirmed"})

    box.write(body(1, 2))
    status, out, _ = edged(box, "apply", "--wait", "--confirmed")
    assert (status, factor(box)) == (0, 3.0)
    assert "generation 2 is in effect" in out
    wait_for(lambda: states(box) == {1: "confirmed", 2: "confirmed"})

    box.write(body(1, 3))
    status, _, err = edged(box, "apply", "--wait")
    assert status == 78
    assert "m-3.edgb" in err
    assert "edged.yaml:" in err
    assert factor(box) == 3.0

    status, out, _ = edged(box, "rollback")
    assert (status, factor(box)) == (0, 2.0)
    assert "generation 3 is in effect" in out

    box.write(body(1, 2))
    status, _, _ = edged(box, "apply", "--wait")
    assert (status, factor(box)) == (0, 3.0)
    status, out, _ = edged(box, "rollback", "1")
    assert (status, factor(box)) == (0, 2.0)
    assert "set aside until they change" in out
    status, _, err = edged(box, "apply", "--wait")
    assert status == 78
    assert "went back to generation 1" in err
    status, _, _ = edged(box, "apply", "--wait", "--again")
    assert (status, factor(box)) == (0, 3.0)
    assert "rollback" in edged(box, "history")[1]

    status, _, err = edged(box, "rollback", "99")
    assert status == 66
    assert "keeps no generation 99" in err

    other = tmp_path / "another"
    for made in (False, True):
        if made:
            (other / "history").mkdir(parents=True)
            (other / "lock").touch()
        status, _, err = edged(box, "apply", "--again", "--state-dir", str(other))
        assert status == 78
        assert f"keeps its state elsewhere than in {other}; name its configuration" in err
        assert [*other.rglob("order.json")] == [], "carried out by whoever starts there"


def test_nobody_there(box: DaemonProcess, tmp_path: Path) -> None:
    status, _, err = edged(box, "apply", "--wait", socket=tmp_path / "none.sock")
    assert status == 69
    assert "none.sock" in err


@pytest.mark.slow
def test_a_release_that_dies_of_what_is_asked(tmp_path: Path) -> None:
    """Its trial goes well; under the device's own requests it does not, and the one before comes
    back by itself."""
    make_bundle(tmp_path / "m-1.edgb", crasher(sample=7), name="m", release=1)
    make_bundle(tmp_path / "m-2.edgb", crasher(sample=9), name="m", release=2)
    base = body(1).replace("]}", "], isolation: model}")
    with running(tmp_path, base) as daemon:
        stop, asked = threading.Event(), []

        def ask() -> None:
            with daemon.client() as client:
                while not stop.is_set():
                    # What release 1 is never asked; only the new configuration brings it about.
                    status = daemon.status()["models"][0]["serving"]
                    n = np.array([-1 if status == 2 else 7])
                    try:
                        client.infer("m", n=n)
                    except EdgedError as exc:
                        asked.append(type(exc).__name__)

        caller = threading.Thread(target=ask)
        caller.start()
        try:
            wait_for(lambda: states(daemon) == {1: "confirmed"})
            daemon.write(base.replace("m-1", "m-2").replace("window: 0", "window: 1h"))
            wait_for(lambda: "config" in daemon.status()["degradations"], seconds=60)
        finally:
            stop.set()
            caller.join(30)
        status = daemon.status()
        assert (status["models"][0]["serving"], status["generation"]) == (1, 3)
        assert "was worse" in status["degradations"]["config"]
        assert asked
        states_now = states(daemon)
        assert states_now[2] == "set aside"
