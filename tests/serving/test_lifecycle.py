"""The law of a release's life, and the one next thing to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.serving.lifecycle import (
    BUSY,
    DEATHS_CAP,
    DEATHS_WINDOW_NS,
    TRANSITIONS,
    UNCLEAR_DELAY_NS,
    Event,
    Load,
    ReleaseKey,
    Retire,
    Snapshot,
    State,
    Unload,
    advance,
    after_death,
    next_action,
    restart_delay_ns,
    retry_delay_ns,
)
from edged.workers.blame import Blame

SECOND = 1_000_000_000


def key(number: int) -> ReleaseKey:
    return ReleaseKey("gate", f"digest{number}", "")


def at(
    number: int, state: State, *, desired: bool = True, in_flight: int = 0, retry_at_ns: int = 0
) -> Snapshot:
    return Snapshot(key(number), number, state, desired, in_flight, retry_at_ns)


class TestTable:
    @pytest.mark.parametrize("state", State)
    @pytest.mark.parametrize("event", Event)
    def test_each_pair_is_in_the_table_or_raises(self, state: State, event: Event):
        if event in TRANSITIONS[state]:
            assert advance(state, event) is TRANSITIONS[state][event]
        else:
            with pytest.raises(
                AssertionError, match=f"{event.value} cannot happen in .*{state.value}"
            ):
                advance(state, event)

    def test_every_state_has_a_row_and_is_reached(self):
        assert set(TRANSITIONS) == set(State)
        reached = {after for row in TRANSITIONS.values() for after in row.values()}
        assert reached == set(State) - {State.NEW}

    def test_the_end_is_reached_from_everywhere(self):
        for start in State:
            seen = {start}
            while more := {s for known in seen for s in TRANSITIONS[known].values()} - seen:
                seen |= more
            assert State.UNLOADED in seen

    def test_a_loaded_session_serves_only_after_warming(self):
        assert [s for s, row in TRANSITIONS.items() if State.READY in row.values()] == [
            State.WARMING
        ]

    def test_only_what_serves_can_die_and_what_died_is_loaded_again(self):
        assert [s for s, row in TRANSITIONS.items() if Event.DIE in row] == [State.READY]
        assert advance(State.READY, Event.DIE) is State.FAILED
        assert advance(State.FAILED, Event.LOAD) is State.LOADING


NEW, LOADING, WARMING, READY = State.NEW, State.LOADING, State.WARMING, State.READY
DRAINING, FAILED = State.DRAINING, State.FAILED

ROWS = {
    "nothing there": ([], None),
    "settled": ([at(1, READY)], None),
    "load what is missing": ([at(1, NEW)], Load(key(1))),
    "highest release first": ([at(1, NEW), at(3, NEW), at(2, NEW)], Load(key(3))),
    "load first, retire after": ([at(1, READY, desired=False), at(2, NEW)], Load(key(2))),
    "one at work at a time": ([at(1, LOADING), at(2, NEW)], None),
    "warming is work too": ([at(1, WARMING), at(2, NEW)], None),
    "old stays while new loads": ([at(1, READY, desired=False), at(2, LOADING)], None),
    "old stays while new warms": ([at(1, READY, desired=False), at(2, WARMING)], None),
    "retire when new is ready": ([at(1, READY, desired=False), at(2, READY)], Retire(key(1))),
    "drained": ([at(1, DRAINING, desired=False)], Unload(key(1))),
    "not drained yet": ([at(1, DRAINING, desired=False, in_flight=1)], None),
    "unload even while another loads": (
        [at(2, LOADING), at(1, DRAINING, desired=False)],
        Unload(key(1)),
    ),
    "unload before load": ([at(2, NEW), at(1, DRAINING, desired=False)], Unload(key(1))),
    "failed waits": ([at(1, FAILED, retry_at_ns=101)], None),
    "failed is tried when it is time": ([at(1, FAILED, retry_at_ns=100)], Load(key(1))),
    "new before another try": ([at(9, FAILED), at(1, NEW)], Load(key(1))),
    "unwanted new is dropped": ([at(1, NEW, desired=False)], Retire(key(1))),
    "unwanted failed is dropped": ([at(1, FAILED, desired=False)], Retire(key(1))),
    "unwanted loading finishes first": ([at(1, LOADING, desired=False)], None),
    "draining and wanted again waits": ([at(1, DRAINING, in_flight=2)], None),
    "unwanted with requests is retired": (
        [at(1, READY, desired=False, in_flight=5)],
        Retire(key(1)),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_next_action(name: str):
    snapshots, expected = ROWS[name]
    assert next_action(snapshots, now_ns=100) == expected


SNAPSHOTS = st.lists(
    st.builds(
        at,
        st.integers(1, 5),
        st.sampled_from(State),
        desired=st.booleans(),
        in_flight=st.integers(0, 2),
        retry_at_ns=st.integers(0, 200),
    ),
    max_size=5,
    unique_by=lambda snapshot: snapshot.release,
)


@given(SNAPSHOTS)
def test_every_action_is_lawful(snapshots: list[Snapshot]):
    action = next_action(snapshots, now_ns=100)
    if action is None:
        return
    (target,) = [snapshot for snapshot in snapshots if snapshot.key == action.key]
    event = {Load: Event.LOAD, Retire: Event.RETIRE, Unload: Event.DRAINED}[type(action)]
    advance(target.state, event)
    assert target.is_desired or not isinstance(action, Load)
    assert not target.is_desired or not isinstance(action, Retire)
    assert target.in_flight == 0 or not isinstance(action, Unload)
    if not isinstance(action, Unload):
        assert not any(snapshot.state in BUSY for snapshot in snapshots)


@given(SNAPSHOTS)
def test_it_comes_to_rest(snapshots: list[Snapshot]):
    """Doing what it says, with loads that succeed and requests that end, ends."""
    after = {Load: READY, Retire: DRAINING, Unload: State.UNLOADED}
    for _ in range(40):
        action = next_action(snapshots, now_ns=100)
        if action is None:
            return
        snapshots = [
            at(s.release, after[type(action)], desired=s.is_desired) if s.key == action.key else s
            for s in snapshots
        ]
    pytest.fail("it goes on for ever")


def test_retry_delay_doubles_up_to_a_minute():
    delays = [retry_delay_ns(failures) // SECOND for failures in (1, 2, 3, 4, 5, 6, 7, 8, 1000)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


NOW = 1_000 * SECOND
DEATHS = {
    "the first": ([0], 0),
    "none that is known": ([], 0),
    "the second": ([10, 0], 100_000_000),
    "the third": ([20, 10, 0], 200_000_000),
    "the fourth": ([30, 20, 10, 0], 400_000_000),
    "the fifth is one too many": ([40, 30, 20, 10, 0], None),
    "all at once": ([0, 0, 0, 0, 0], None),
    "the fifth, the first was long ago": ([60, 30, 20, 10, 0], 400_000_000),
    "just within": ([59.999999999, 30, 20, 10, 0], None),
    "one an hour": ([4 * 3600, 3 * 3600, 2 * 3600, 3600, 0], 0),
}


@pytest.mark.parametrize("name", DEATHS)
def test_restart_delay(name: str):
    ago_s, delay_ns = DEATHS[name]
    deaths_ns = [NOW - round(ago * SECOND) for ago in ago_s]
    assert restart_delay_ns(deaths_ns, NOW) == delay_ns


AFTER = {
    "its own, the first": (0, Blame.OWN, 1, 0),
    "its own, the second": (1, Blame.OWN, 2, 100_000_000),
    "its own, the fifth": (4, Blame.OWN, 5, None),
    "another's, the first": (0, Blame.OTHER, 0, 0),
    "another's, whatever was before": (4, Blame.OTHER, 4, 0),
    "nobody's, the second": (1, Blame.UNCLEAR, 2, 100_000_000),
    "nobody's, the fifth": (4, Blame.UNCLEAR, 5, UNCLEAR_DELAY_NS),
    "nobody's, the ninth": (5, Blame.UNCLEAR, 5, UNCLEAR_DELAY_NS),
}


@pytest.mark.parametrize("name", AFTER)
def test_after_a_death(name: str):
    before, blame, remembered, delay_ns = AFTER[name]
    deaths = [NOW - SECOND] * before
    assert after_death(deaths, NOW, blame) == (
        [*deaths[-4:], NOW] if blame is not Blame.OTHER else deaths,
        delay_ns,
    )
    assert len(after_death(deaths, NOW, blame)[0]) == remembered
    assert deaths == [NOW - SECOND] * before


@given(st.lists(st.integers(0, 2 * DEATHS_WINDOW_NS), max_size=9))
def test_restart_is_soon_or_never(ago_ns: list[int]):
    delay = restart_delay_ns([NOW - ago for ago in ago_ns], NOW)
    recent = sum(ago < DEATHS_WINDOW_NS for ago in ago_ns)
    assert (delay is None) is (recent >= DEATHS_CAP)
    assert delay is None or 0 <= delay < SECOND
