"""Whose bundles are accepted, and how loud it is where nobody asks."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edged.trusted import trust_document, trust_warnings, warn_of_trust
from tests.bundles import make_keys
from tests.fakes.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class TestUnchecked:
    """The switch of a test bench is loud wherever an operator looks."""

    def test_in_the_log_the_status_and_at_check(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.write("models: {}\n", trust="trust: {require_signatures: false}\n")
        snapshot = site.load()
        with caplog.at_level(logging.WARNING):
            warn_of_trust(snapshot)
        assert "bundles are taken from ANYBODY" in caplog.text
        (line,) = trust_document(snapshot)["warnings"]
        assert "bundles are taken from ANYBODY" in line
        (problem,) = trust_warnings(snapshot)
        assert problem.path == "trust.require_signatures"

    def test_nothing_is_said_where_signatures_are_asked_for(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_keys(site.directory, "ours")
        site.write("models: {}\n", trust="trust: {keys: [ours.pub]}\n")
        snapshot = site.load()
        warn_of_trust(snapshot)
        assert not caplog.records
        assert trust_document(snapshot)["warnings"] == []
        assert trust_warnings(snapshot) == []
