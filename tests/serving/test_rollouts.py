"""All rollouts: they go on over tables and restarts, end once, and say why."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec
import pytest

from edged.config.rollout import RolloutConfig
from edged.config.schema import Config
from edged.errors import ApplyError, ModelNotFoundError, ModelNotReadyError
from edged.rollout.judge import Phase
from edged.rollout.ledger import Ledger
from edged.serving.release import ServedRelease
from edged.serving.rollout import Rollout
from edged.serving.rollouts import Rollouts
from edged.serving.standing import Standing
from edged.specs import Duration
from edged.system.atomic import write_atomically
from edged.telemetry.health import Health
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.model import FakeSession
from tests.serving.test_dataplane import served
from tests.serving.test_rollout import canary, section

SECOND = 10**9
SECTION = msgspec.structs.replace(
    canary(30), guard=RolloutConfig(stable=1).guard.__class__(window=Duration(SECOND), minimum=10)
)


class House:
    """What stands around them: a table, a disk, and who is told."""

    def __init__(self, path: Path) -> None:
        self.path = path / "rollouts"
        self.health, self.changes = Health(), 0
        self.active: dict[str, Rollout] = {}
        self.rollouts = Rollouts()
        self.rollouts.active = lambda: self.active
        ledger = Ledger(self.path, self.write)
        ledger.read()
        self.rollouts.open(ledger, self.health, self.stored, self.changed)
        self.now_ns = SECOND

    @cached_property
    def releases(self) -> dict[int, ServedRelease]:
        return {number: served(FakeSession(), number) for number in (1, 2)}

    def write(self, path: Path, data: bytes) -> None:
        write_atomically(path, data)

    def stored(self, _release: ServedRelease) -> Bundle:
        return Bundle()

    def changed(self) -> None:
        self.changes += 1

    def serve(self, config: RolloutConfig | None = SECTION) -> Rollout:
        made = self.rollouts.of("m", config, self.releases)
        self.active = {} if made is None else {"m": made}
        return made  # type: ignore[return-value]

    def pass_time(self, seconds: float, **answers: int) -> None:
        """Let time pass, in which each release answered so many requests."""
        for _ in range(int(seconds * 2)):
            self.now_ns += SECOND // 2
            self.rollouts.look(self.now_ns)
        for rollout in self.active.values():
            for number, count in zip((1, 2), answers.values(), strict=False):
                for _ in range(count):
                    rollout.entry.tally.side(number).note(None, 10**6)
        self.now_ns += SECOND // 2
        self.rollouts.look(self.now_ns)


class Bundle:
    """Without samples."""

    def golden(self) -> None:
        return None


@pytest.fixture
def box(tmp_path: Path) -> House:
    return House(tmp_path)


@on_loop
async def test_a_good_one_is_promoted(box: House):
    rollout, moves = box.serve(), Standing.moves
    box.pass_time(0.5, stable=100, canary=50)
    assert rollout.entry.phase is Phase.RUNNING
    assert rollout.serve == 1
    box.pass_time(1)
    assert rollout.entry.phase is Phase.PROMOTED
    assert rollout.serve == 2
    assert box.changes == 1
    assert Standing.moves > moves
    assert not box.health.degradations()


@on_loop
async def test_one_that_is_hopeless_is_rolled_back_and_said_to_be(box: House):
    rollout = box.serve()
    box.releases[2].is_quarantined, box.releases[2].reason = True, "it died 5 times"
    box.pass_time(0)
    assert rollout.entry.phase is Phase.ROLLED_BACK
    text = "release 2 was rolled back: release 2 cannot serve: it died 5 times"
    assert box.health.degradations() == {"rollout.m": text}
    box.rollouts.configure(Config())
    assert not box.health.degradations()


@on_loop
async def test_a_night_without_requests_is_no_test_of_it(box: House):
    rollout = box.serve()
    tally = rollout.entry.tally
    box.pass_time(0, stable=5, canary=5)
    began_ns = tally.elapsed_ns
    box.pass_time(3600)
    assert tally.elapsed_ns - began_ns <= 2 * SECOND, "a pause is, however long it gets"
    assert rollout.entry.phase is Phase.RUNNING
    before_ns = tally.elapsed_ns
    box.pass_time(0, stable=1, canary=0)
    assert tally.elapsed_ns == before_ns, "of the stable one alone"
    box.pass_time(0, stable=5, canary=5)
    assert tally.elapsed_ns == before_ns + SECOND // 2
    assert rollout.entry.phase is Phase.PROMOTED


@on_loop
async def test_another_table_goes_on_with_the_same_figures(box: House):
    first = box.serve()
    box.pass_time(0, stable=3, canary=4)
    more = msgspec.structs.replace(SECTION, canary=canary(60).canary)
    second = box.serve(more)
    assert second.entry is first.entry, "to give it more is no other rollout"
    other = msgspec.structs.replace(SECTION, guard=canary().guard)
    assert box.serve(other).entry is not first.entry


@on_loop
async def test_a_table_that_never_comes_to_serve_changes_nothing(box: House):
    box.serve()
    box.pass_time(0, stable=3, canary=4)
    box.rollouts.of("m", canary(10), box.releases)
    box.pass_time(0)
    assert box.rollouts.as_list()[0]["before"] == []


@on_loop
async def test_goes_on_after_the_process_was_killed(box: House, tmp_path: Path):
    box.serve()
    box.pass_time(0.5, stable=100, canary=50)
    await until((tmp_path / "rollouts" / "m.json").exists)
    again = House(tmp_path)
    rollout = again.serve()
    assert rollout.entry.phase is Phase.RUNNING
    assert rollout.entry.tally.side(2).answers == 50
    again.pass_time(2)
    assert rollout.entry.phase is Phase.PROMOTED
    await until(lambda: House(tmp_path).serve().serve == 2)


@on_loop
async def test_an_end_is_remembered_and_not_tried_again(box: House, tmp_path: Path):
    box.serve()
    box.rollouts.look(box.now_ns)
    await until((tmp_path / "rollouts" / "m.json").exists)  # so that the end is written for itself
    await box.rollouts.saved()
    box.rollouts.abort("m")
    await until(lambda: House(tmp_path).serve().entry.phase is Phase.ABORTED)
    again = House(tmp_path)
    again.serve()
    again.pass_time(9, stable=100, canary=100)
    assert again.active["m"].entry.phase is Phase.ABORTED
    assert again.active["m"].serve == 1


@on_loop
async def test_the_record_has_its_figures_when_another_follows(box: House):
    box.serve()
    box.pass_time(0, stable=3, canary=4)
    box.rollouts.abort("m")
    box.serve(msgspec.structs.replace(SECTION, guard=canary().guard))
    box.pass_time(0)
    (document,) = box.rollouts.as_list()
    assert document["phase"] == "running"
    (before,) = document["before"]
    assert (before["phase"], before["reason"]) == ("aborted", "by an operator")
    assert before["sides"]["2"]["answers"] == 4


@on_loop
async def test_one_whose_place_another_took_is_replaced_and_the_latest_comes_first(box: House):
    guards = [msgspec.structs.replace(SECTION.guard, minimum=n) for n in (7, 8, 9)]
    parts = [msgspec.structs.replace(SECTION, guard=guard) for guard in guards]
    for part in (SECTION, *parts):
        box.serve(part)
        box.pass_time(0, stable=1, canary=1)
        if part is parts[0]:
            box.rollouts.abort("m")
    (document,) = box.rollouts.as_list()
    before = document["before"]
    assert [one["phase"] for one in before] == ["replaced", "aborted", "replaced"]
    ended = [one["ended"] for one in before]
    assert ended == sorted(ended, reverse=True)
    assert all(ended)
    box.serve(SECTION)
    box.pass_time(0)
    (document,) = box.rollouts.as_list()
    assert (document["phase"], document["ended"]) == ("running", 0), "it goes on where it was"


@on_loop
async def test_what_is_asked_for_and_cannot_be(box: House):
    with pytest.raises(ModelNotFoundError, match='no rollout of "m" is configured'):
        box.rollouts.promote("m")
    box.serve(section(shadow={"release": 2}))
    with pytest.raises(ApplyError, match="has no canary"):
        box.rollouts.promote("m")
    box.serve()
    state, box.releases[2] = box.releases[2], served(None, 2)
    box.serve()
    with pytest.raises(ModelNotReadyError, match="release 2 is new"):
        box.rollouts.promote("m")
    box.releases[2] = state
    box.serve()
    box.rollouts.look(box.now_ns)
    assert box.rollouts.promote("m")["phase"] == "promoted"
    with pytest.raises(ApplyError, match="is over: promoted"):
        box.rollouts.abort("m")


@on_loop
async def test_a_disk_that_refuses_stops_nothing(box: House, monkeypatch: pytest.MonkeyPatch):
    def refuse(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    box.rollouts._ledger._write = refuse  # type: ignore[union-attr]
    rollout = box.serve()
    box.pass_time(0, stable=1, canary=1)
    await until(lambda: "rollouts" in box.health.degradations())
    box.rollouts.abort("m")
    assert rollout.serve == 1
    await turns(5)
    assert "No space left" in box.health.degradations()["rollouts"]
    del monkeypatch
    box.rollouts._ledger._write = write_atomically  # type: ignore[union-attr]
    box.rollouts.stop()
    box.rollouts._keeping.soon("m", rollout.entry)  # type: ignore[union-attr]
    await until(lambda: "rollouts" not in box.health.degradations())


@on_loop
async def test_samples_are_read_once_before_drift_is_judged(box: House):
    guard = msgspec.structs.replace(SECTION.guard, drift=2.0)
    rollout = box.serve(msgspec.structs.replace(SECTION, guard=guard))
    box.pass_time(2, stable=100, canary=100)
    assert rollout.entry.phase is Phase.RUNNING
    await until(lambda: rollout.references == {})
    box.pass_time(0)
    assert rollout.entry.phase is Phase.PROMOTED


@on_loop
async def test_a_model_without_one():
    assert Rollouts().of("m", None, {}) is None
    assert Rollouts().as_list() == []


@on_loop
async def test_a_fault_of_one_does_not_keep_the_others_from_being_judged(
    box: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    first = box.rollouts.of("a", SECTION, box.releases)
    box.serve()
    assert first is not None
    box.active = {"a": first, **box.active}
    box.releases[2].is_quarantined, box.releases[2].reason = True, "it died 5 times"

    def fail(_since_ns: int) -> None:
        raise ZeroDivisionError("a fault of the daemon's own")

    with monkeypatch.context() as broken:
        broken.setattr(first, "age", fail)
        box.pass_time(0)
        box.pass_time(0)
    assert caplog.text.count("Traceback") == 1, "not twice a second"
    assert box.active["m"].entry.phase is Phase.ROLLED_BACK
    assert first.entry.phase is Phase.RUNNING
    assert 'model "a": its rollout could not be judged' in caplog.text
    assert "cannot be judged (ZeroDivisionError)" in str(box.health.degradations())
    box.pass_time(0)
    assert first.entry.phase is Phase.ROLLED_BACK, "it is looked at again"
    assert "cannot be judged" not in str(box.health.degradations())
