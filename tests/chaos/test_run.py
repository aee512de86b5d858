"""The oracle's short run, and its control; ``make chaos-mqtt`` is the long one."""

from __future__ import annotations

import pytest

from tests.chaos.run import FRESH_S, Report, observe

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def said(report: Report) -> str:
    return "\n".join(report.lines())


@pytest.mark.timeout(400)
@pytest.mark.hostile(
    "E3 a kill between the safe result and the PUBACK",
    "E13 a broker that is away while results are made",
)
def test_what_was_acknowledged_is_delivered() -> None:
    report = observe(40, 12, seed=1)
    words = said(report)
    assert report.problems == [], words
    assert report.count.is_kept, words
    assert report.left == 0, words
    assert report.count.acknowledged > 500, words
    assert report.count.through_outbox > 100, words
    assert report.long_faults >= 3, words
    assert len(report.fresh_s) == 2, words
    assert max(report.fresh_s.values()) <= FRESH_S, words


@pytest.mark.timeout(300)
def test_control_a_daemon_that_acknowledges_at_once_is_noticed() -> None:
    report = observe(12, 4, seed=5, EDGED_TEST_ACK_EARLY="1")
    assert report.count.lost, said(report)
