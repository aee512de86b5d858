"""When an engine is built: tables of what is there and the one thing to do next."""

from __future__ import annotations

import pytest

from edged.engines.policy import (
    ATTEMPTS,
    LOOK_NS,
    NEVER_NS,
    PATIENT_NS,
    TRANSITIONS,
    Again,
    Begin,
    End,
    Event,
    Pause,
    Phase,
    Resume,
    View,
    Weather,
    advance,
    after_failure,
    held_back,
    next_look,
    next_step,
)

S = 1_000_000_000
FINE = Weather()
HOT = Weather(trouble="gpu is 90 °C")


def view(phase: Phase, **more) -> View:
    return View("a", phase, **more)


def step(*views: View, weather: Weather = FINE, timeout_ns: int = 100 * S, now_ns: int = 50 * S):
    return next_step(views, weather, timeout_ns, now_ns)


@pytest.mark.parametrize(
    ("one", "weather", "expected"),
    [
        (view(Phase.WANTED), FINE, Begin("a")),
        (view(Phase.WANTED, is_wanted=False), FINE, None),
        (view(Phase.WANTED), HOT, None),
        (view(Phase.WANTED), Weather(is_loading=True), None),
        (view(Phase.WANTED), Weather(is_taken=True), None),
        (view(Phase.WANTED), Weather(quiet_until_ns=50 * S + 1), None),
        (view(Phase.WANTED), Weather(quiet_until_ns=50 * S), Begin("a")),
        (view(Phase.BUILDING), FINE, None),
        (view(Phase.BUILDING), HOT, Pause("a")),
        (view(Phase.BUILDING), Weather(is_loading=True), None),
        (view(Phase.BUILDING, is_wanted=False), FINE, End("a", "")),
        (view(Phase.PAUSED), HOT, None),
        (view(Phase.PAUSED), FINE, Resume("a")),
        (view(Phase.PAUSED, is_wanted=False), HOT, End("a", "")),
        (view(Phase.BUILDING, worked_ns=100 * S - 1), FINE, None),
        (view(Phase.CHECKING, worked_ns=200 * S, is_wanted=False), HOT, None),
        (view(Phase.READY), FINE, None),
        (view(Phase.SERVING), FINE, None),
        (view(Phase.FAILED, retry_at_ns=50 * S), FINE, Again("a")),
        (view(Phase.FAILED, retry_at_ns=50 * S + 1), FINE, None),
        (view(Phase.FAILED, retry_at_ns=NEVER_NS), FINE, None),
        (view(Phase.FAILED, is_wanted=False), FINE, None),
        (view(Phase.GIVEN_UP), FINE, None),
    ],
)
def test_one_build(one, weather, expected):
    assert step(one, weather=weather) == expected


@pytest.mark.parametrize("phase", [Phase.BUILDING, Phase.PAUSED])
def test_one_that_takes_too_long_is_ended_and_says_what_to_set(phase):
    ended = step(view(phase, worked_ns=100 * S))
    assert ended == End("a", "it was not built within 100 s (engines.timeout)")


@pytest.mark.parametrize("phase", [Phase.BUILDING, Phase.PAUSED, Phase.CHECKING])
def test_one_at_a_time(phase):
    weather = HOT if phase is Phase.PAUSED else FINE
    assert step(view(phase), View("b", Phase.WANTED), weather=weather) is None
    assert step(View("b", Phase.FAILED), view(phase), weather=weather) is None


def test_the_first_in_order_goes_first():
    assert step(view(Phase.WANTED, order=2), View("b", Phase.WANTED, order=1)) == Begin("b")


def test_nothing_wanted_is_nothing_done():
    assert step() is None


def test_what_holds_a_build_back_is_said():
    assert held_back(FINE, 0) == ""
    assert held_back(HOT, 0) == "gpu is 90 °C"
    assert held_back(Weather(is_taken=True), 0) == "another process builds an engine"
    assert held_back(Weather(is_loading=True), 0) == "a model is being loaded"
    assert held_back(Weather(quiet_until_ns=1), 0) == "a model was just loaded"


def test_the_pause_between_tries_grows_and_ends():
    times = [after_failure(failures, 7) for failures in range(1, ATTEMPTS + 1)]
    assert times == [60 * S + 7, 900 * S + 7, NEVER_NS]


@pytest.mark.parametrize(
    ("one", "weather", "at"),
    [
        (view(Phase.BUILDING), FINE, LOOK_NS),
        (view(Phase.PAUSED), HOT, PATIENT_NS),
        (view(Phase.WANTED), HOT, PATIENT_NS),
        (view(Phase.WANTED), Weather(quiet_until_ns=3 * S), 3 * S),
        (view(Phase.WANTED), Weather(is_loading=True, quiet_until_ns=3 * S), PATIENT_NS),
        (view(Phase.FAILED, retry_at_ns=60 * S), FINE, 60 * S),
        (view(Phase.FAILED, retry_at_ns=NEVER_NS), FINE, None),
        (view(Phase.CHECKING), FINE, None),
        (view(Phase.SERVING), FINE, None),
        (view(Phase.GIVEN_UP), FINE, None),
    ],
)
def test_when_to_look_again(one, weather, at):
    assert next_look([one], weather, 0) == at


def test_a_device_with_nothing_to_build_sleeps():
    assert next_look([], FINE, 0) is None


def test_the_law():
    path = [Event.BEGIN, Event.PAUSE, Event.RESUME, Event.BUILT, Event.ACCEPT, Event.SWAPPED]
    phase = Phase.WANTED
    for event in path:
        phase = advance(phase, event)
    assert phase is Phase.SERVING
    assert set(TRANSITIONS) == set(Phase)
    with pytest.raises(AssertionError, match="begin cannot happen to a build that is serving"):
        advance(phase, Event.BEGIN)
