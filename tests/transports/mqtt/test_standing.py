"""What a session makes of each end of a connection; no socket, no thread."""

import random
import time

import pytest

from edged.protocol.mqtt import Connected
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.reconnect import BRIEF_LIMIT, STEADY_S, Verdict
from edged.transports.mqtt.standing import Ending, Standing

UP = Connected(1, "5", False, 10, None)


def standing(**options):
    return Standing(SessionOptions("n", "edged/n", **options), random.Random(1))


def test_the_words_are_the_brokers_before_the_systems():
    made = standing()
    assert made.ended(Ending(False, False, words="no route")).reason == "no route"
    assert made.ended(Ending(True, True, reason="busy", words="reset")).reason == "busy"
    assert made.ended(Ending(True, True)).reason == "the connection was closed"
    assert made.stats()["last_error"] == "the connection was closed"


def test_a_session_taken_over_is_the_end():
    made = standing()
    following = made.ended(Ending(True, True, 0x8E))
    assert not following.will_retry
    assert made.state == "refused"


def test_another_version_is_tried_at_once():
    made = standing()
    following = made.ended(Ending(False, True, 0x84))
    assert (following.will_retry, following.delay_s) == (True, 0.0)
    assert made.protocol == "3.1.1"


def test_certificates_that_do_not_fit_are_tried_slowly():
    following = standing().ended(Ending(False, False, words="TLS", verdict=Verdict.SLOWLY))
    assert following.delay_s >= 30


@pytest.mark.parametrize("is_broken", [True, False])
def test_connections_that_never_last_are_slowed_down_and_explained(is_broken):
    made = standing()
    for _ in range(BRIEF_LIMIT):
        made.begin()
        made.connected(UP)
        following = made.ended(Ending(True, True, reason="PUBLISH with QoS 3", is_broken=is_broken))
    assert 2.5 <= following.delay_s <= 5
    assert ("PUBLISH with QoS 3" in following.reason) == is_broken
    assert ('client id "n"' in following.reason) != is_broken


@pytest.mark.parametrize("words", [{"is_silent": True}, {"reason_code": 0x8B}])
def test_silence_and_brokers_that_say_why_are_no_other_client(words):
    made = standing()
    for _ in range(BRIEF_LIMIT + 2):
        made.begin()
        made.connected(UP)
        following = made.ended(Ending(True, True, **words))
    assert "client id" not in following.reason
    assert following.delay_s <= 8


class Clock:
    """The monotonic clock, moved by hand."""

    def __init__(self, monkeypatch):
        self.at_ns = time.monotonic_ns()
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.at_ns)

    def outage(self, made, ending, seconds):
        """The pauses of so many seconds of failing attempts."""
        until, pauses = self.at_ns + seconds * 1e9, []
        while self.at_ns < until:
            pauses.append(made.ended(ending).delay_s)
            self.at_ns += int(pauses[-1] * 1e9) + 10**6
        return pauses


def test_a_broker_that_is_away_is_tried_often_and_after_an_hour_once_a_minute(monkeypatch):
    clock, made = Clock(monkeypatch), standing()
    assert max(clock.outage(made, Ending(False, False, words="refused"), 300)) <= 5
    assert 5 < max(clock.outage(made, Ending(False, False, words="refused"), 1500)) <= 30
    later = clock.outage(made, Ending(False, True), 36_000)
    assert 30 < max(later[50:]) <= 60


def test_a_restart_that_takes_minutes_is_over_within_seconds(monkeypatch):
    """A fleet's rate meanwhile: once in three seconds on average, of a port that nobody serves."""
    clock, made = Clock(monkeypatch), standing()
    pauses = clock.outage(made, Ending(False, False), 240)
    assert max(pauses) <= 5
    assert len(pauses) < 110


@pytest.mark.parametrize("code", [0x88, 0x89, 0x97, 0x9F])
def test_a_broker_that_has_too_much_to_do_is_spared_from_the_start(monkeypatch, code):
    clock, made = Clock(monkeypatch), standing()
    assert max(clock.outage(made, Ending(False, True, code), 300)) > 20


def test_two_that_take_the_session_from_each_other_grow_tired_of_it(monkeypatch):
    clock, made = Clock(monkeypatch), standing()

    def fight(seconds):
        pauses, until = [], clock.at_ns + seconds * 1e9
        while clock.at_ns < until:
            made.begin()
            made.connected(UP)
            pauses.append(made.ended(Ending(True, True)).delay_s)
            clock.at_ns += int(pauses[-1] * 1e9) + 10**6
        return pauses[BRIEF_LIMIT:]

    assert min(fight(60)) >= 2.5
    fight(4000)
    assert min(fight(600)) >= 30


def test_the_longest_pause_is_the_operators():
    made = standing(longest_pause_s=2.0)
    assert max(made.ended(Ending(False, False)).delay_s for _ in range(100)) <= 2


def test_a_steady_connection_is_forgiven(monkeypatch):
    made = standing()
    for _ in range(8):
        made.ended(Ending(False, False))
    made.begin()
    made.connected(UP)
    assert made.is_alive
    later = time.monotonic_ns() + int(STEADY_S * 2e9)
    monkeypatch.setattr(time, "monotonic_ns", lambda: later)
    assert made.ended(Ending(True, True)).delay_s <= 0.5
    assert not made.is_alive
