import random

import pytest

from edged.transports.mqtt.reconnect import (
    ProtocolChoice,
    Verdict,
    judge,
    longest_pause,
    next_delay,
)


def test_delays_are_jittered_over_the_whole_range_and_double_to_a_minute():
    rng = random.Random(1)
    for attempt, ceiling in [(0, 0.5), (1, 1), (2, 2), (4, 8), (7, 60), (1000, 60)]:
        delays = [next_delay(attempt, rng) for _ in range(500)]
        floor = 1 if attempt >= 5 else 0
        assert floor <= min(delays) < floor + 0.1 * ceiling
        assert 0.9 * ceiling < max(delays) <= ceiling


@pytest.mark.hostile("E8 a broker that is busy, or whose quota is exceeded")
def test_at_most_one_try_a_second_after_the_first_five():
    """CONNACK "server busy" → jittered backoff, ≤ 1 try per s after the first 5."""
    rng = random.Random(2)
    assert min(next_delay(attempt, rng) for attempt in range(5, 500)) >= 1


def test_a_refusal_on_purpose_is_retried_slowly():
    rng = random.Random(3)
    assert all(30 <= next_delay(0, rng, slowly=True) <= 60 for _ in range(100))


@pytest.mark.parametrize(
    ("troubled_s", "code", "slowly", "most_s", "expected_s"),
    [
        (0, None, False, 60, 5),
        (300, None, False, 60, 5),
        (600, 0x8B, False, 60, 10),
        (3600, None, False, 60, 60),
        (10**6, None, False, 60, 60),
        (0, None, False, 2, 2),
        (10**6, None, False, 300, 300),
        (0, 0x89, False, 60, 60),
        (0, 0x86, True, 60, 60),
        (0, None, True, 60, 60),
    ],
)
def test_the_longest_pause_grows_with_the_outage(troubled_s, code, slowly, most_s, expected_s):
    assert longest_pause(troubled_s, most_s, reason_code=code, slowly=slowly) == expected_s


def test_the_longest_pause_is_the_operators():
    rng = random.Random(4)
    assert max(next_delay(attempt, rng, longest_s=4) for attempt in range(500)) <= 4
    assert all(2 <= next_delay(0, rng, slowly=True, longest_s=4) <= 4 for _ in range(100))
    assert all(next_delay(9, rng, longest_s=0.5) == 0.5 for _ in range(10))


@pytest.mark.parametrize(
    ("code", "verdict", "words"),
    [
        (0x88, Verdict.RETRY, ""),
        (0x89, Verdict.RETRY, ""),
        (0x97, Verdict.RETRY, ""),
        (0x00, Verdict.RETRY, ""),
        (0x86, Verdict.SLOWLY, "mqtt.password"),
        (0x87, Verdict.SLOWLY, "access rules"),
        (0x85, Verdict.SLOWLY, "client_id"),
        (0x8E, Verdict.STOP, "another client took over"),
    ],
)
def test_reason_codes(code, verdict, words):
    got, text = judge(code)
    assert got is verdict
    assert words in text
    assert bool(text) == (verdict is not Verdict.RETRY)


def test_auto_falls_back_at_once_when_the_version_is_refused():
    choice = ProtocolChoice("auto")
    assert choice.current == "5"
    assert choice.refused(0x84)
    assert choice.current == "3.1.1"
    assert not choice.refused(0x84)


def test_auto_tries_both_with_a_broker_that_hangs_up():
    choice = ProtocolChoice("auto")
    seen = []
    for _ in range(6):
        seen.append(choice.current)
        assert not choice.refused(None)
    assert seen == ["5", "5", "3.1.1", "3.1.1", "5", "5"]


def test_a_busy_broker_does_not_change_the_version():
    choice = ProtocolChoice("auto")
    for _ in range(4):
        choice.refused(None)
        choice.refused(0x89)
    assert choice.current == "5"


def test_a_version_that_was_accepted_is_kept():
    choice = ProtocolChoice("auto")
    choice.accepted()
    for _ in range(5):
        assert not choice.refused(None)
    assert choice.current == "5"


@pytest.mark.parametrize("wanted", ["5", "3.1.1"])
def test_a_written_version_is_never_changed(wanted):
    choice = ProtocolChoice(wanted)
    assert not choice.refused(0x84)
    assert not choice.refused(None)
    assert not choice.refused(None)
    assert choice.current == wanted
