"""Whom a generation that comes back trusts: nobody by itself whom a later one did not any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from edged.config.load import Snapshot
from edged.errors import SignatureError
from edged.generation.content import content_digest
from edged.generation.history import Order
from edged.generation.record import Record
from edged.generation.trust_back import narrow, regained
from edged.generation.trusted import load_trust
from edged.store.repository import Repository
from tests.fakes.site import Site
from tests.generation.test_reload import ONE, TWO, booted, eventually, run
from tests.generation.test_returns import FAST, SLOW, confirmed, fail, history
from tests.trust import Ring


@pytest.fixture
def site(tmp_path: Path) -> Site:
    ring = Ring(tmp_path)
    for name in "abc":
        assert ring[name]
    (tmp_path / "b-again.pub").write_bytes((tmp_path / "b.pub").read_bytes())
    (tmp_path / "site.trust").write_bytes(ring.signed(ring.document()))
    site = Site(tmp_path)
    site.bundle("m", 1, key=[ring["a"]])
    site.bundle("m", 2, key=[ring["a"]])
    return site


def trusting(site: Site, words: str, body: str = FAST + ONE) -> Site:
    return site.write(body, trust=f"trust: {{{words}}}\n")


def loaded(site: Site, words: str) -> Snapshot:
    return trusting(site, words).load()


def trusted(snapshot: Snapshot) -> str:
    """The names of the keys that count."""
    ring = Ring(snapshot.root)
    keys = load_trust(snapshot).keys
    return "".join(name for name in "abc" if ring[name].key_id in keys)


class TestNarrow:
    @pytest.mark.parametrize(
        ("old", "new", "both"),
        [
            ("keys: [a.pub, b.pub]", "keys: [a.pub]", "a"),
            ("keys: [a.pub]", "keys: [a.pub, b.pub]", "a"),
            ("keys: [b.pub, a.pub]", "keys: [a.pub, b-again.pub]", "ab"),
            ("keys: [a.pub, gone.pub]", "keys: [a.pub]", "a"),
            (f"keys: [a.pub, {'x' * 300}.pub]", "keys: [a.pub]", "a"),
            ("keys: [a.pub]", "keys: [b.pub]", ""),
            ("keys: [a.pub, b.pub, c.pub], threshold: 2", "keys: [a.pub, b.pub]", "ab"),
            ("keys: [b.pub]", "root: site.trust", "a"),
            ("root: site.trust", "keys: [b.pub]", "b"),
            ("root: site.trust", "root: site.trust", "a"),
        ],
    )
    def test_nobody_whom_either_does_not_trust(
        self, site: Site, old: str, new: str, both: str
    ) -> None:
        assert trusted(narrow(loaded(site, old), loaded(site, new))) == both

    @pytest.mark.parametrize(
        ("old", "new", "threshold", "required"),
        [
            ("keys: [a.pub, b.pub]", "keys: [a.pub, b.pub], threshold: 2", 2, True),
            ("keys: [a.pub, b.pub], threshold: 2", "keys: [a.pub, b.pub]", 2, True),
            ("require_signatures: false", "keys: [a.pub]", 1, True),
            ("keys: [a.pub]", "require_signatures: false", 1, True),
            ("require_signatures: false", "require_signatures: false", 1, False),
        ],
    )
    def test_the_stricter_of_both(
        self, site: Site, old: str, new: str, threshold: int, required: bool
    ) -> None:
        trust = narrow(loaded(site, old), loaded(site, new)).config.trust
        assert (trust.threshold, trust.require_signatures) == (threshold, required)

    def test_all_else_of_the_section_is_that_of_its_time(self, site: Site) -> None:
        back = loaded(site, "keys: [a.pub, b.pub], max_leap: 7")
        assert narrow(back, loaded(site, "keys: [a.pub]")).config.trust.max_leap == 7

    def test_what_trusts_nobody_else_is_as_it_was(self, site: Site) -> None:
        old = loaded(site, "keys: [a.pub]")
        assert narrow(old, loaded(site, "keys: [b.pub, a.pub]")) is old
        assert narrow(old, old).narrowed is None

    def test_too_few_keys_for_the_signatures_that_are_needed_trust_nobody(self, site: Site) -> None:
        back = narrow(loaded(site, "keys: [a.pub, b.pub], threshold: 2"),
                      loaded(site, "keys: [a.pub]"))  # fmt: skip
        with pytest.raises(SignatureError, match="no bundle could ever be accepted"):
            load_trust(back)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("keys: [a.pub]", "keys: [a.pub, b.pub]", ""),
        ("keys: [a.pub, b.pub]", "keys: [a.pub]", "b.pub) is trusted again"),
        ("keys: [a.pub], require_signatures: false", "keys: [a.pub]", "from anybody again"),
        ("keys: [a.pub]", "keys: [a.pub], threshold: 2", "1 signatures are enough again"),
        ("keys: [a.pub]", "root: site.trust", "in the place of the trust document; key"),
        ("root: site.trust", "keys: [a.pub]", "trust document counts again"),
        ("root: site.trust", "root: site.trust", ""),
    ],
)
def test_what_an_operator_is_told(site: Site, old: str, new: str, said: str) -> None:
    def made(words: str) -> Snapshot:
        found = loaded(site, words.replace(", threshold: 2", ""))
        trust = structs.replace(found.config.trust, threshold=2 if "2" in words else 1)
        return replace(found, config=structs.replace(found.config, trust=trust))

    found = regained(made(old), made(new))
    assert said in found if said else found == ""


class TestByItself:
    """b was trusted, then taken away; the configuration without it is worse and is left."""

    async def left(self, site: Site) -> None:
        """Boot with both keys, revoke b in a change that is worse, and go back."""
        trusting(site, "keys: [a.pub, b.pub]")
        async with booted(site) as box:
            await eventually(lambda: confirmed(site, 1))
            trusting(site, "keys: [a.pub]", SLOW + TWO)
            assert await box.reloader.reload()
            assert await box.factor() == 3.0
            fail(box)
            await eventually(lambda: box.generation == 3 and "config" in box.degraded)
            assert (await box.factor(), trusted(box.reloader.snapshot)) == (2.0, "a")
            assert "whom the later one did not trust" in box.degraded["trust"]

    @pytest.mark.hostile("R32 a right that goes takes along what it granted")
    def test_a_revoked_key_stays_out_also_after_restarts(self, site: Site) -> None:
        async def work() -> None:
            await self.left(site)
            for files in ("set aside", "broken"):
                async with booted(site) as box:
                    assert (await box.factor(), trusted(box.reloader.snapshot)) == (2.0, "a")
                    assert files != "set aside" or "set aside" in box.problems[0]
                site.config.write_text("models: [")
            # It was an operator's word once more: with a file of their own.
            trusting(site, "keys: [a.pub, b.pub]", FAST + TWO)
            async with booted(site) as box:
                assert (await box.factor(), trusted(box.reloader.snapshot)) == (3.0, "ab")
                assert "trust" not in box.degraded

        run(work())

    def test_what_only_a_revoked_key_signed_is_passed_over(self, site: Site) -> None:
        """The generation before that serves, not the one whose bundle nobody trusted signed."""

        async def work() -> None:
            site.bundle("m", 3, key=[Ring(site.directory)["b"]])
            trusting(site, "keys: [a.pub, b.pub]")
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                trusting(site, "keys: [a.pub, b.pub]", FAST + ONE.replace("m-1", "m-3"))
                assert await box.reloader.reload()
                await eventually(lambda: confirmed(site, 1, 2))
                trusting(site, "keys: [a.pub]", SLOW + ONE.replace("m-1", "m-2"))
                assert await box.reloader.reload()
                fail(box)
                await eventually(lambda: box.generation == 4 and "config" in box.degraded)
                assert (await box.factor(), trusted(box.reloader.snapshot)) == (2.0, "a")

        run(work())

    def test_where_nothing_that_is_trusted_is_left_what_serves_goes_on(self, site: Site) -> None:
        async def work() -> None:
            site.bundle("m", 1, key=[Ring(site.directory)["b"]])
            trusting(site, "keys: [a.pub, b.pub]")
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                trusting(site, "keys: [a.pub]", SLOW + ONE.replace("m-1", "m-2"))
                assert await box.reloader.reload()
                fail(box)
                await eventually(lambda: "generation" in box.degraded)
                assert "signed by 0 of 1 required" in box.degraded["generation"]
                assert (await box.factor(), box.generation) == (3.0, 2)

        run(work())

    def test_a_start_takes_no_way_back_of_which_nobody_signed_anything_any_more(
        self, site: Site
    ) -> None:
        """Power that fails six times after a key was exchanged would have left no model at all."""

        async def work() -> None:
            site.bundle("m", 1, key=[Ring(site.directory)["b"]])
            trusting(site, "keys: [b.pub]")
            async with booted(site):
                await eventually(lambda: confirmed(site, 1))
            trusting(site, "keys: [a.pub]", SLOW + ONE.replace("m-1", "m-2"))
            for _ in range(6):
                history(site).begin(content_digest(site.load()), is_boot=True)
            async with booted(site) as box:
                assert (await box.factor(), box.problems) == (3.0, ())
                fail(box)
                await eventually(lambda: "generation" in box.degraded)
            async with booted(site) as box:  # set aside, and still there is no way
                assert (await box.factor(), box.problems) == (3.0, ())

        run(work())

    @pytest.mark.parametrize("how", ["cut", "never at rest", "in place"])
    def test_broken_files_after_a_key_was_exchanged_leave_a_model(
        self, site: Site, how: str
    ) -> None:
        """A start went by a generation of which the new key had signed nothing."""

        exchanged = site.directory / "exchanged"
        exchanged.write_bytes((site.directory / "a.pub").read_bytes())

        async def work() -> None:
            site.bundle("m", 1, key=[Ring(site.directory)["b"]])
            trusting(site, "keys: [b.pub]", FAST + ONE.replace("m-1", "m-*"))
            (site.directory / "m-2.edgb").rename(site.directory / "new")
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                (site.directory / "new").rename(site.directory / "m-2.edgb")
                if how == "in place":
                    exchanged.replace(site.directory / "b.pub")
                else:
                    trusting(site, "keys: [a.pub]", SLOW + ONE.replace("m-1", "m-2"))
                new = site.load()
                if how == "never at rest":
                    assert await box.reloader.reload()
            if how == "cut":  # between the last good configuration and the history
                Record(site.state, Repository(site.state)).keep(new)
            if how == "never at rest":
                for _ in range(6):
                    history(site).begin(content_digest(new), is_boot=True)
            site.config.write_text("models: [")
            async with booted(site) as box:
                assert (await box.factor(), trusted(box.reloader.snapshot)) == (3.0, "a")

        run(work())

    def test_the_files_that_came_back_are_an_operators_word_when_they_are_written(
        self, site: Site
    ) -> None:
        async def work() -> None:
            trusting(site, "keys: [a.pub, b.pub]")
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                trusting(site, "keys: [a.pub]", SLOW + TWO)
                assert await box.reloader.reload()
                fail(box)
                await eventually(lambda: box.generation == 3 and "config" in box.degraded)
                assert not await box.reloader.reload()
                assert trusted(box.reloader.snapshot) == "a"
                trusting(site, "keys: [a.pub, b.pub]")  # their digest is that of what serves
                assert await box.reloader.reload()
                assert (trusted(box.reloader.snapshot), box.degraded) == ("ab", {})
            async with booted(site) as box:
                assert (trusted(box.reloader.snapshot), box.problems) == ("ab", ())

        run(work())

    def test_a_start_that_leaves_a_configuration_that_kills(self, site: Site) -> None:
        async def work() -> None:
            trusting(site, "keys: [a.pub, b.pub]")
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
            trusting(site, "keys: [a.pub]", SLOW + TWO)
            for _ in range(6):  # it never comes to its end
                history(site).begin(content_digest(site.load()), is_boot=True)
            for _ in range(2):
                async with booted(site) as box:
                    assert (await box.factor(), trusted(box.reloader.snapshot)) == (2.0, "a")
                    assert "started 6 times" in box.problems[0]

        run(work())


class TestByOrder:
    def test_takes_the_generation_whole_says_so_and_it_stays(self, site: Site) -> None:
        async def work() -> None:
            trusting(site, "keys: [a.pub, b.pub]")
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                trusting(site, "keys: [a.pub]", FAST + TWO)
                assert await box.reloader.reload()
                await eventually(lambda: confirmed(site, 1, 2))
                history(site).order(Order(1))
                assert not await box.reloader.reload()
                assert trusted(box.reloader.snapshot) == "ab"
                assert box.reloader.went_back is not None
                assert "b.pub) is trusted again" in box.reloader.went_back["trust"]
                assert "trust" not in box.degraded
            for _ in range(2):
                async with booted(site) as box:
                    assert trusted(box.reloader.snapshot) == "ab"

        run(work())

    def test_at_the_next_start(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        async def work() -> None:
            trusting(site, "keys: [a.pub, b.pub]")
            async with booted(site):
                await eventually(lambda: confirmed(site, 1))
            trusting(site, "keys: [a.pub]", FAST + TWO)
            history(site).order(Order(1))
            async with booted(site) as box:
                assert trusted(box.reloader.snapshot) == "ab"
            assert "b.pub) is trusted again" in caplog.text

        run(work())

    def test_also_where_the_same_came_back_by_itself(self, site: Site) -> None:
        async def work() -> None:
            trusting(site, "keys: [a.pub, b.pub]")
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                trusting(site, "keys: [a.pub]", SLOW + TWO)
                assert await box.reloader.reload()
                fail(box)
                await eventually(lambda: box.generation == 3 and "config" in box.degraded)
                history(site).order(Order(1))
                assert not await box.reloader.reload()
                assert box.reloader.went_back is not None
                assert "b.pub) is trusted again" in box.reloader.went_back["trust"]
                assert trusted(box.reloader.snapshot) == "ab", "and it is as was said"

        run(work())

    def test_of_no_other_generation_than_the_one_that_was_ordered(self, site: Site) -> None:
        """It did not prove good before the restart, so an older one comes: by itself."""

        async def work() -> None:
            trusting(site, "keys: [a.pub, b.pub]")
            async with booted(site) as box:
                await eventually(lambda: confirmed(site, 1))
                trusting(site, "keys: [a.pub, c.pub]", SLOW + TWO)
                assert await box.reloader.reload()
                trusting(site, "keys: [a.pub]", FAST + TWO)
                assert await box.reloader.reload()
                await eventually(lambda: confirmed(site, 1, 3))
                history(site).order(Order(2))
                assert not await box.reloader.reload()
                assert trusted(box.reloader.snapshot) == "ac"
            async with booted(site) as box:
                assert (await box.factor(), trusted(box.reloader.snapshot)) == (2.0, "a")

        run(work())
