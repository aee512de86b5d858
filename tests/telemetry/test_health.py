"""Degradations: logged when they come, change and go, never again and again."""

from __future__ import annotations

import logging
import time

import pytest

from edged.telemetry.health import Health


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(logging.INFO, "edged.health")
    caplog.clear()
    return caplog


def test_comes_changes_and_goes(lines: pytest.LogCaptureFixture):
    health = Health()
    seen: list[dict[str, str]] = []
    health.on_change = lambda: seen.append(health.degradations())
    health.degrade("config", "edged.yaml:3: no such field")
    health.degrade("config", "edged.yaml:3: no such field")
    health.degrade("model.gate", "no release is loaded")
    health.degrade("config", "edged.yaml:4: no such field")
    health.restore("config")
    health.restore("config")
    assert health.degradations() == {"model.gate": "no release is loaded"}
    assert [record.message for record in lines.records] == [
        "degraded: config: edged.yaml:3: no such field",
        "degraded: model.gate: no release is loaded",
        "degraded: config: edged.yaml:4: no such field",
        "restored: config",
    ]
    assert [record.levelno for record in lines.records] == [logging.WARNING] * 3 + [logging.INFO]
    assert len(seen) == 4
    assert seen[-1] == health.degradations()


def test_what_is_well_is_not_restored(lines: pytest.LogCaptureFixture):
    health = Health()
    health.restore("model.gate")
    assert not lines.records
    assert health.degradations() == {}


def test_the_list_is_a_copy():
    health = Health()
    health.degrade("a", "b")
    health.degradations().clear()
    assert health.degradations() == {"a": "b"}


def test_how_long_it_has_been_so() -> None:
    """From the first reason on; a new reason does not begin anew, a return does."""
    health = Health()
    before = time.monotonic_ns()
    health.degrade("mqtt", "away")
    health.degrade("mqtt", "refused")
    now = time.monotonic_ns()
    assert 0 <= health.ages_ns(now)["mqtt"] <= now - before
    later = now + 60 * 10**9
    assert health.ages_ns(later)["mqtt"] >= 60 * 10**9
    health.restore("mqtt")
    assert health.ages_ns(later) == {}
    health.degrade("mqtt", "away")
    assert health.ages_ns(time.monotonic_ns())["mqtt"] < 60 * 10**9
