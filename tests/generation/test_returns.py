"""Going back, with a real store and a real runtime: by itself, by order, and never in a circle."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from edged.errors import BusyError, InvalidRequestError, QueueFullError, RunError
from edged.faults import ERROR_VARIABLE
from edged.generation.content import content_digest
from edged.generation.history import History, Order
from edged.serving.release import ServedRelease
from edged.store.bundle import bundle_digest, read_manifest
from edged.store.floors import Floors
from tests.fakes.site import Site
from tests.generation.test_reload import ONE, TWO, Box, booted, eventually, run
from tests.models import double

FAST = "reload: {confirm: {window: 0}}\n"
SLOW = "reload: {confirm: {window: 1h}}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.bundle("m", 1)
    made.bundle("m", 2)
    return made.write(FAST + ONE)


def history(site: Site) -> History:
    return History(site.state / "history")


def confirmed(site: Site, *numbers: int) -> bool:
    return history(site).marks().confirmed == numbers


def fail(box: Box, count: int = 10) -> None:
    """Answers of what serves that are errors of ours."""
    release = box.dataplane.table.routes["m"].default_release()
    assert isinstance(release, ServedRelease)
    for _ in range(count):
        release.counters.answered("uds:0", RunError("no"), 1)


async def on_trial(box: Box, site: Site) -> None:
    """Generation 2 takes effect, and its window is open for an hour."""
    await eventually(lambda: confirmed(site, 1))
    site.write(SLOW + TWO)
    assert await box.reloader.reload()


async def proven(box: Box, site: Site, models: str) -> None:
    """Generation 2 takes effect and proves good."""
    await eventually(lambda: confirmed(site, 1))
    site.write(FAST + models)
    assert await box.reloader.reload()
    await eventually(lambda: confirmed(site, 1, 2))


async def worse(box: Box, site: Site) -> None:
    """Generation 2 takes effect and breaches its window."""
    await on_trial(box, site)
    assert (await box.factor(), box.generation) == (3.0, 2)
    assert box.reloader.window_left_s is not None
    fail(box)
    await eventually(lambda: box.generation == 3 and "config" in box.degraded)


class TestWindow:
    @pytest.mark.hostile("F12 a valid change that makes a canary worse")
    def test_what_is_worse_goes_and_does_not_come_again(self, site: Site) -> None:
        """valid config that makes canary health worse → automatic rollback, recorded, not retried
        after restart."""

        async def work() -> None:
            async with booted(site) as box:
                await worse(box, site)
                assert await box.factor() == 2.0
                assert "10 of 11 answers failed" in box.degraded["config"]
                assert "edged apply --again" in box.degraded["config"]
                for _ in range(2):
                    assert not await box.reloader.reload()
                assert (box.generation, await box.factor()) == (3, 2.0)
                (rejection,) = history(site).marks().rejected
                assert rejection.generation == 2
            async with booted(site) as box:
                assert "set aside" in box.problems[0]
                assert (await box.factor(), box.generation) == (2.0, 3)
                site.write(SLOW + TWO.replace("]}", "], aliases: {a: 1}}"))
                assert await box.reloader.reload()
                assert await box.factor() == 3.0
                assert box.degraded == {}
                assert history(site).entries()[-1].origin == "files", "an edit, and no way back"

        run(work())

    def test_refusals_count(self, site: Site) -> None:
        """A model that cannot take requests, say: what is refused reaches no release."""

        async def work() -> None:
            async with booted(site) as box:
                await on_trial(box, site)
                others = (InvalidRequestError("no"), QueueFullError("full"))
                for model, error in (*(("m", one) for one in others), ("x", BusyError("no"))):
                    # Their own fault, or anybody's who wants to undo a change by asking too much,
                    # and no model of ours.
                    for _ in range(10):
                        box.dataplane.count_refusal(model, "uds:0", error)
                for _ in range(10):
                    box.dataplane.count_refusal("m", "uds:0", BusyError("not now"))
                await eventually(lambda: "config" in box.degraded)
                assert "10 of 10 answers failed" in box.degraded["config"]

        run(work())

    def test_good_ones_are_confirmed(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                await proven(box, site, TWO)
                assert history(site).marks().trying is None

        run(work())

    def test_a_floor_rises_when_the_release_that_says_so_proved_good(self, site: Site) -> None:
        async def work() -> None:
            floors = Floors(site.state)
            site.bundle("m", 2, floor=2)
            async with booted(site) as box:
                await on_trial(box, site)
                assert await box.factor() == 3.0
                assert floors.all() == {}, "it may still have to be left"
                site.write(FAST + TWO)
                assert await box.reloader.reload()
                await eventually(lambda: floors.all() == {"m": 2})
                site.write(FAST + ONE)
                assert not await box.reloader.reload()
                assert "below the floor" in box.degraded["config"]
                assert await box.factor() == 3.0

        run(work())

    def test_a_floor_that_a_cut_came_before_rises_with_the_next_start(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_words: object) -> None:
            raise OSError(28, "No space left on device")

        async def work() -> None:
            floors = Floors(site.state)
            site.bundle("m", 2, floor=2)
            site.write(FAST + TWO)
            with monkeypatch.context() as cut:
                cut.setattr(Floors, "rise", fail)
                async with booted(site):
                    await eventually(lambda: confirmed(site, 1))
            assert floors.all() == {}
            async with booted(site):
                await eventually(lambda: floors.all() == {"m": 2})

        run(work())

    def test_the_bundles_come_from_the_store(self, site: Site) -> None:
        """The last good configuration is there with its files, also when they are gone."""

        async def work() -> None:
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                (site.directory / "m-1.edgb").unlink()
                site.write(SLOW + ONE.replace("m-1", "m-2"))
                assert await box.reloader.reload()
                assert await box.factor() == 3.0
                fail(box)
                await eventually(lambda: box.generation == 3 and "config" in box.degraded)
                assert await box.factor() == 2.0
            async with booted(site) as box:
                assert await box.factor() == 2.0

        run(work())

    def test_never_by_other_contents_than_it_had(self, site: Site) -> None:
        """A generation whose bundle is lost is passed over; the one before it is whole."""

        async def work() -> None:
            async with booted(site) as box:
                lost = site.bundle("m", 3)
                await proven(box, site, ONE.replace("m-1", "m-3"))
                shutil.rmtree(site.state / "store" / bundle_digest(read_manifest(lost)[0]))
                site.bundle("m", 3, double(factor=9))  # is not what generation 2 served
                site.write(SLOW + ONE.replace("m-1", "m-2"))
                assert await box.reloader.reload()
                fail(box)
                await eventually(lambda: box.generation == 4 and "config" in box.degraded)
                assert await box.factor() == 2.0
                history(site).order(Order(2))
                await box.reloader.reload()
                assert box.reloader.went_back is not None
                assert "generation 2 served it" in box.reloader.went_back["problem"]
                assert (await box.factor(), box.generation) == (2.0, 4)

        run(work())

    def test_a_start_passes_over_what_is_lost_too(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                lost = site.bundle("m", 3)
                await proven(box, site, ONE.replace("m-1", "m-3"))
            shutil.rmtree(site.state / "store" / bundle_digest(read_manifest(lost)[0]))
            site.write(SLOW + TWO)
            for _ in range(6):
                history(site).begin(content_digest(site.load()), is_boot=True)
            async with booted(site) as box:
                assert await box.factor() == 2.0

        run(work())

    def test_nothing_to_go_back_to(self, site: Site) -> None:
        async def work() -> None:
            site.write(SLOW + ONE)
            async with booted(site) as box:
                await box.factor()
                fail(box)
                await eventually(lambda: "generation" in box.degraded)
                assert "none before it proved good" in box.degraded["generation"]
                assert (await box.factor(), box.generation) == (2.0, 1)
                assert history(site).marks().rejected == ()

        run(work())

    def test_a_disk_that_does_not_take_the_verdict(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def work() -> None:
            async with booted(site) as box:
                await on_trial(box, site)
                monkeypatch.setenv(ERROR_VARIABLE, "marks.before")
                fail(box)
                await eventually(lambda: "generation" in box.degraded)
                assert "Input/output" in box.degraded["generation"]

        run(work())

    def test_a_disk_that_does_not_take_that_it_proved_good(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever waits for that is not told that it did; it is noted once the disk takes it."""

        async def work() -> None:
            monkeypatch.setattr("edged.generation.returns._AFTER_S", 0.05)
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                site.write(FAST + TWO)
                real = box.reloader._history.confirm
                monkeypatch.setattr(box.reloader._history, "confirm", _read_only)
                assert await box.reloader.reload()
                await eventually(lambda: box.reloader.unnoted)
                assert "it served well, which could not be noted" in box.degraded["generation"]
                monkeypatch.setattr(box.reloader._history, "confirm", real)
                await eventually(lambda: confirmed(site, 1, 2) and not box.reloader.unnoted)
                await eventually(lambda: "generation" not in box.degraded)

        run(work())

    def test_a_way_back_that_the_disk_was_in_is_taken_later(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def work() -> None:
            async with booted(site) as box:
                monkeypatch.setattr("edged.generation.returns._AFTER_S", 0.05)
                await on_trial(box, site)
                monkeypatch.setenv(ERROR_VARIABLE, "marks.before")
                fail(box)
                await eventually(lambda: "generation" in box.degraded)
                assert await box.factor() == 3.0
                monkeypatch.delenv(ERROR_VARIABLE)
                await eventually(lambda: bool(fail(box)) or box.generation == 3)
                assert await box.factor() == 2.0

        run(work())

    @pytest.mark.parametrize("is_bad", [True, False])
    def test_the_window_lasts_until_the_verdict_is_carried_out(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, is_bad: bool
    ) -> None:
        """``edged apply --confirmed`` would else be told that all is well by what goes back now."""

        async def work() -> None:
            async with booted(site) as box:
                await on_trial(box, site)
                seen = []
                for name in ("confirm", "last_good"):
                    real = getattr(box.reloader._history, name)

                    def slow(*words: Any, real: Any = real) -> Any:
                        seen.append(box.reloader.window_left_s)
                        return real(*words)

                    monkeypatch.setattr(box.reloader._history, name, slow)
                real_swap = box.dataplane.swap

                def swap(table: Any) -> None:
                    real_swap(table)
                    asyncio.get_running_loop().call_soon(
                        lambda: seen.append(box.reloader.window_left_s)
                    )

                monkeypatch.setattr(box.dataplane, "swap", swap)
                if is_bad:
                    fail(box)
                else:
                    box.reloader._proving.stop()
                    box.reloader._window_over("")
                await eventually(lambda: seen and box.reloader.window_left_s is None)
                assert len(seen) >= (2 if is_bad else 1)
                assert set(seen) == {0.0}
                assert box.reloader.report.applied is not is_bad

        run(work())

    def test_a_verdict_that_comes_late_is_of_another_window(self, site: Site) -> None:
        """It waited for a reload that applied the very same content anew."""

        async def work() -> None:
            async with booted(site) as box:
                await on_trial(box, site)
                async with box.reloader._lock:
                    box.reloader._window_over("it was bad")
                    assert box.reloader.window_left_s == 0.0
                    box.reloader._prove()
                    box.reloader._proving.stop()
                    assert box.reloader.window_left_s is None, "whatever waits for its turn"
                await eventually(lambda: not box.reloader._ending)
                assert (box.generation, box.degraded) == (2, {})

        run(work())


class TestFloorsLost:
    def damage(self, site: Site) -> None:
        for name in ("floor.json", "floor-2.json"):
            (site.state / name).write_bytes(b"?")

    def test_are_told_until_they_are_set_anew(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
            self.damage(site)
            async with booted(site) as box:
                assert (await box.factor(), box.problems) == (2.0, ())
                assert "edged bundle floor --from-serving" in box.degraded["floors"]
                site.write(FAST + TWO)
                assert not await box.reloader.reload()
                assert "are damaged" in box.degraded["config"]
                assert await box.factor() == 2.0
                Floors(site.state).set_by_serving()
                assert await box.reloader.reload()
                assert await box.factor() == 3.0
                assert box.degraded == {}
                self.damage(site)  # also where a look finds nothing that has changed
                assert await box.reloader.reload()
                assert list(box.degraded) == ["floors"]
                Floors(site.state).set_by_serving()
                assert await box.reloader.reload()
                assert box.degraded == {}

        run(work())

    def test_keep_no_other_change_from_being_confirmed(self, site: Site) -> None:
        """It was noted as good once a minute, and ``--confirmed`` said that it could not be."""

        async def work() -> None:
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                self.damage(site)
                site.write(FAST + ONE + "access: {rules: [{users: ['*'], allow: [infer]}]}\n")
                assert await box.reloader.reload()
                await eventually(lambda: confirmed(site, 1, 2))
                await eventually(lambda: not box.reloader._ending)
                assert box.reloader.unnoted == ""
                assert list(box.degraded) == ["floors"]

        run(work())


class TestOrders:
    def test_one_that_the_end_of_the_daemon_interrupts_is_carried_out_by_the_next(
        self, site: Site
    ) -> None:
        """The files are set aside by then, and the newest generation is not the one that was meant."""

        async def work() -> None:
            site.bundle("m", 3)
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                for number in (2, 3):
                    site.write(FAST + ONE.replace("m-1", f"m-{number}"))
                    assert await box.reloader.reload()
                    await eventually(lambda: confirmed(site, *range(1, number + 1)))  # noqa: B023
                loads, box.gate = box.loads, threading.Event()
                history(site).order(Order(1))
                box.reloader.request()
                await eventually(lambda: box.loads > loads)
                box.reloader.stop()
                await eventually(lambda: not box.reloader.changing.locked())
                box.gate.set()
            async with booted(site) as box:
                assert await box.factor() == 2.0
                assert "went back to generation 1" in box.problems[0]

        run(work())

    def test_back_and_forth(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                await proven(box, site, TWO)
                history(site).order(Order(0))
                assert not await box.reloader.reload()
                assert (await box.factor(), box.generation) == (2.0, 3)
                assert box.reloader.went_back is not None
                assert box.reloader.went_back["problem"] == ""
                assert "went back to generation 1" in box.degraded["config"]
                assert not await box.reloader.reload()  # the files are what they were
                history(site).order(Order(again=True))
                assert await box.reloader.reload()
                assert (await box.factor(), box.generation) == (3.0, 4)
                assert box.degraded == {}
                history(site).order(Order(1))
                assert not await box.reloader.reload()
                assert await box.factor() == 2.0

        run(work())

    def test_an_order_that_a_power_cut_brings_back_goes_no_further(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def work() -> None:
            async with booted(site) as box:
                await proven(box, site, TWO)
                monkeypatch.setattr(History, "forget_order", lambda _: None)
                history(site).order(Order(0))
                for _ in range(2):
                    await box.reloader.reload()
                    assert (await box.factor(), box.generation) == (2.0, 3)

        run(work())

    def test_one_that_is_refused_changes_nothing(self, site: Site) -> None:
        """Not even at the next start: the files were not left, and are not set aside."""

        async def work() -> None:
            async with booted(site) as box:
                await proven(box, site, TWO)
                Floors(site.state).set("m", 2)
                before = history(site).marks()
                history(site).order(Order(1))
                assert await box.reloader.reload()
                assert box.reloader.went_back is not None
                assert "below the floor" in box.reloader.went_back["problem"]
                assert history(site).marks() == before
                assert (await box.factor(), box.generation) == (3.0, 2)
            async with booted(site) as box:
                assert (await box.factor(), box.problems) == (3.0, ())

        run(work())

    def test_one_that_is_not_there(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                history(site).order(Order(7))
                assert await box.reloader.reload()
                assert box.reloader.went_back is not None
                assert "no generation 7" in box.reloader.went_back["problem"]
                assert history(site).ordered() is None
                assert box.generation == 1
                assert box.degraded == {}

        run(work())

    def test_at_the_next_start(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site) as box:
                await proven(box, site, TWO)
            history(site).order(Order(1))
            for _ in range(2):  # and it stays so
                async with booted(site) as box:
                    assert await box.factor() == 2.0
                    assert "went back to generation 1" in box.problems[0]

        run(work())


class TestBoot:
    def test_a_configuration_that_kills_is_left_after_three(self, site: Site) -> None:
        async def work() -> None:
            async with booted(site):
                await eventually(lambda: confirmed(site, 1))
            site.write(SLOW + TWO)
            factors = []
            for start in range(5):
                box = Box(site)
                if start:  # the run before left a traceback
                    (site.state / "crash.txt").write_text("Fatal Python error: Aborted")
                    box.repository.close()
                    box = Box(site)
                    (site.state / "crash.txt").unlink()
                await box.reloader.boot("Fatal Python error: Aborted" if start else "")
                factors.append(await box.factor())
                box.reloader._is_booted = False  # no end in good order
                await box.close()
            assert factors == [3.0, 3.0, 3.0, 2.0, 2.0]
            assert "died 3 times" in history(site).marks().rejected[0].reason

        run(work())


@pytest.mark.parametrize(
    "point", ["reload.read", "reload.begun", "reload.built", "reload.numbered", "reload.listening"]
)
def test_an_error_before_the_switch_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """error in each reload step → old, wholly; and the next try is none the worse for it."""

    async def work() -> None:
        async with booted(site) as box:
            await eventually(lambda: confirmed(site, 1))
            site.write(FAST + TWO)
            monkeypatch.setenv(ERROR_VARIABLE, point)
            assert not await box.reloader.reload()
            await eventually(lambda: box.held() == [("m", 1, "ready")])
            assert (await box.factor(), box.generation) == (2.0, 1)
            assert "Input/output" in box.degraded["config"]
            monkeypatch.delenv(ERROR_VARIABLE)
            assert await box.reloader.reload()
            assert await box.factor() == 3.0
            assert box.degraded == {}

    run(work())


@pytest.mark.parametrize("point", ["history.written", "history.renamed", "marks.written"])
def test_an_error_after_the_switch_is_said_and_the_new_one_serves(
    site: Site, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    async def work() -> None:
        async with booted(site) as box:
            await eventually(lambda: confirmed(site, 1))
            site.write(SLOW + TWO)
            if point == "marks.written":  # before the switch, so it is a refusal
                monkeypatch.setenv(ERROR_VARIABLE, point)
                assert not await box.reloader.reload()
                assert await box.factor() == 2.0
                return
            monkeypatch.setenv(ERROR_VARIABLE, point)
            assert await box.reloader.reload()
            assert (await box.factor(), box.generation) == (3.0, 2)
            assert "Input/output" in box.degraded["last-good"]

    run(work())


def _read_only(*_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
