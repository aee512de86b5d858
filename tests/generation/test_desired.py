"""Configuration over MQTT without a broker: decided once, whole or not at all, and finished later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edged.config.documents import STATE
from edged.faults import ERROR_VARIABLE
from edged.generation.desired import Desired
from edged.generation.documents import TRIES_CAP, Documents
from edged.generation.envelope import Envelope, payload_digest, seal
from tests.fakes.site import Site
from tests.generation.test_reload import ONE, TWO, Box, booted, eventually, run
from tests.generation.test_returns import confirmed, fail
from tests.trust import Ring

FAST = "reload: {confirm: {window: 0}}\nmqtt: {host: b, desired: {}}\n"
SLOW = FAST.replace("window: 0", "window: 1h")
NEW = "models:\n  n: {bundle: n-1.edgb}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    for name in "mn":
        made.bundle(name, 1)
    return made.write(FAST + ONE)


class Stand:
    """A box, and the part of it that documents come to."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.reports: list[dict[str, Any]] = []
        self.acked: list[int] = []
        self.desired = Desired(box.reloader._house, box.reloader, self.reports.append)
        box.reloader.on_verdict = box.reloader.on_end = self.desired.refresh_soon

    @property
    def documents(self) -> Documents:
        return self.box.reloader._house.record.documents

    def message(self, version: int, document: str = NEW, **words: Any) -> bytes:
        fields = {"node": "test", "against": self.box.reloader.digest, **words}
        return seal(Envelope(version, document=document, **fields), [])

    def offer(self, payload: bytes, number: int = 0) -> None:
        self.desired.offer(payload, lambda: self.acked.append(number))

    async def decided(self, version: int, what: str) -> dict[str, Any]:
        def is_it() -> bool:
            last = self.reports[-1]["desired"] if self.reports else None
            return last is not None and (last["version"], last["state"]) == (version, what)

        await eventually(is_it)
        return self.reports[-1]

    def models(self) -> list[str]:
        return sorted(self.box.dataplane.table.routes)


@contextlib.asynccontextmanager
async def standing(site: Site) -> AsyncIterator[Stand]:
    async with booted(site) as box:
        stand = Stand(box)
        await eventually(
            lambda: box.reloader.window_left_s is None or "1h" in str(site.config.read_text())
        )
        await stand.desired.start()
        try:
            yield stand
        finally:
            stand.desired.stop()
            await asyncio.sleep(0)


