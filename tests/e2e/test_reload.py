"""An operator's edits while requests flow: whole generations or nothing, and nobody notices."""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edged.errors import EdgedError
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double

FACTORS = {1: 2, 2: 3}


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    for release, factor in FACTORS.items():
        make_bundle(
            tmp_path / f"m-{release}.edgb", double(factor=factor), name="m", release=release
        )
    return tmp_path


def body(serve: int | str, *, mark: int = 0) -> str:
    return (
        "trust: {require_signatures: false}\n"
        "reload: {settle: 20ms}\n"
        "models:\n"
        "  m:\n"
        "    bundle: [m-1.edgb, m-2.edgb]\n"
        f"    serve: {serve}\n"
        f"    aliases: {{save{mark}: 1}}\n"
    )


class Caller(threading.Thread):
    """A client that asks all the time and checks every answer."""

    def __init__(self, daemon: DaemonProcess) -> None:
        super().__init__()
        self.daemon_process = daemon
        self.failures: list[str] = []
        self.generations: set[int] = set()
        self.answers = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        rng = np.random.default_rng(self.ident)
        last = 0
        with self.daemon_process.client() as client:
            while not self.stopped.is_set():
                x = rng.random((2, 4), dtype=np.float32)
                try:
                    result = client.infer("m", x=x)
                except EdgedError as exc:
                    self.failures.append(f"{type(exc).__name__}: {exc}")
                    continue
                self.answers += 1
                self.generations.add(result.generation)
                if result.generation < last:
                    self.failures.append(f"generation {result.generation} after {last}")
                last = result.generation
                if not np.allclose(result["y"], x * FACTORS[result.release]):
                    self.failures.append(f"wrong numbers from release {result.release}")


@pytest.mark.slow
def test_two_hundred_saves_under_load(bundles: Path) -> None:
    """200 saves, valid, invalid and half-written: only whole, valid ones are ever applied."""
    rng = random.Random(7)
    with running(bundles, body(1)) as daemon:
        callers = [Caller(daemon) for _ in range(2)]
        for caller in callers:
            caller.start()
        first = daemon.status()["generation"]
        number = valid = 0
        while number < 200 or daemon.status()["generation"] - first < 50:
            assert number < 1000, f"{valid} valid saves; {daemon.status()['config']}"
            number += 1
            valid += save(daemon, number, rng)
            time.sleep(rng.uniform(0.01, 0.09))
        daemon.write(body(2, mark=number + 1))
        saved = time.monotonic()

        def aliases() -> list[str]:
            with daemon.client() as client:
                return list(client.models()[0]["aliases"])

        wait_for(lambda: aliases() == [f"save{number + 1}"])
        live_s = time.monotonic() - saved
        with daemon.client() as client:
            generation = client.status()["generation"]
            answer = client.infer("m", x=np.ones((1, 4), np.float32))
        for caller in callers:
            caller.stopped.set()
            caller.join(20)
    answers = sum(caller.answers for caller in callers)
    print(f"{generation - first} generations, {answers} answers, last save live in {live_s:.2f} s")
    assert [caller.failures for caller in callers] == [[], []]
    assert valid > 0
    assert (answer.generation, answer.release) == (generation, 2)
    seen = set().union(*(caller.generations for caller in callers))
    assert all(first <= number <= generation for number in seen)
    assert len(seen) >= 20


def save(daemon: DaemonProcess, number: int, rng: random.Random) -> bool:
    """One save of some kind; returns whether it is valid in the end."""
    valid = daemon.head() + body(rng.choice([1, 2]), mark=number)
    kind = rng.choice(
        ["valid", "valid", "valid", "in place", "syntax", "unknown", "missing", "half"]
    )
    if kind == "valid":
        daemon.write(valid.removeprefix(daemon.head()))
    elif kind == "in place":
        # As some editors save: truncate, write in pieces, with pauses in between.
        with daemon.config.open("w") as file:
            third = len(valid) // 3
            for start in range(0, len(valid), third):
                file.write(valid[start : start + third])
                file.flush()
                time.sleep(0.03)
    elif kind == "syntax":
        daemon.config.write_text(valid + "models: [\n")
    elif kind == "unknown":
        daemon.config.write_text(valid.replace("aliases:", "alias:"))
    elif kind == "missing":
        daemon.config.write_text(valid.replace("m-2.edgb", "m-9.edgb"))
    else:
        daemon.config.write_text(valid[: len(valid) * 2 // 3])
    return kind in ("valid", "in place")


@pytest.mark.hostile("F4 an empty file, comments only, or null")
def test_refused_config_is_shown_and_old_serves(bundles: Path) -> None:
    with running(bundles, body(1)) as daemon:
        before = daemon.status()["generation"]
        daemon.write(body(1).replace("serve: 1", "serv: 2"))
        status = wait_for(lambda: (s := daemon.status())["config"]["problems"] and s)
        (problem,) = status["config"]["problems"]
        assert "edged.yaml:9:" in problem
        assert 'did you mean "serve"' in problem
        assert status["generation"] == before
        assert "config" in status["degradations"]
        with daemon.client() as client:
            assert client.infer("m", x=np.ones((1, 4), np.float32)).release == 1
        daemon.write(body(1))
        wait_for(lambda: "config" not in daemon.status()["degradations"])


def test_a_bundle_dropped_in_a_folder_is_served(bundles: Path) -> None:
    """A glob of bundles: a new file is a new release, without an edit of the YAML."""
    text = (
        body("newest")
        .replace("[m-1.edgb, m-2.edgb]", "'in/*.edgb'")
        .replace("    aliases: {save0: 1}\n", "")
    )
    inbox = bundles / "in"
    inbox.mkdir()
    (bundles / "m-1.edgb").rename(inbox / "m-1.edgb")
    with running(bundles, text) as daemon, daemon.client() as client:
        x = np.ones((1, 4), np.float32)
        assert client.infer("m", x=x).release == 1
        (bundles / "m-2.edgb").rename(inbox / "m-2.edgb")
        wait_for(lambda: client.infer("m", x=x).release == 2)


def test_sighup_applies_without_watching(bundles: Path) -> None:
    text = body(1).replace("settle: 20ms", "watch: false")
    with running(bundles, text) as daemon:
        daemon.write(text.replace("serve: 1", "serve: 2"))
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.status()["models"][0]["serving"] == 2)


def test_socket_moves_without_losing_connections(bundles: Path) -> None:
    with running(bundles, body(1)) as daemon, daemon.client() as client:
        x = np.ones((1, 4), np.float32)
        client.infer("m", x=x)
        other = bundles / "other.sock"
        daemon.config.write_text(daemon.config.read_text().replace("edged.sock", "other.sock"))
        wait_for(other.exists)
        assert client.infer("m", x=x).release == 1
        wait_for(lambda: not daemon.socket.exists())
        daemon.socket = other
        with daemon.client() as second:
            assert second.infer("m", x=x).release == 1


@pytest.mark.hostile(
    "F11 a new socket path that is in use", "R31 a reload that fails changes nothing"
)
def test_new_socket_path_in_use_refuses_the_whole_change(bundles: Path) -> None:
    """Old listeners stay, and so does everything else that the same edit wanted."""
    with running(bundles, body(1)) as daemon:
        (bundles / "other.sock").write_text("not a socket")
        daemon.config.write_text((daemon.head() + body(2)).replace("edged.sock", "other.sock"))
        wait_for(lambda: daemon.status()["config"]["problems"])
        assert daemon.status()["models"][0]["serving"] == 1
        assert (bundles / "other.sock").read_text() == "not a socket"
