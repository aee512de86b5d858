"""Who is blamed for the daemon's end, and when a release is off probation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edged.config.schema import ModelConfig, TrialConfig
from edged.errors import QuarantinedError
from edged.generation.breaker import Breaker
from edged.serving.lifecycle import ReleaseKey, State
from edged.serving.release import ServedRelease
from edged.specs import Duration
from edged.store.probation import Probation, Standing
from edged.telemetry import crash
from edged.telemetry.health import Health
from tests.fakes.clock import Clock, on_loop, until
from tests.fakes.model import doubler

A, B = "a" * 64, "b" * 64
MINUTE_NS = 60_000_000_000
TRACE = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"


class FakeStore:
    """The part of a repository that is asked."""

    def digests(self) -> set[str]:
        return {A, B}


class Device:
    """A state directory, and the daemons that run on it one after another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.window = Duration(MINUTE_NS)
        self.running: Breaker | None = None

    def start(self) -> Breaker:
        self.health = Health()
        self.running = Breaker(self.directory, self.health, lambda: TrialConfig(window=self.window))
        self.running.start(FakeStore())
        return self.running

    def crash(self) -> None:
        """The file that faulthandler would have written to."""
        self._end()
        (self.directory / "crash.txt").write_text(TRACE)

    def kill(self) -> None:
        self._end()

    def _end(self) -> None:
        assert self.running is not None
        self.running._mark.disarm()


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    # The test runner has faulthandler for itself.
    monkeypatch.setattr(crash.faulthandler, "enable", lambda _: None)
    monkeypatch.setattr(crash.faulthandler, "disable", lambda: None)
    made = Device(tmp_path)
    yield made
    if made.running is not None:
        made.running.stop()


def ready(digest: str = A) -> ServedRelease:
    release = ServedRelease(
        ReleaseKey("gate", digest, ""), doubler(), ModelConfig(bundle="b"), 200_000
    )
    release.state = State.READY
    return release


def test_the_third_start_leaves_it_out(device: Device, caplog: pytest.LogCaptureFixture):
    for _ in range(2):
        device.start().probation.begin(A, "gate", 1)
        device.crash()
    breaker = device.start()
    assert device.health.degradations() == {
        "crash": "the last run died: Segmentation fault (crash.last.txt in the state directory)"
    }
    assert "died by its own doing:\nFatal Python error: Segmentation fault" in caplog.text
    assert not breaker.is_quarantined(A)
    with pytest.raises(QuarantinedError, match="2 times in a row"):
        breaker.probation.begin(A, "gate", 1)
    assert breaker.is_quarantined(A)
    breaker.probation.begin(B, "door", 1)
    device.kill()
    breaker = device.start()
    assert device.health.degradations() == {}, "a crash is told once"
    assert breaker.is_quarantined(A)


def test_kills_from_outside_blame_nobody(device: Device):
    for _ in range(5):
        device.start().probation.begin(A, "gate", 1)
        device.kill()
    breaker = device.start()
    breaker.probation.begin(A, "gate", 1)
    assert not breaker.is_quarantined(A)
    assert device.health.degradations() == {}


def test_stop_is_an_end_in_good_order(device: Device):
    breaker = device.start()
    breaker.probation.begin(A, "gate", 1)
    breaker.stop()
    breaker.stop()
    assert device.start().probation.get(A) == Standing(model="gate", release=1)


def test_forgets_what_the_store_no_longer_has_but_not_what_did_harm(device: Device):
    breaker = device.start()
    breaker.probation.quarantine("c" * 64, "gate", 1, "why")
    breaker.probation.begin("d" * 64, "gate", 2)
    device.kill()
    breaker = device.start()
    assert breaker.is_quarantined("c" * 64)
    assert "d" * 64 not in breaker.probation.all()


