"""Whose bundles are accepted: by keys, by a trust document, and how loud it is where nobody asks."""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path

import pytest

from edged.generation import trusted as under_test
from edged.generation.trusted import (
    adopt,
    apply_trust,
    check_not_expired,
    expiry,
    load_trust,
    load_trusted,
    may_serve_on,
    read_trust,
    tell_trust,
    trust_document,
    trust_warnings,
)
from edged.store.trust_document import TrustError, parse_trust
from edged.store.trust_state import Trusted, TrustState
from edged.telemetry.health import Health
from tests.bundles import make_keys
from tests.fakes.site import Site
from tests.trust import Ring

BY_DOCUMENT = "trust: {root: site.trust}\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    (tmp_path / "state").mkdir()
    return Site(tmp_path)


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path)


def configured(site: Site, ring: Ring, version: int = 1, **more: str) -> Trusted:
    """The site goes by a document, which is returned."""
    data = ring.signed(ring.document(version, **more))
    (site.directory / "site.trust").write_bytes(data)
    site.write("models: {}\n", trust=BY_DOCUMENT)
    return Trusted(parse_trust(data))


class TestDocument:
    def test_the_configured_one_is_where_it_begins(self, site: Site, ring: Ring) -> None:
        first = configured(site, ring)
        snapshot = site.load()
        assert load_trusted(snapshot) == first
        assert set(load_trust(snapshot).keys) == {ring["a"].key_id}
        assert load_trust(snapshot).version == 1
        adopt(snapshot, site.state)
        assert TrustState(site.state).read() == first

    def test_another_one_is_applied_and_no_older_one_after_it(self, site: Site, ring: Ring) -> None:
        configured(site, ring)
        file = site.directory / "new"
        file.write_bytes(ring.signed(ring.document(2, release="b")))
        assert apply_trust(site.load(), file) == "trust version 2 is kept, and installs go by it"
        assert (
            apply_trust(site.load(), file)
            == "trust version 2 is kept already, and installs go by it"
        )
        assert set(load_trust(site.load()).keys) == {ring["b"].key_id}
        with pytest.raises(TrustError, match="goes by version 2 already"):
            apply_trust(site.load(), site.directory / "site.trust")
        adopt(site.load(), site.state)
        assert load_trust(site.load()).version == 2

    def test_a_file_that_is_exchanged_changes_nothing_but_is_said(
        self, site: Site, ring: Ring
    ) -> None:
        configured(site, ring)
        adopt(site.load(), site.state)
        assert not trust_warnings(site.load())
        for version, named in ((1, "r1 n2"), (7, "n1 n2")):
            data = ring.signed(ring.document(version, named), named)
            (site.directory / "site.trust").write_bytes(data)
            assert set(load_trust(site.load()).keys) == {ring["a"].key_id}
            assert load_trust(site.load()).version == 1
            (said,) = trust_warnings(site.load())
            assert (said.path, said.line) == ("trust.root", 3)
            assert f"site.trust holds version {version}, which is not what" in said.message
        (site.directory / "site.trust").unlink()
        assert load_trust(site.load()).version == 1

    @pytest.mark.parametrize("data", [b"", b"{}", None])
    def test_one_that_is_not_good(self, site: Site, ring: Ring, data: bytes | None) -> None:
        configured(site, ring)
        file = site.directory / "site.trust"
        file.write_bytes(ring.signed(ring.document(), "r1") if data is None else data)
        with pytest.raises(TrustError, match=r"site.trust: "):
            load_trust(site.load())
        for other in (site.directory, site.directory / "none"):
            with pytest.raises(TrustError):
                read_trust(other)

    def test_not_where_the_configuration_lists_keys(self, site: Site, ring: Ring) -> None:
        make_keys(site.directory, "ours")
        site.write("models: {}\n", trust="trust: {keys: [ours.pub]}\n")
        file = site.directory / "new"
        file.write_bytes(ring.signed(ring.document()))
        with pytest.raises(TrustError, match=r"lists its keys itself \(trust.keys\)"):
            apply_trust(site.load(), file)
        assert load_trusted(site.load()) is None


class TestExpiry:
    """It stops what is new, where the clock is known to be good; never what serves."""

    @pytest.fixture
    def old(self, site: Site, ring: Ring) -> Trusted:
        return configured(site, ring, 3, issued="2020-01-01", expires="2021-01-01")

    @pytest.mark.parametrize(
        ("today", "is_over"), [("1970-01-01", False), ("2021-01-01", False), ("2021-01-02", True)]
    )
    def test_from_the_day_after(self, old: Trusted, today: str, is_over: bool) -> None:
        assert bool(expiry(old, date.fromisoformat(today))) is is_over

    def test_by_a_good_clock(self, old: Trusted, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(under_test, "is_synchronised", lambda: True)
        with pytest.raises(TrustError, match="trust version 3 expired on 2021-01-01"):
            check_not_expired(old)

    def test_by_a_clock_that_nobody_set(
        self, old: Trusted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(under_test, "is_synchronised", lambda: False)
        check_not_expired(old)
        assert "by a clock that nobody has set" in caplog.text

    def test_is_loud_and_verifies_on(self, site: Site, old: Trusted) -> None:
        health = Health()
        tell_trust(site.load(), old, {}, health)
        assert "expired on 2021-01-01" in health.degradations()["trust"]
        document = trust_document(site.load(), old, {"m": "release 1 is signed by …"})
        assert (document["version"], document["expires"]) == (3, "2021-01-01")
        assert len(document["warnings"]) == 2
        (said,) = trust_warnings(site.load())
        assert "nothing new is installed" in said.message
        assert load_trust(site.load()).version == 3
        tell_trust(site.load(), None, {}, health)
        assert not health.degradations()

    def test_none(self, site: Site, ring: Ring) -> None:
        check_not_expired(None)
        assert not expiry(configured(site, ring))


def test_only_what_serves_may_serve_on(site: Site) -> None:
    site.bundle("m", 1)
    site.write("models:\n  m: {bundle: m-1.edgb}\n")
    repository = site.repository()
    stored = repository.import_bundle(
        site.directory / "m-1.edgb", load_trust(site.load(), site.state)
    )
    assert not may_serve_on(site.state, stored.manifest, stored.digest)
    repository.activate("m", stored.digest)
    assert may_serve_on(site.state, stored.manifest, stored.digest)
    assert not may_serve_on(site.state, stored.manifest, "0" * 64)
    assert not may_serve_on(site.directory, stored.manifest, stored.digest)
    repository.close()


class TestUnchecked:
    """The switch of a test bench is loud wherever an operator looks."""

    def test_in_the_log_the_status_and_at_check(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.write("models: {}\n", trust="trust: {require_signatures: false}\n")
        snapshot = site.load()
        with caplog.at_level(logging.WARNING):
            tell_trust(snapshot, None, {}, Health())
        assert "bundles are taken from ANYBODY" in caplog.text
        (line,) = trust_document(snapshot, None, {})["warnings"]
        assert "bundles are taken from ANYBODY" in line
        (problem,) = trust_warnings(snapshot)
        assert problem.path == "trust.require_signatures"

    def test_nothing_is_said_where_signatures_are_asked_for(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_keys(site.directory, "ours")
        site.write("models: {}\n", trust="trust: {keys: [ours.pub]}\n")
        snapshot = site.load()
        tell_trust(snapshot, None, {}, Health())
        assert not caplog.records
        assert trust_document(snapshot, None, {})["warnings"] == []
        assert trust_warnings(snapshot) == []
