"""Reloads with a real store and a real runtime: whole or not at all, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.config.binding import BindingConfig
from edged.config.load import Snapshot
from edged.config.schema import Config
from edged.errors import ApplyError, FieldError
from edged.generation.house import House
from edged.generation.record import Record, load_for_boot
from edged.generation.reload import Reloader
from edged.loading import Loaded, load_release
from edged.manifest import ManifestOf
from edged.messages import InferRequest, InferResponse
from edged.runtimes.base import Artefact, Runtime, Session
from edged.runtimes.registry import create_runtime
from edged.serving.dataplane import Dataplane
from edged.serving.lifecycle import State
from edged.serving.manager import Manager
from edged.store import unchanged
from edged.store.stored import Stored
from edged.telemetry.health import Health
from tests.bundles import make_keys
from tests.e2e.models import lying
from tests.fakes.clock import Clock, until
from tests.fakes.loader import make_loader
from tests.fakes.site import Site
from tests.models import double

X = np.ones((1, 4), np.float32)
ONE = "models:\n  m: {bundle: m-1.edgb}\n"
TWO = "models:\n  m: {bundle: [m-1.edgb, m-2.edgb]}\n"


class FakeLinks:
    """The broker side: notes what it is given, refuses when told to."""

    def __init__(self) -> None:
        self.refuse: FieldError | None = None
        self.swapped: list[tuple[str, ...]] = []
        self.refreshed = 0
        self.on_swap: Callable[[], None] = lambda: None

    def prepare(self, _: Snapshot, bindings: Sequence[BindingConfig], of: ManifestOf) -> Any:
        if self.refuse is not None:
            raise self.refuse
        for index, binding in enumerate(bindings):
            name, _at, release = binding.model.partition("@")
            if of(name, release or None) is None:
                raise FieldError(f"bindings[{index}].model", "no release answers yet")
        return tuple(binding.name for binding in bindings)

    async def swap(self, _: Snapshot, prepared: Any) -> None:
        self.on_swap()
        self.swapped.append(prepared)

    async def refresh(self, _: Snapshot) -> None:
        self.refreshed += 1

    def cut(self) -> str:
        return ""


class FakeListener:
    """The socket side."""

    def __init__(self) -> None:
        self.refuse: ApplyError | None = None
        self.applied: list[Config] = []

    async def refresh(self, config: Config) -> None:
        pass

    async def apply(self, config: Config) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.applied.append(config)


class Box:
    """A daemon's inside without process, socket and broker."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.repository = site.repository()
        self.health = Health()
        self.dataplane = Dataplane()
        self.links = FakeLinks()
        self.listener = FakeListener()
        self.loads = 0
        self.gate: threading.Event | None = None
        self.manager = Manager(make_loader(self._create_runtime), 0, self._review)
        snapshot, self.problems = load_for_boot(site.config, site.state)
        self.house = House(
            site.config,
            self.repository,
            Record(site.state, self.repository),
            self.manager,
            self.dataplane,
            self.health,
            self.links,
            self.listener,
        )
        self.reloader = Reloader(self.house, snapshot)

    def _create_runtime(self, name: str) -> Runtime:
        runtime = create_runtime(name, threads=1)
        load = runtime.load

        def counted(artefact: Artefact) -> Session:
            self.loads += 1
            if self.gate is not None:
                assert self.gate.wait(15)
            return load(artefact)

        setattr(runtime, "load", counted)  # noqa: B010 - a method
        return runtime

    def _review(self) -> None:
        self.reloader.review()

    @property
    def generation(self) -> int:
        return self.dataplane.table.generation

    @property
    def degraded(self) -> dict[str, str]:
        return self.health.degradations()

    def held(self) -> list[tuple[str, int, str]]:
        """Every release that there is, in any state."""
        return sorted((r.key.model, r.number, r.state.value) for r in self.manager.releases())

    async def ask(self, model: str = "m", release: int | str | None = None) -> InferResponse:
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        self.dataplane.submit(
            InferRequest(model, {"x": X}, release), lambda answer, _: future.set_result(answer)
        )
        return await asyncio.wait_for(future, 10)

    async def factor(self, model: str = "m") -> float:
        answer = await self.ask(model)
        assert answer.error is None, answer.error
        return float(answer.outputs["y"][0, 0])

    async def close(self) -> None:
        self.reloader.stop()
        self.manager.stop()
        self.repository.close()