def test_of_several_that_wait_the_newest_counts(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with standing(site) as stand:
            stand.offer(b"first", 1)
            stand.offer(stand.message(1, "models: {}\n"), 2)
            stand.offer(payload := stand.message(2), 3)
            assert stand.acked == [1, 2]
            report = await stand.decided(2, "accepted")
            assert (report["version"], report["refused"], stand.models()) == (2, None, ["m", "n"])
            await eventually(lambda: stand.acked == [1, 2, 3])
            stand.offer(payload, 4)
            await eventually(lambda: stand.desired.repeated == 1)
            for number in (5, 6):
                stand.offer(b"garbage", number)
                await eventually(lambda number=number: number in stand.acked)
            assert (stand.desired.refused, stand.desired.repeated) == (1, 2)
        assert caplog.text.count("takes configuration from ANYBODY") == 1

    run(work())


def test_what_could_not_be_noted_as_good_is_not_reported_as_confirmed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with standing(site) as stand:
            reloader = stand.box.reloader

            def full(*_: Any) -> None:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(reloader._history, "confirm", full)
            stand.offer(stand.message(1), 1)
            await eventually(lambda: "No space left" in reloader.unnoted)
            report = stand.desired.document()
            assert report is not None
            assert (report["version"], report["confirmed"]) == (1, False)

    run(work())


def test_one_that_comes_while_the_daemon_boots_waits(site: Site) -> None:
    """A broker may have it kept for us; the boot is no reload, and builds what it would change."""

    async def work() -> None:
        async with booted(site) as box:
            stand = Stand(box)
            await eventually(lambda: box.reloader.window_left_s is None)
            stand.offer(stand.message(1), 1)
            for _ in range(5):
                await asyncio.to_thread(int)
            assert (stand.desired._task, stand.documents.state().seen) == (None, 0)
            await stand.desired.start()
            await stand.decided(1, "accepted")
            assert stand.models() == ["m", "n"]
            stand.desired.stop()
            await asyncio.sleep(0)

    run(work())


def test_a_version_is_used_once_also_by_a_refusal(site: Site) -> None:
    async def work() -> None:
        async with standing(site) as stand:
            digest = stand.box.reloader.digest
            late = stand.message(5, against=digest[:12])
            stand.offer(stand.message(5, "models: {}\n", against="0" * 64), 1)
            report = await stand.decided(5, "rejected")
            assert f"in effect is generation 1, digest {digest}" in report["desired"]["problems"][0]
            for number, payload in enumerate([late, stand.message(4)], 2):
                stand.offer(payload, number)
                await eventually(lambda number=number: number in stand.acked)
                (problem,) = stand.reports[-1]["refused"]["problems"]
                assert "was used; 5 is the last one" in problem
            assert (stand.models(), stand.box.reloader.digest) == (["m"], digest)
            stand.offer(stand.message(6, against=1), 4)
            await stand.decided(6, "accepted")

    run(work())


def test_half_a_file_of_the_operator_is_waited_for(site: Site) -> None:
    async def work() -> None:
        async with standing(site) as stand:
            looks = iter([True, True])
            stand.box.reloader.is_writing = lambda: next(looks, False)
            stand.offer(stand.message(1))
            await stand.decided(1, "accepted")
            assert next(looks, None) is None

    run(work())


def test_worse_than_before(site: Site) -> None:
    async def work() -> None:
        async with standing(site) as stand:
            box = stand.box
            await eventually(lambda: confirmed(site, 1))
            site.write(SLOW + ONE)
            assert await box.reloader.reload()
            box.reloader._window_over("")
            await eventually(lambda: confirmed(site, 1, 2))
            digest = box.reloader.digest
            stand.offer(stand.message(1))
            report = await stand.decided(1, "trying")
            assert (report["version"], report["confirmed"]) == (1, False)
            fail(box)
            report = await stand.decided(1, "returned")
            await eventually(lambda: stand.reports[-1]["applied"])
            assert "answers failed" in report["desired"]["problems"][0]
            assert (box.reloader.digest, stand.models(), box.degraded) == (digest, ["m"], {})
            assert box.reloader.report.applied
            assert await box.reloader.reload()  # and the files say the same
            assert box.reloader.digest == digest

    run(work())


def test_damaged_notes_keep_nothing_that_is_worse(site: Site) -> None:
    site.write(SLOW + ONE)

    async def work() -> None:
        async with standing(site) as stand:
            box = stand.box
            box.reloader._window_over("")
            await eventually(lambda: confirmed(site, 1))
            stand.offer(stand.message(1))
            await stand.decided(1, "trying")
            (stand.documents.directory / STATE).write_bytes(b"{")
            fail(box)
            await eventually(lambda: stand.models() == ["m"])
            assert await box.factor() == 2.0

    run(work())


class TestAfterADeath:
    """Begun, and not decided: the notes say so, and the next start decides."""

    def begin(self, site: Site, base: str | None = None, tries: int = 1) -> str:
        found: list[str] = []

        async def work() -> None:
            async with standing(site) as stand:
                payload = stand.message(1)
                words = (1, payload_digest(payload), NEW, base or stand.box.reloader.digest)
                for _ in range(tries):
                    stand.documents.begin(*words)
                found.append(stand.box.reloader.digest)

        run(work())
        return found[0]

    def test_it_is_finished(self, site: Site) -> None:
        self.begin(site)

        async def work() -> None:
            async with standing(site) as stand:
                report = await stand.decided(1, "accepted")
                assert (report["version"], stand.models()) == (1, ["m", "n"])

        run(work())

    @pytest.mark.parametrize(
        ("base", "tries", "said"),
        [(None, TRIES_CAP, "the daemon died 2 times with it"), ("0" * 64, 1, "has changed")],
    )
    def test_it_is_not(self, site: Site, base: str | None, tries: int, said: str) -> None:
        self.begin(site, base, tries)

        async def work() -> None:
            async with standing(site) as stand:
                report = await stand.decided(1, "rejected")
                assert said in report["desired"]["problems"][0]
                assert stand.models() == ["m"]

        run(work())


@pytest.mark.parametrize("step", ["desired.before", "desired.written", "desired.applied"])
def test_a_disk_that_cannot_note_it(site: Site, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be noted does not serve: after a restart it would be gone without a word."""

    async def work() -> None:
        async with standing(site) as stand:
            digest = stand.box.reloader.digest
            monkeypatch.setenv(ERROR_VARIABLE, step)
            stand.offer(stand.message(1), 1)
            await eventually(lambda: stand.acked == [1])
            monkeypatch.delenv(ERROR_VARIABLE)
            await eventually(lambda: stand.box.reloader.digest == digest)
            await eventually(lambda: stand.models() == ["m"])
            assert stand.desired.refused == 1

    run(work())


def test_damaged_notes_let_nothing_in(site: Site) -> None:
    async def work() -> None:
        async with standing(site) as stand:
            stand.documents.directory.mkdir()
            (stand.documents.directory / STATE).write_bytes(b"{")
            stand.offer(stand.message(1), 1)
            await eventually(lambda: stand.acked == [1])
            (problem,) = stand.reports[-1]["refused"]["problems"]
            assert "config/desired/state.json is damaged" in problem
            assert stand.models() == ["m"]

    run(work())


def test_nothing_is_taken_where_nothing_may_come(site: Site) -> None:
    site.write(FAST.replace(", desired: {}", "") + ONE)

    async def work() -> None:
        async with standing(site) as stand:
            stand.offer(stand.message(1), 1)
            await eventually(lambda: stand.acked == [1])
            assert (stand.models(), stand.reports, stand.desired.document()) == (["m"], [], None)

    run(work())


@pytest.mark.hostile("R32 a right that goes takes along what it granted")
def test_a_key_that_was_taken_away_is_no_word_with_a_configuration_that_came_back(
    site: Site,
) -> None:
    """Whoever has a stolen one may be the one who makes a device go back."""
    ring, other = Ring(site.directory), FAST.replace("window: 0", "window: 1h")
    both = "desired: {keys: [a.pub, b.pub]}"
    site.write(FAST.replace("desired: {}", both) + ONE)
    signers = {name: ring[name] for name in "ab"}

    def message(stand: Stand, version: int, names: str) -> bytes:
        envelope = Envelope(version, document=NEW, node="test", against=stand.box.reloader.digest)
        return seal(envelope, [signers[name] for name in names])

    async def work() -> None:
        async with standing(site) as stand:
            await eventually(lambda: confirmed(site, 1))
            site.bundle("m", 2)
            site.write(other.replace("desired: {}", "desired: {keys: [a.pub]}") + TWO)
            assert await stand.box.reloader.reload()
            fail(stand.box)
            await eventually(lambda: stand.box.generation == 3 and "config" in stand.box.degraded)
            stand.offer(message(stand, 1, "b"), 1)
            await eventually(lambda: stand.acked == [1])
            (problem,) = stand.reports[-1]["refused"]["problems"]
            assert "signed by 0 of 1" in problem
            assert (stand.models(), stand.documents.state().seen) == (["m"], 0)
            stand.offer(message(stand, 1, "a"), 2)
            await eventually(lambda: stand.acked == [1, 2])
            assert stand.documents.state().seen == 1, "by one that both trust"

    run(work())
