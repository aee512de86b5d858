"""A release comes back to the runtime that it wants, between two runs and with no request failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from edged.config.memory import ModelMemoryConfig
from edged.config.schema import BatchingConfig
from edged.errors import LoadError
from edged.loading import Loaded, Skipped
from edged.runtimes import registry
from edged.serving.choosing import comeback
from edged.serving.choosing.returning import _merged, problem_of
from edged.serving.lifecycle import State
from edged.serving.release import ServedRelease
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.model import FakeSession
from tests.fakes.pair import FIRST, SECOND, Pair

S = 10**7
"""A second, for ``comeback.py``: a test may last twenty real ones."""


@pytest.fixture(autouse=True)
def _shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK", "TRY", "LOSS"):
        for end in ("FIRST", "MOST"):
            attribute = f"{end}_{name}_NS"
            monkeypatch.setattr(comeback, attribute, getattr(comeback, attribute) // 100)


@asynccontextmanager
async def standing_in(
    monkeypatch: pytest.MonkeyPatch, *, budgets: dict[str, int] | None = None, **config
) -> AsyncIterator[tuple[Clock, Pair, ServedRelease]]:
    """A release on its second runtime, and a clock; the first look is due in 10 s."""
    clock = Clock(monkeypatch)
    pair = Pair(0, budgets)
    pair.first.problem = "is not installed"
    release = await pair.start(**config)
    assert release.runtime == SECOND
    yield clock, pair, release
    pair.manager.stop()


def looks(pair: Pair) -> list[str]:
    """The names that are asked from now on."""
    asked: list[str] = []
    ask = pair.manager.recovery.returning.problem_of

    def note(name: str) -> str:
        asked.append(name)
        return ask(name)

    pair.manager.recovery.returning.problem_of = note
    return asked


def tick(clock: Clock) -> bool:
    """Let those go on who look again soon."""
    clock.now_ns += S // 2
    return False


def is_quiet(pair: Pair) -> bool:
    """Whether nothing will wake the process to look."""
    return pair.manager.recovery.returning._alarm._timer is None


async def idle(pair: Pair) -> None:
    """Until the loader has done what it was told, and that was heard."""
    await asyncio.wrap_future(pair.manager._thread.submit(lambda: None))
    await turns(20)


@on_loop
async def test_it_comes_back_and_says_so(monkeypatch: pytest.MonkeyPatch):
    async with standing_in(monkeypatch) as (clock, pair, release):
        asked = looks(pair)
        await clock.forward(9 * S)
        assert asked == []
        await clock.forward(2 * S)
        await until(lambda: asked)
        await idle(pair)
        assert (release.runtime, pair.first.loads) == (SECOND, [])
        pair.find()
        changes = pair.changes
        await clock.forward(21 * S)
        await until(lambda: release.runtime == FIRST)
        assert release.state is State.READY
        assert (release.stand_in, pair.health.degradations()) == (None, {})
        assert pair.changes > changes
        assert pair.manager.recovery.returning.ended == {("gate", 1, "back"): 1}
        await until(lambda: pair.second.sessions[0].closed)
        assert (await pair.ask(4.0)).outputs["y"][0, 0] == 8.0
        assert is_quiet(pair)


@on_loop
async def test_no_request_fails_while_the_sessions_are_exchanged(monkeypatch: pytest.MonkeyPatch):
    """The one that runs ends where it began; the one that waits is answered by the other."""
    async with standing_in(monkeypatch, batching=BatchingConfig(instances=1)) as (
        clock,
        pair,
        release,
    ):
        old = pair.second.sessions[0]
        old.gate = threading.Event()
        running = pair.ask(1.0)
        await until(lambda: release.running)
        pair.find()
        await clock.forward(11 * S)
        await until(lambda: release.is_parting)
        waiting = [pair.ask(float(n)) for n in range(2, 6)]
        await turns(20)
        # Whoever lets releases go on does not let this one.
        pair.manager.memories.of(release.config).step()
        assert (len(old.runs) > 0, release.is_held, release.running) == (True, True, 1)
        ran, moves = len(old.runs), ServedRelease.moves
        old.gate.set()
        await until(lambda: release.runtime == FIRST or tick(clock))
        answers = await asyncio.gather(running, *waiting)
        assert [one.error for one in answers] == [None] * 5
        assert [float(one.outputs["y"][0, 0]) for one in answers] == [2.0, 4.0, 6.0, 8.0, 10.0]
        assert ServedRelease.moves > moves, "prepared calls and caches would use the old session"
        assert len(old.runs) == ran, "nothing began on the old one after it was told to part"
        await until(lambda: old.closed)
        assert release.in_flight == 0


@on_loop
async def test_a_try_that_fails_changes_nothing_but_the_words(monkeypatch: pytest.MonkeyPatch):
    async with standing_in(monkeypatch) as (clock, pair, release):
        asked = looks(pair)
        pair.find()
        pair.first.error = LoadError("a library is of another version")
        await clock.forward(11 * S)
        await until(lambda: "of another version" in pair.health.degradations()["runtime.gate"])
        assert (release.runtime, release.state) == (SECOND, State.READY)
        assert pair.manager.recovery.returning.ended == {("gate", 1, "failed"): 1}
        assert (await pair.ask()).error is None
        await clock.forward(59 * S)
        await idle(pair)
        assert asked == [FIRST]
        pair.first.error = None
        await clock.forward(2 * S)
        await until(lambda: release.runtime == FIRST)
        assert pair.health.degradations() == {}


@on_loop
async def test_a_reload_does_not_wait_for_the_next_look(monkeypatch: pytest.MonkeyPatch):
    async with standing_in(monkeypatch) as (clock, pair, release):
        pair.find()
        pair.manager.reconsider(lambda _: False)
        await clock.forward(2_000_000)  # the timer's own lateness
        await until(lambda: release.runtime == FIRST)


@on_loop
async def test_who_has_no_room_beside_itself_goes_first(monkeypatch: pytest.MonkeyPatch):
    memory = ModelMemoryConfig(swap="replace")
    async with standing_in(monkeypatch, memory=memory) as (clock, pair, release):
        pair.find()
        pair.first.gate = threading.Event()
        await clock.forward(11 * S)
        await until(lambda: pair.first.loads)
        assert pair.second.sessions[0].closed == 1, "both are in memory"
        waiting = pair.ask(2.0)
        await turns(20)
        assert not waiting.done()
        pair.first.gate.set()
        assert (await waiting).outputs["y"][0, 0] == 4.0
        assert (release.runtime, release.stand_in) == (FIRST, None)


@on_loop
async def test_no_room_is_said(monkeypatch: pytest.MonkeyPatch):
    async with standing_in(monkeypatch, budgets={"cpu": 100}) as (clock, pair, release):
        ledger = pair.manager.memories.of(release.config).ledger
        ledger.budget = ledger.used
        pair.find()
        await clock.forward(11 * S)
        await until(lambda: "no room" in pair.health.degradations()["runtime.gate"])
        assert (release.runtime, release.state) == (SECOND, State.READY)


@on_loop
async def test_memory_is_promised_to_it_once(monkeypatch: pytest.MonkeyPatch):
    async with standing_in(monkeypatch) as (clock, pair, release):
        ledger = pair.manager.memories.of(release.config).ledger
        assert list(ledger.sizes()) == [release.key]
        pair.find()
        await clock.forward(11 * S)
        await until(lambda: release.runtime == FIRST)
        assert list(ledger.sizes()) == [release.key]
        pair.manager.want([])
        assert ledger.used == 0


@pytest.mark.parametrize("how", ["gone", "asleep"])
@on_loop
async def test_what_comes_too_late_is_closed(monkeypatch: pytest.MonkeyPatch, how: str):
    async with standing_in(monkeypatch) as (clock, pair, release):
        ledger = pair.manager.memories.of(release.config).ledger
        pair.find()
        pair.first.gate = threading.Event()
        await clock.forward(11 * S)
        await until(lambda: pair.first.loads)
        if how == "gone":
            pair.manager.want([])
        else:
            pair.manager.memories.of(release.config).evict(release, "made room")
        pair.first.gate.set()
        await until(lambda: pair.first.sessions and pair.first.sessions[0].closed)
        assert ledger.used == 0


@on_loop
async def test_who_cannot_ever_take_it_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    pair = Pair()
    asked = looks(pair)
    monkeypatch.setitem(registry.ARTEFACT_KINDS, FIRST, ("engine",))
    release = await pair.start()
    assert release.stand_in is not None
    assert release.stand_in.why == "the bundle has no engine artefact; it has: onnx"
    await clock.forward(11 * S)
    await idle(pair)
    assert (asked, is_quiet(pair)) == ([], True)
    pair.manager.stop()


def test_what_was_not_tried_stays_passed_over():
    before = (Skipped("a", "no engine"), Skipped("b", "no driver"), Skipped("c", "no package"))
    loaded = Loaded(FakeSession(), "c", (), skipped=(Skipped("b", "refused it"),))
    assert _merged(before, loaded) == (Skipped("a", "no engine"), Skipped("b", "refused it"))


def test_the_runtimes_themselves_are_asked():
    assert problem_of("onnxruntime") == ""


@on_loop
async def test_a_release_that_dies_while_it_is_to_be_exchanged(monkeypatch: pytest.MonkeyPatch):
    async with standing_in(monkeypatch, batching=BatchingConfig(instances=1)) as (
        clock,
        pair,
        release,
    ):
        old = pair.second.sessions[0]
        old.gate = threading.Event()
        running = pair.ask(1.0)
        await until(lambda: release.running)
        pair.find()
        await clock.forward(11 * S)
        await until(lambda: release.is_parting)
        release._worker_died("died of SIGABRT")
        old.gate.set()
        await running
        await until(lambda: (release.state is State.READY and not release.running) or tick(clock))
        await until(lambda: any(one.closed for one in pair.first.sessions) or tick(clock))
        assert (await pair.ask(2.0)).outputs["y"][0, 0] == 4.0
        assert (release.runtime, release.is_held, release.is_parting) == (FIRST, False, False)
        assert list(pair.manager.memories.of(release.config).ledger.sizes()) == [release.key]