@on_loop
async def test_off_probation_after_the_window(device: Device, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    device.window = Duration(10_000_000_000)
    breaker = device.start()
    breaker.probation.begin(A, "gate", 1)
    breaker.on_ready(ready())
    await clock.forward(10_000_000_000 - 1_000_000)
    assert breaker.probation.get(A).is_on_probation
    await clock.forward(2_000_000)
    await until(lambda: not breaker.probation.get(A).is_on_probation)
    device.crash()
    assert device.start().probation.get(A).deaths == 0


@on_loop
async def test_the_window_is_the_one_in_effect(device: Device, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    breaker = device.start()
    for digest in (A, B):
        breaker.probation.begin(digest, "gate", 1)
    device.window = Duration(1_000_000_000)
    breaker.on_ready(ready(A))
    device.window = Duration(MINUTE_NS)
    breaker.on_ready(ready(B))
    await clock.forward(2_000_000_000)
    await until(lambda: not breaker.probation.get(A).is_on_probation)
    assert breaker.probation.get(B).is_on_probation


@on_loop
async def test_a_window_belongs_to_one_load(device: Device, monkeypatch: pytest.MonkeyPatch):
    """Loaded, taken out, and loaded again: the first window's end is not the second's."""
    clock = Clock(monkeypatch)
    device.window = Duration(6_000_000_000)
    breaker = device.start()
    breaker.probation.begin(A, "gate", 1)
    first = ready()
    breaker.on_ready(first)
    await clock.forward(4_000_000_000)
    first.state = State.UNLOADED
    breaker.probation.begin(A, "gate", 1)
    breaker.on_ready(ready())
    breaker.probation.begin(B, "door", 1)
    breaker.on_ready(ready(B))
    done = called(monkeypatch, breaker)
    await clock.forward(3_000_000_000)
    await until(lambda: len(done) == 1)
    assert breaker.probation.get(A).is_on_probation
    await clock.forward(4_000_000_000)
    await until(lambda: len(done) == 3)
    assert not breaker.probation.get(A).is_on_probation


@on_loop
async def test_one_that_was_taken_out_early_is_not_blamed_later(
    device: Device, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock(monkeypatch)
    device.window = Duration(6_000_000_000)
    device.start().probation.begin(A, "gate", 1)
    device.crash()
    breaker = device.start()
    breaker.probation.begin(A, "gate", 1)
    release = ready()
    breaker.on_ready(release)
    release.state = State.UNLOADED
    await clock.forward(7_000_000_000)
    await until(lambda: not breaker.probation.get(A).is_on_probation)
    device.crash()
    assert device.start().probation.get(A).deaths == 1, "it had not proven itself either"


def called(monkeypatch: pytest.MonkeyPatch, breaker: Breaker) -> list[str]:
    """The digests whose window's end was dealt with from now on."""
    done: list[str] = []

    def note(act: Callable[[str, int], None]) -> Callable[[str, int], None]:
        def acted(digest: str, attempt: int) -> None:
            act(digest, attempt)
            done.append(digest)

        return acted

    for name in ("survived", "release_unharmed"):
        monkeypatch.setattr(breaker.probation, name, note(getattr(breaker.probation, name)))
    return done


@on_loop
async def test_hopeless(device: Device, monkeypatch: pytest.MonkeyPatch):
    breaker = device.start()
    threads: list[int] = []
    write = breaker.probation.write_condemned
    monkeypatch.setattr(
        breaker.probation,
        "write_condemned",
        lambda: (write(), threads.append(threading.get_ident())),
    )
    breaker.on_hopeless(ready(), "its worker died 5 times")
    assert breaker.is_quarantined(A), "at once: the next reload asks"
    await until(lambda: threads)
    assert threads != [threading.get_ident()], "the loop must not wait for the disk"
    assert Probation(device.directory / "probation").get(A).quarantine is not None
    standing = breaker.probation.get(A)
    assert (standing.model, standing.release) == ("gate", 1)
    assert standing.quarantine.reason == "its worker died 5 times"
    breaker.probation.lift(A)
    assert not breaker.is_quarantined(A)


def test_what_could_not_be_written_in_time_is_written_at_the_stop(device: Device):
    breaker = device.start()
    breaker.probation.condemn(A, "gate", 1, "its worker died 5 times")
    breaker.stop()
    assert device.start().is_quarantined(A)
