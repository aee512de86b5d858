"""Whose batch starts next: rows of a table, and what must hold for any."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edged.serving.scheduling.precedence import (
    CLASSES,
    NEVER_NS,
    Held,
    Loads,
    Rules,
    Run,
    Shares,
    Want,
    fits,
    may_start,
    next_turn,
)

HIGH, NORMAL, LOW = range(3)
NOW = 1000


def want(rank: int = NORMAL, *, due: int = NEVER_NS, since: int = 900, short: bool = True) -> Want:
    return Want(rank, due, since, short)


def held(*runs: Run | int) -> Held:
    held = Held()
    for run in runs:
        held.add(run if isinstance(run, Run) else Run(run))
    return held


LONG = Run(NORMAL, is_short=False)
TWO = Rules(2, starvation_ns=500)
KEPT = Rules(2, (1, 0, 0), 500)
LADDER = Rules(4, (1, 2, 0))
AUTO = Rules(2, has_express=True)
SHARED = Rules(2, starvation_ns=500, weights=(8, 4, 1))

# rules, what runs, who waits, who is next
TURNS = {
    "a free slot": (TWO, [NORMAL], [want()], 0),
    "none free": (TWO, [NORMAL, LOW], [want(HIGH)], None),
    "nobody waits": (TWO, [], [], None),
    "the higher class": (TWO, [], [want(LOW), want(HIGH), want()], 1),
    "the earlier deadline": (TWO, [], [want(due=30), want(due=20), want()], 1),
    "a deadline does not lift a class": (TWO, [], [want(LOW, due=1), want()], 1),
    "who came first": (TWO, [], [want(since=902), want(since=901), want(since=903)], 1),
    "who starved": (TWO, [], [want(HIGH), want(LOW, since=500)], 1),
    "not yet starved": (TWO, [], [want(HIGH), want(LOW, since=501)], 0),
    "who starved longer": (TWO, [], [want(HIGH, since=400), want(LOW, since=300)], 1),
    "starved, but there is no slot": (TWO, [HIGH, HIGH], [want(LOW, since=0)], None),
    "a reserved slot": (KEPT, [NORMAL], [want(), want(LOW)], None),
    "is its class's": (KEPT, [NORMAL], [want(), want(HIGH)], 1),
    "and free again when that has it": (KEPT, [HIGH], [want(LOW)], 0),
    "starving opens no reserved slot": (KEPT, [NORMAL], [want(since=0)], None),
    "several reserve: low has one": (LADDER, [LOW], [want(LOW)], None),
    "several reserve: normal has three": (LADDER, [LOW, NORMAL, NORMAL], [want()], None),
    "several reserve: normal's are kept from low": (LADDER, [NORMAL], [want(LOW)], 0),
    "several reserve: high has all": (LADDER, [HIGH, HIGH, HIGH], [want(HIGH)], 0),
    "long runs everywhere: a short one starts": (AUTO, [LONG, LONG], [want()], 0),
    "long runs everywhere: a long one waits": (AUTO, [LONG, LONG], [want(short=False)], None),
    "only one short one does": (AUTO, [LONG, LONG, Run(LOW, True, True)], [want(HIGH)], None),
    "short ones end soon": (AUTO, [LONG, NORMAL], [want(HIGH)], None),
    "who says a number means it": (TWO, [LONG, LONG], [want(HIGH)], None),
}


@pytest.mark.parametrize("name", TURNS)
def test_turn(name: str):
    rules, runs, wants, wanted = TURNS[name]
    assert next_turn(wants, held(*runs), rules, NOW) == wanted


@pytest.mark.parametrize(
    ("used", "wanted"),
    [((0, 0, 0), 1), ((5, 4, 4), 0), ((5, 5, 4), 2), ((9, 5, 6), 0)],
)
def test_by_weights_who_had_least_is_next(used: tuple, wanted: int):
    wants = [want(NORMAL), want(HIGH), want(LOW)]
    assert next_turn(wants, held(), SHARED, NOW, used) == wanted


def test_by_weights_who_starved_is_next():
    wants = [want(HIGH), want(LOW, since=1)]
    assert next_turn(wants, held(), SHARED, NOW, (0, 0, 9)) == 1


def test_shares_come_out_as_weighted():
    shares, runs = Shares(), [0, 0, 0]
    for _ in range(1300):
        wants = [want(rank) for rank in range(3)]
        index = next_turn(wants, held(), SHARED, 0, shares.used)
        assert index is not None
        runs[index] += 1
        shares.charge(index, 4_000_000, (8, 4, 1))
    assert runs == [800, 400, 100]


def test_a_class_that_was_away_saves_nothing_up():
    shares = Shares()
    for _ in range(100):
        shares.want(NORMAL)
        shares.begin(NORMAL, [])
        shares.charge(NORMAL, 4_000, (8, 4, 1))
    shares.want(LOW)
    assert shares.used == [0, 100_000, 99_000], "it begins where the last run began"
    shares.want(NORMAL)
    assert shares.used[NORMAL] == 100_000, "and who was there keeps what it has"


def test_one_that_starved_does_not_put_the_others_back():
    shares = Shares()
    shares.charge(LOW, 4_000, (8, 4, 1))
    shares.begin(LOW, [HIGH])
    shares.want(HIGH)
    assert shares.used[HIGH] == 0


def test_what_classes_used_lately_is_left_to_none_below():
    loads, second = Loads(), 10**9
    assert loads.left_for(2, 2) == 1
    for at in range(500):
        loads.add(0, 10_000_000, at * 20_000_000)
        loads.add(1, 5_000_000, at * 20_000_000)
    assert [loads.left_for(rank, 1) for rank in range(3)] == pytest.approx([1, 0.5, 0.25], abs=0.02)
    assert loads.left_for(2, 2) == pytest.approx(0.625, abs=0.02), "of two slots"
    loads.add(2, 0, 20 * second)
    assert loads.left_for(2, 1) == pytest.approx(1, abs=0.001), "long ago"
    loads.add(0, 9 * second, 20 * second)
    assert 0 < loads.left_for(1, 1) < 0.01, "never nothing"


def test_the_most_slots_of_a_class():
    assert [LADDER.usable(rank) for rank in range(3)] == [4, 3, 1]
    assert CLASSES == ("high", "normal", "low")


WANTS = st.lists(
    st.builds(
        want,
        st.integers(0, 2),
        due=st.sampled_from([NEVER_NS, 1, 2, 3]),
        since=st.integers(0, NOW),
        short=st.booleans(),
    ),
    max_size=8,
)
RULES = st.builds(
    Rules,
    st.integers(2, 6),
    st.tuples(st.integers(0, 1), st.integers(0, 0), st.just(0)),
    st.sampled_from([100, 500, NEVER_NS]),
    st.none() | st.just((8, 4, 1)),
    st.booleans(),
)
RUNS = st.lists(st.builds(Run, st.integers(0, 2), st.booleans()), max_size=6)


@given(WANTS, RULES, RUNS, st.tuples(*[st.integers(0, 9)] * 3))
def test_any_turn(wants, rules: Rules, runs, used):
    now = held(*runs)
    index = next_turn(wants, now, rules, NOW, used)
    able = [one for one in wants if may_start(one.rank, now, rules, is_short=one.is_short)]
    if index is None:
        assert not able, "work-conserving: somebody could have started"
        return
    chosen = wants[index]
    assert chosen in able
    starved = [one for one in able if NOW - one.since_ns >= rules.starvation_ns]
    if starved:
        assert chosen.since_ns == min(one.since_ns for one in starved)
    elif rules.weights is None:
        assert chosen.rank == min(one.rank for one in able)
    else:
        assert used[chosen.rank] == min(used[one.rank] for one in able)
    if not starved:
        mates = [one for one in able if one.rank == chosen.rank]
        assert chosen.due_ns == min(one.due_ns for one in mates)


class OneDevice(RuleBasedStateMachine):
    """A device under a flood of the highest class: the bounds hold at every moment."""

    STARVATION = 30
    RUN = 10
    """The longest run: how long a slot is taken at most."""

    def __init__(self) -> None:
        super().__init__()
        self.rules = Rules(3, (1, 0, 0), self.STARVATION)
        self.now = 0
        self.held = Held()
        self.running: list[tuple[int, int]] = []
        self.line: list[Want] = []
        self.start()

    @rule(rank=st.integers(1, 2), due=st.sampled_from([NEVER_NS, 5, 6]))
    @precondition(lambda self: len(self.line) < 5)
    def ask(self, rank: int, due: int) -> None:
        self.line.append(Want(rank, due, self.now))
        self.start()

    @rule(passed=st.integers(5, RUN))
    def wait(self, passed: int) -> None:
        self.now += passed
        for run in [run for run in self.running if self.now - run[0] >= self.RUN]:
            self.end(run)

    @rule(data=st.data())
    def end_one(self, data) -> None:
        self.end(data.draw(st.sampled_from(self.running)))

    def end(self, run: tuple[int, int]) -> None:
        self.running.remove(run)
        self.held.add(Run(run[1]), -1)
        self.start()

    def start(self) -> None:
        """Start who may, and let the flood want more at once."""
        while True:
            if not any(one.rank == HIGH for one in self.line):
                self.line.append(Want(HIGH, 0, self.now))
            index = next_turn(self.line, self.held, self.rules, self.now)
            if index is None:
                return
            chosen = self.line.pop(index)
            self.held.add(Run(chosen.rank))
            self.running.append((self.now, chosen.rank))

    @invariant()
    def never_more_than_the_slots(self) -> None:
        assert self.held.total == len(self.running) <= self.rules.slots
        below = sum(1 for _, rank in self.running if rank > HIGH)
        assert below <= self.rules.usable(NORMAL)

    @invariant()
    def nobody_waits_while_it_could_run(self) -> None:
        assert not any(fits(one.rank, self.held, self.rules) for one in self.line)

    @invariant()
    def nobody_waits_for_longer_than_the_bound_allows(self) -> None:
        # From the bound on only who waited longer goes before it, each for a run; and the end of a
        # run is seen a run later at most (``wait``).
        for one in self.line:
            bound = self.STARVATION + 2 * self.RUN * (len(self.line) + 1)
            assert self.now - one.since_ns <= bound


TestOneDevice = OneDevice.TestCase
TestOneDevice.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
