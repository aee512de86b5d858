"""What a session makes of each end of a connection; no socket, no thread."""

import random
import time

import pytest

from edged.protocol.broker_session import Connected
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


@pytest.mark.parametrize("other_pauses_s", [None, 1.0])
def test_two_of_one_name_both_know_it_for_as_long_as_it_lasts(monkeypatch, other_pauses_s):
    """Each one's connection ends the other's, as brokers before MQTT 5 have it: without a word."""
    clock, both = Clock(monkeypatch), [standing(), standing()]
    due, up, told, ends = [clock.at_ns, clock.at_ns + 1], None, [0, 0], []
    begun = clock.at_ns
    while clock.at_ns - begun < 3600 * 1e9:
        mine = due.index(min(due))
        clock.at_ns, due[mine] = due[mine], 1 << 63
        both[mine].begin()
        both[mine].connected(UP)
        if up is not None:
            following = both[up].ended(Ending(True, True))
            told[up] += "another client" in following.reason
            pause_s = other_pauses_s if up == 1 and other_pauses_s else following.delay_s
            due[up] = clock.at_ns + int(pause_s * 1e9)
            ends.append(clock.at_ns)
        up = mine
    assert min(told) >= len(ends) // 2 - BRIEF_LIMIT
    assert all("another client" in one.stats()["suspicion"] for one in both), "connected or not"
    late = [end for end in ends if end - begun > 1800 * 1e9]
    assert len(late) < 1800 / 15, "a connection of either lasts for a quarter of a minute"


def test_a_suspicion_ends_with_a_connection_that_lasts(monkeypatch):
    clock, made = Clock(monkeypatch), standing()
    for _ in range(BRIEF_LIMIT):
        made.begin()
        made.connected(UP)
        made.ended(Ending(True, True))
    made.begin()
    made.connected(UP)
    clock.at_ns += 119 * 10**9
    assert "another client" in made.stats()["suspicion"]
    clock.at_ns += 2 * 10**9
    assert made.stats()["suspicion"] is None
    assert "another client" not in made.ended(Ending(True, True)).reason


def test_a_broker_that_was_away_meanwhile_is_no_other_client():
    made = standing()
    for brief in (BRIEF_LIMIT - 1, BRIEF_LIMIT - 1, BRIEF_LIMIT):
        for _ in range(brief):
            made.begin()
            made.connected(UP)
            made.ended(Ending(True, True))
        assert bool(made.stats()["suspicion"]) == (brief == BRIEF_LIMIT)
        made.begin()
        made.ended(Ending(False, False, words="refused"))
    assert made.stats()["suspicion"] is None


def test_what_was_not_sent_is_counted_and_said_once_a_minute(monkeypatch, caplog):
    clock, made = Clock(monkeypatch), standing()
    for _ in range(2000):
        made.left_unsent("the broker does not read")
        clock.at_ns += 10**8
    assert made.stats()["unsent"] == 2000
    assert caplog.text.count("the broker does not read") == 4
    assert "(1201 so far)" in caplog.text


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


def test_a_broker_that_takes_neither_version_is_told_by_both():
    """The second try, with MQTT 3.1.1, fails for another reason, which says nothing of the first."""

    def broken(words):
        return Ending(False, True, None, words, "", None, is_broken=True, is_silent=False)

    made = standing()
    assert made.ended(broken("CONNACK is cut")).reason == "CONNACK is cut"
    assert made.ended(broken("CONNACK is cut")).reason == "CONNACK is cut"
    assert made.protocol == "3.1.1"
    both = "with MQTT 5: CONNACK is cut; with MQTT 3.1.1: CONNACK is long"
    assert made.ended(broken("CONNACK is long")).reason == both
    assert made.stats()["last_error"] == both
    away = Ending(False, False, None, "", "refused", None, is_broken=False, is_silent=False)
    assert made.ended(away).reason == "refused"
    assert made.ended(broken("CONNACK is cut")).reason == "CONNACK is cut", "with both the same"
    assert standing(protocol="5").ended(broken("CONNACK is cut")).reason == "CONNACK is cut"