async def eventually(what: Callable[[], Any], limit_s: float = 10.0) -> None:
    give_up = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < give_up, f"did not happen: {what}"
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def booted(site: Site) -> AsyncIterator[Box]:
    box = Box(site)
    try:
        await box.reloader.boot()
        yield box
    finally:
        await box.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture(params=["just written", "at rest"])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Files that changed a moment ago are read each time; of others, models stand (carried.py)."""
    if request.param == "at rest":
        monkeypatch.setattr(unchanged, "_REST_NS", -(10**18))
    made = Site(tmp_path)
    made.bundle("m", 1)
    made.bundle("m", 2)
    return made.write(ONE)


async def refused(box: Box, text: str) -> None:
    """A reload that changes nothing at all, and says ``text``."""
    before = (box.generation, box.dataplane.table, box.held(), box.reloader.config)
    digest, swaps = box.reloader.digest, len(box.links.swapped)
    assert not await box.reloader.reload()
    await eventually(lambda: box.held() == before[2])
    assert (box.generation, box.dataplane.table, box.held(), box.reloader.config) == before
    assert box.reloader.digest == digest
    assert len(box.links.swapped) == swaps
    assert not box.reloader.report.applied
    assert any(text in line for line in box.reloader.report.problems), box.reloader.report
    assert text in box.degraded["config"]
    assert "generation" in box.degraded["config"]


class TestWholeOrNothing:
    def test_a_new_release(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                assert (await box.factor(), box.generation) == (2.0, 1)
                site.write(TWO)
                assert await box.reloader.reload()
                assert (await box.factor(), box.generation) == (3.0, 2)
                assert box.held() == [("m", 1, "ready"), ("m", 2, "ready")]
                site.write(ONE.replace("m-1", "m-2"))
                assert await box.reloader.reload()
                await eventually(lambda: box.held() == [("m", 2, "ready")])
                assert box.degraded == {}
                assert box.reloader.report.applied

        run(work())

    @pytest.mark.parametrize("way", ["files", "document"])
    def test_what_was_before_is_forgotten(self, site: Site, way: str) -> None:
        """Whatever way a change came: else each would keep all that was."""

        async def work() -> None:
            async with booted(site) as box:
                for number in range(3):
                    site.write(f"{ONE.rstrip()}\nlog: {{level: {['debug', 'info'][number % 2]}}}\n")
                    if way == "files":
                        assert await box.reloader.reload()
                    else:
                        async with box.reloader.changing:
                            await box.reloader.take(site.load())
                    assert box.reloader._left == []
                assert box.generation == 4

        run(work())

    def test_the_links_refuse(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                box.links.refuse = FieldError("models.m.bundle", "the binding does not fit")
                site.write(TWO)
                await refused(box, "edged.yaml:5:7: models.m.bundle: the binding does not fit")
                assert box.listener.applied == []
                assert box.held() == [("m", 1, "ready")]
                box.links.refuse = None
                assert await box.reloader.reload()
                assert "config" not in box.degraded

        run(work())

    @pytest.mark.hostile("R31 a reload that fails changes nothing")
    def test_the_listener_refuses(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                box.listener.refuse = ApplyError("the socket is in use")
                site.write(TWO)
                await refused(box, "the socket is in use")
                assert await box.factor() == 2.0
                box.listener.refuse = ApplyError("listen.socket.path: is a folder")
                site.write(TWO + "listen:\n  socket: {path: s}\n")
                await refused(box, "edged.yaml:")
                await refused(box, ": listen.socket.path: is a folder")

        run(work())

    @pytest.mark.hostile("F7 a model that is missing or fails its check")
    def test_one_of_two_models_fails_to_load(self, site: Site) -> None:
        site.bundle("bad", 1, lying(double()))
        site.bundle("good", 1)

        async def work() -> None:
            async with booted(site) as box:
                site.write(TWO + "  good: {bundle: good-1.edgb}\n  bad:\n    bundle: bad-1.edgb\n")
                await refused(box, "edged.yaml:8:13: models.bad.bundle: ")
                assert box.held() == [("m", 1, "ready")]
                assert list(box.degraded) == ["config"]
                assert await box.factor() == 2.0
                site.write(TWO + "  good: {bundle: good-1.edgb}\n")
                assert await box.reloader.reload()
                assert await box.factor("good") == 2.0

        run(work())

    def test_the_number_cannot_be_noted(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that became read-only: the listener must not have moved already."""

        def fail(*_: Any) -> None:
            raise OSError(30, "Read-only file system")

        async def work() -> None:
            async with booted(site) as box:
                monkeypatch.setattr("edged.generation.record.write_atomically", fail)
                site.write(TWO)
                await refused(box, "Read-only file system")
                assert "see the log" not in box.degraded["config"]
                assert box.listener.applied == []

        run(work())

    def test_something_unforeseen_is_a_refusal_too(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                box.listener.refuse = ZeroDivisionError("odd")  # type: ignore[assignment]
                site.write(TWO)
                await refused(box, "ZeroDivisionError: odd; see the log")

        run(work())

    def test_broken_files(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                site.write("models: [\n")
                await refused(box, "edged.yaml:5:")
                site.config.unlink()
                await refused(box, "No such file")
                site.write(ONE)
                assert await box.reloader.reload()
                assert (box.generation, box.degraded) == (1, {})

        run(work())

    def test_a_model_that_is_taken_away(self, site: Site) -> None:
        site.bundle("bad", 1, lying(double()))
        site.write(ONE + "  bad: {bundle: bad-1.edgb}\n")

        async def work() -> None:
            async with booted(site) as box:
                assert "model.bad" in box.degraded
                site.write(ONE)
                assert await box.reloader.reload()
                assert box.degraded == {}
                await eventually(lambda: box.held() == [("m", 1, "ready")])

        run(work())


class TestUnchanged:
    def test_nothing_is_done(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                table, swaps = box.dataplane.table, len(box.links.swapped)
                assert await box.reloader.reload()
                assert box.dataplane.table is table
                assert len(box.links.swapped) == swaps
                assert box.listener.applied == []
                assert box.loads == 1

        run(work())

    def test_but_credentials_are_looked_at(self, site: Site) -> None:
        """Their values are in no digest."""

        async def work() -> None:
            async with booted(site) as box:
                assert await box.reloader.reload()
                assert box.links.refreshed == 1

        run(work())

    def test_a_bundle_with_other_contents_is_a_change(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                site.bundle("m", 1, double(factor=9))
                assert await box.reloader.reload()
                assert (await box.factor(), box.generation) == (9.0, 2)
                await eventually(lambda: box.held() == [("m", 1, "ready")])

        run(work())

    def test_another_key_under_the_same_name_is_a_change(self, site: Site) -> None:
        private, public = make_keys(site.directory, "ours")
        site.bundle("m", 1, key=private)
        site.write(ONE, trust="trust: {keys: [ours.pub]}\n")

        async def work() -> None:
            async with booted(site) as box:
                assert box.degraded == {}
                assert public in box.reloader.followed()
                _, other = make_keys(site.directory, "other")
                other.replace(public)
                await refused(box, "m-1.edgb: ")

        run(work())


class TestFilesOfSteps:
    """A file that a step reads is part of the configuration."""

    BODY = """\
models: {m: {bundle: m-1.edgb}}
pipelines:
  p:
    inputs: {x: "float32[batch,4]"}
    steps:
      - {name: guess, model: m, inputs: x}
      - {name: named, labels: {from: guess.y, file: names.txt}}
    outputs: {label: named.label}
"""

    @staticmethod
    async def label(box: Box) -> str:
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        x = np.array([[1, 9, 2, 3]], np.float32)
        request = InferRequest("p", {"x": x})
        box.dataplane.submit(request, lambda response, _final: future.set_result(response))
        response = await future
        assert response.error is None, response.error
        return bytes(response.outputs["label"][0]).rstrip(b"\0").decode()

    def test_is_watched_applied_and_refused_as_a_whole(self, site: Site) -> None:
        site.bundle("m", 1)
        names = site.directory / "names.txt"
        names.write_text("a\nb\nc\nd\n")
        site.write(self.BODY)

        async def work() -> None:
            async with booted(site) as box:
                assert names in box.reloader.followed()
                assert (await self.label(box), box.generation) == ("b", 1)
                names.write_text("a\nbird\nc\nd\n")
                assert await box.reloader.reload()
                assert (await self.label(box), box.generation) == ("bird", 2)
                names.write_text("a\nb\n")
                await refused(box, "labels.file: has 2 labels")
                assert (await self.label(box), box.generation) == ("bird", 2)
                names.unlink()
                await refused(box, "names.txt")
                names.write_text("a\nbee\nc\nd\n")
                assert await box.reloader.reload()
                assert (await self.label(box), box.generation) == ("bee", 3)
                assert await box.reloader.reload()
                assert box.generation == 3, "nothing has changed"

        run(work())


class TestRequests:
    def test_many_are_answered_by_one_more(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                seen: list[str] = []
                box.reloader.on_begin = lambda: seen.append("begin")
                box.reloader.on_end = lambda: seen.append("end")
                for _ in range(5):
                    box.reloader.request()
                await eventually(lambda: seen == ["begin", "end"])
                box.reloader.request()
                await asyncio.sleep(0)
                for _ in range(5):
                    box.reloader.request()
                await eventually(lambda: len(seen) == 6)
                await asyncio.sleep(0.02)
                assert seen == ["begin", "end"] * 3

        run(work())

    def test_a_file_being_written_is_left_alone(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                box.reloader.is_writing = lambda: True
                site.write(TWO)
                before = box.reloader.report
                assert not await box.reloader.reload()
                assert (box.generation, box.reloader.report) == (1, before)
                assert "config" not in box.degraded
                box.reloader.is_writing = lambda: False
                assert await box.reloader.reload()
                assert box.generation == 2

        run(work())

    @pytest.mark.hostile("F8 an editor that truncates and then writes in pieces")
    def test_what_an_editor_leaves_between_two_steps_is_not_refused(self, site: Site) -> None:
        """Truncated while it was read: nobody is told of an empty file that is none any more."""

        async def work() -> None:
            async with booted(site) as box:
                box.reloader.changes = itertools.count().__next__
                site.config.write_text("")
                before = box.reloader.report
                assert not await box.reloader.reload()
                assert (box.generation, box.reloader.report) == (1, before)
                assert "config" not in box.degraded
                box.reloader.changes = lambda: 9
                assert not await box.reloader.reload()
                assert "says nothing" in box.degraded["config"]

        run(work())

    def test_a_stop_ends_the_reload_and_takes_no_more(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                box.gate = threading.Event()
                tasks = len(asyncio.all_tasks())
                site.write(TWO)
                box.reloader.request()
                await eventually(lambda: box.loads == 2)
                box.reloader.stop()
                await asyncio.sleep(0)
                box.gate.set()
                assert box.generation == 1
                box.reloader.request()
                await asyncio.sleep(0.01)
                assert box.generation == 1
                assert len(asyncio.all_tasks()) == tasks

        run(work())


class Wall:
    """The wall clock, set anew by whoever owns the device; the monotonic one goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset_s = 0.0
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + self.offset_s)


STEPS = {"an hour back": -3600.0, "ten years on": 3.2e8, "to 1970": 60.0 - time.time()}


class TestClock:
    """A device gets its time from the network whenever that comes up."""

    @pytest.mark.parametrize("step", STEPS)
    def test_a_step_in_the_middle_of_a_reload(
        self, site: Site, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wall = Wall(monkeypatch)

        async def work() -> None:
            async with booted(site) as box:
                box.gate = threading.Event()
                site.write(TWO)
                task = asyncio.ensure_future(box.reloader.reload())
                await eventually(lambda: box.loads == 2)
                wall.offset_s = STEPS[step]
                assert await box.factor() == 2.0, "what served goes on"
                assert not task.done()
                box.gate.set()
                assert await task
                assert (await box.ask()).release == 2
                assert (box.generation, box.degraded) == (2, {})
                assert abs(box.reloader.report.at - time.time()) < 60, "shown as the clock has it"

        run(work())

    @pytest.mark.parametrize("step", STEPS)
    def test_a_step_while_a_failed_load_waits_for_its_next_try(
        self, site: Site, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is tried again when it is due, not an hour late and not at once."""
        wall, tries = Wall(monkeypatch), [0]

        def load(*arguments: Any, **more: Any) -> Loaded:
            tries[0] += 1
            if tries[0] == 1:
                raise MemoryError
            return load_release(*arguments, **more)

        monkeypatch.setattr("edged.serving.trial.load_release", load)

        async def work() -> None:
            clock = Clock(monkeypatch)
            box = Box(site)
            try:
                await box.reloader.boot()
                assert list(box.degraded) == ["model.m"]
                wall.offset_s = STEPS[step]
                await clock.forward(990_000_000)
                assert tries == [1]
                ages = box.health.ages_ns(time.monotonic_ns()).values()
                assert all(0 <= age_ns <= 990_000_000 for age_ns in ages)
                await clock.forward(20_000_000)
                await until(lambda: not box.degraded)
                assert await box.factor() == 2.0
            finally:
                await box.close()

        asyncio.run(work())


BOUND = (
    "mqtt: {host: nowhere}\n"
    "models:\n  m: {bundle: m-1.edgb}\n  n: {bundle: n-1.edgb, required: false}\n"
    "bindings:\n"
    "  - {name: one, from: a/in, to: a/out, model: m}\n"
    "  - {name: two, from: b/in, to: b/out, model: n}\n"
)


class TestBindings:
    def test_pending_at_boot_until_their_model_is_ready(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The model's first load fails, as for want of memory; a later one succeeds."""
        site.bundle("n", 1)
        site.write(BOUND)
        monkeypatch.setattr("edged.serving.manager.retry_delay_ns", lambda _: 5_000_000)
        failing = True

        def load(stored: Stored, *arguments: Any, **more: Any) -> Loaded:
            if failing and stored.manifest.name == "n":
                raise MemoryError
            return load_release(stored, *arguments, **more)

        monkeypatch.setattr("edged.serving.trial.load_release", load)

        async def work() -> None:
            box = Box(site)
            try:
                await box.reloader.boot()
                assert box.links.swapped == [("one",)]
                assert "no release answers yet" in box.degraded["binding.two"]
                assert "model.n" in box.degraded
                nonlocal failing
                failing = False
                await eventually(lambda: box.links.swapped[-1] == ("one", "two"))
                assert box.degraded == {}
            finally:
                await box.close()

        run(work())

    def test_a_binding_that_is_taken_away_is_no_degradation(self, site: Site) -> None:
        site.bundle("n", 1, lying(double()))
        site.write(BOUND)

        async def work() -> None:
            async with booted(site) as box:
                assert "binding.two" in box.degraded
                site.write("\n".join(BOUND.splitlines()[:-1]) + "\n")
                assert await box.reloader.reload()
                assert list(box.degraded) == ["model.n"]

        run(work())

    def test_one_that_waits_does_not_hold_up_other_changes(self, site: Site) -> None:
        site.bundle("n", 1, lying(double()))
        site.write(BOUND)

        async def work() -> None:
            async with booted(site) as box:
                site.write(BOUND.replace("m-1", "m-2"))
                assert await box.reloader.reload(), box.reloader.report
                assert await box.factor() == 3.0
                assert box.links.swapped[-1] == ("one",)
                assert sorted(box.degraded) == ["binding.two", "model.n"]
                site.write(BOUND.replace("b/in", "c/in"))
                await refused(box, "edged.yaml:10:")

        run(work())

    def test_a_late_swap_does_not_undo_a_reload(self, site: Site) -> None:
        """A model became ready and its bindings are to be swapped in; the reload was quicker."""
        site.bundle("n", 1)
        site.write(BOUND)

        async def work() -> None:
            async with booted(site) as box:
                box.reloader._retry_bindings()
                box.reloader._candidate = type(box.reloader._candidate)(site.load(), {})
                before = list(box.links.swapped)
                await asyncio.sleep(0.02)
                assert box.links.swapped == before

        run(work())


class TestBoot:
    def test_a_model_that_fails_and_one_that_serves(self, site: Site) -> None:
        site.bundle("bad", 1, lying(double()))
        site.write(ONE + "  bad: {bundle: bad-1.edgb}\n  gone: {bundle: gone-1.edgb}\n")

        async def work() -> None:
            async with booted(site) as box:
                assert await box.factor() == 2.0
                assert sorted(box.degraded) == ["model.bad", "model.gone"]
                assert "golden" in box.degraded["model.bad"]
                assert "gone-1.edgb" in box.degraded["model.gone"]
                assert not box.reloader.report.applied
                assert "gone-1.edgb" in box.reloader.report.problems[0]

        run(work())

    def break_release(self, site: Site) -> None:
        """Serve release 1, then ask for a release 2 that does not load."""

        async def first() -> None:
            async with booted(site) as box:
                assert await box.factor() == 2.0

        run(first())
        site.bundle("m", 2, lying(double(factor=3)))
        site.write(ONE.replace("m-1", "m-2"))

    def test_the_last_good_release_serves(self, site: Site) -> None:
        self.break_release(site)

        async def work() -> None:
            async with booted(site) as box:
                assert await box.factor() == 2.0
                assert "the last good one) serves" in box.degraded["model.m"]
                assert "release 2 failed" in box.degraded["model.m"]
                site.bundle("m", 2, double(factor=5))
                assert await box.reloader.reload()
                assert await box.factor() == 5.0
                assert box.degraded == {}
                await eventually(lambda: box.held() == [("m", 2, "ready")])

        run(work())

    def test_the_last_good_release_serves_on_after_other_changes(self, site: Site) -> None:
        self.break_release(site)
        site.bundle("n", 1)

        async def work() -> None:
            async with booted(site) as box:
                site.write(ONE.replace("m-1", "m-2") + "  n: {bundle: n-1.edgb}\n")
                assert await box.reloader.reload()
                assert await box.factor("n") == 2.0
                assert await box.factor() == 2.0
                assert "the last good one) serves" in box.degraded["model.m"]
                site.write("models:\n  n: {bundle: n-1.edgb}\n")
                assert await box.reloader.reload()
                await eventually(lambda: box.held() == [("n", 1, "ready")])
                assert box.degraded == {}

        run(work())

    @pytest.mark.parametrize("is_trusted", [True, False])
    @pytest.mark.hostile("R32 a right that goes takes along what it granted")
    def test_only_while_its_key_is_trusted(self, site: Site, is_trusted: bool) -> None:
        private, _ = make_keys(site.directory, "ours")
        make_keys(site.directory, "other")
        site.bundle("m", 1, key=private)
        site.write(ONE, trust="trust: {keys: [ours.pub]}\n")

        async def first() -> None:
            async with booted(site) as box:
                assert await box.factor() == 2.0

        run(first())
        (site.directory / "m-1.edgb").unlink()
        if not is_trusted:
            site.write(ONE, trust="trust: {keys: [other.pub]}\n")

        async def work() -> None:
            async with booted(site) as box:
                answer = await box.ask()
                assert (answer.error is None) is is_trusted
                assert "model.m" in box.degraded
                assert "m-1.edgb" in box.degraded["model.m"]

        run(work())

    @pytest.mark.hostile("R32 a right that goes takes along what it granted")
    def test_a_fallback_loses_its_key_while_it_serves(self, site: Site) -> None:
        private, public = make_keys(site.directory, "ours")
        other, _ = make_keys(site.directory, "other")
        site.bundle("m", 1, key=private)
        site.write(ONE, trust="trust: {keys: [ours.pub, other.pub]}\n")

        async def first() -> None:
            async with booted(site) as box:
                assert await box.factor() == 2.0

        run(first())
        site.bundle("m", 2, lying(double()), key=other)
        two = ONE.replace("m-1", "m-2")
        site.write(two, trust="trust: {keys: [ours.pub, other.pub]}\n")

        async def work() -> None:
            async with booted(site) as box:
                assert await box.factor() == 2.0
                site.write(two, trust="trust: {keys: [other.pub]}\n")
                assert await box.reloader.reload()
                assert (await box.ask()).error is not None

        run(work())
        assert public.exists()

    def test_a_state_directory_that_cannot_be_written(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bundles are in the store already; nothing new can be noted."""

        async def first() -> None:
            async with booted(site) as box:
                assert await box.factor() == 2.0

        run(first())
        site.write(ONE.replace("}", ", aliases: {old: 1}}"))

        def fail(*_: Any, **__: Any) -> None:
            raise OSError(30, "Read-only file system")

        async def work() -> None:
            monkeypatch.setattr("edged.generation.record.write_atomically", fail)
            monkeypatch.setattr("edged.generation.record.save", fail)
            async with booted(site) as box:
                assert await box.factor() == 2.0
                assert box.generation == 2  # 1 is another configuration's
                assert list(box.degraded) == ["generation.number", "last-good"]
                assert "Read-only file system" in box.degraded["last-good"]

        run(work())

    def test_numbers_go_on_after_a_restart(self, site: Site) -> None:
        async def work(expected: int) -> None:
            async with booted(site) as box:
                assert box.generation == expected
                assert box.reloader.report.applied

        run(work(1))
        run(work(1))
        site.write(TWO)
        run(work(2))
        shutil.rmtree(site.state / "last-good")
        run(work(2))
        assert (site.state / "last-good/current").exists()


class TestReview:
    def test_degradations_come_and_go(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """A model that fails at boot and loads at a later try."""
        monkeypatch.setattr("edged.serving.manager.retry_delay_ns", lambda _: 1_000_000)

        async def work() -> None:
            box = Box(site)
            create = box._create_runtime
            is_short = threading.Event()
            is_short.set()

            def sometimes(name: str) -> Runtime:
                if is_short.is_set():
                    raise MemoryError
                return create(name)

            box.manager.loader._create_runtime = sometimes
            try:
                await box.reloader.boot()
                assert "model.m" in box.degraded
                assert not box.dataplane.table.routes["m"].is_ready
                is_short.clear()
                await eventually(lambda: box.degraded == {})
                assert await box.factor() == 2.0
            finally:
                await box.close()

        run(work())

    def test_settings_that_need_a_restart(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                site.write("runtime: {threads: 2}\n" + ONE)
                assert await box.reloader.reload()
                assert box.degraded["restart"] == "takes effect after a restart: runtime.threads"
                site.write(ONE)
                assert await box.reloader.reload()
                assert box.degraded == {}

        run(work())

    def test_limits_change_in_place(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                (before,) = box.manager.releases()
                site.write("models:\n  m: {bundle: m-1.edgb, batching: {max_batch: 3}}\n")
                assert await box.reloader.reload()
                (after,) = box.manager.releases()
                assert after is before
                assert after.config.batching.max_batch == 3
                assert after.state is State.READY
                assert box.loads == 1

        run(work())
