"""One load after the other: no budget exceeded, nobody sent away at work, nobody forgotten."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edged.serving.memory.load_line import (
    PATIENCE_NS,
    AskAt,
    Begin,
    LeaveOut,
    LoadLine,
    Prove,
    Quiet,
    Rank,
    Refuse,
    Wish,
)
from edged.serving.memory.memory import Ledger, Resident


def line_of(budget: int = 100) -> LoadLine[str]:
    return LoadLine(Ledger(budget))


def residents(line: LoadLine[str], *busy: str) -> list[Resident[str]]:
    return [
        Resident(key, size, is_busy=key in busy or key == line.current)
        for key, size in line.ledger.sizes().items()
    ]


def test_requests_go_first_then_pinned_then_the_start() -> None:
    line = line_of()
    for key, rank in (("s", Rank.START), ("p", Rank.PINNED), ("a", Rank.ASKED), ("b", Rank.ASKED)):
        line.ask(Wish(key, rank, need=10))
    assert line.waiting() == ["a", "b", "p", "s"]
    done = []
    while (step := line.next_step(residents(line), 0)) is not None:
        assert isinstance(step, Begin)
        assert line.next_step(residents(line), 0) is None, "one at a time"
        done.append(step.key)
        line.loaded(step.key, 10)
    assert done == ["a", "b", "p", "s"]
    assert line.ledger.used == 40


def test_who_is_passed_again_and_again_goes_first() -> None:
    """Or a reload would never end on a device whose models go in and out all the time."""
    line = line_of()
    line.ask(Wish("start", Rank.START, may_evict=False, need=10))
    begun = []
    for number in range(20):
        line.ask(Wish(f"asked{number}", Rank.ASKED, need=1))
        step = line.next_step(residents(line), 0)
        assert isinstance(step, Begin)
        begun.append(step.key)
        line.loaded(step.key, 1)
    assert begun[:8] == [f"asked{number}" for number in range(8)]
    assert begun[8] == "start"


def test_who_is_unknown_is_looked_at_first_and_keeps_its_place() -> None:
    line = line_of()
    line.ask(Wish("new", Rank.ASKED))
    line.ask(Wish("known", Rank.ASKED, need=10))
    assert line.next_step([], 0) == Prove("new")
    assert not line.proved("new", 50)
    assert line.ledger.used == 0
    assert line.next_step([], 0) == Begin("new", ())
    assert line.ledger.used == 50
    line.loaded("new", 30)
    assert line.ledger.used == 30


def test_who_is_only_looked_at_takes_nothing() -> None:
    line = line_of()
    line.ask(Wish("lazy", Rank.START, is_proof_only=True))
    assert line.next_step([], 0) == Prove("lazy")
    assert line.proved("lazy", 50)
    assert line.next_step([], 0) is None
    assert line.ledger.used == 0


def test_a_start_sends_nobody_away() -> None:
    line = line_of()
    line.ledger.take("here", 60)
    line.ask(Wish("start", Rank.START, may_evict=False, need=50))
    assert line.next_step(residents(line), 0) == LeaveOut("start")
    line.ask(Wish("start", Rank.ASKED, need=50))
    assert line.next_step(residents(line), 0) == Begin("start", ("here",))
    assert line.ledger.sizes() == {"start": 50}


def test_what_never_fits_is_refused_with_the_figures() -> None:
    line = line_of()
    line.ask(Wish("giant", Rank.ASKED, need=101))
    assert line.next_step([], 0) == Refuse("giant", 101, 100)
    assert line.waiting() == []


def test_a_failed_load_gives_everything_back() -> None:
    line = line_of()
    line.ask(Wish("bad", Rank.ASKED, need=50))
    assert line.next_step([], 0) == Begin("bad", ())
    line.failed("bad")
    assert (line.ledger.used, line.current) == (0, None)


def test_who_is_busy_is_waited_for_and_then_asked_to_finish() -> None:
    line = line_of()
    line.ledger.take("busy", 60)
    line.ask(Wish("next", Rank.ASKED, need=50))
    assert line.next_step(residents(line, "busy"), 1000) == AskAt(1000 + PATIENCE_NS)
    late_ns = 1000 + PATIENCE_NS
    assert line.next_step(residents(line, "busy"), late_ns - 1) == AskAt(late_ns)
    assert line.next_step(residents(line, "busy"), late_ns) == Quiet(("busy",))
    assert line.next_step(residents(line), late_ns) == Begin("next", ("busy",))
    # The next one in line has its own patience.
    line.loaded("next", 50)
    line.ask(Wish("busy", Rank.ASKED, need=60))
    assert line.next_step(residents(line, "next"), late_ns) == AskAt(late_ns + PATIENCE_NS)


def test_the_first_is_not_passed_by_a_small_one() -> None:
    line = line_of()
    line.ledger.take("busy", 60)
    line.ask(Wish("large", Rank.ASKED, need=50))
    line.ask(Wish("small", Rank.ASKED, need=1))
    assert isinstance(line.next_step(residents(line, "busy"), 0), AskAt)


def test_who_is_not_wanted_any_more_leaves() -> None:
    line = line_of()
    line.ask(Wish("a", Rank.ASKED, need=1))
    assert line.leave("a")
    assert not line.leave("a")
    assert line.next_step([], 0) is None
    with pytest.raises(AssertionError):
        line.loaded("a", 1)


@dataclass
class Model:
    """What the daemon would know of one release."""

    need: int
    held: int
    is_pinned: bool
    requests: int = 0
    in_line: bool = False
    is_quiet: bool = False


class Schedules(RuleBasedStateMachine):
    """Random requests, loads, failures, answers and budgets over seven models."""

    BUDGET = 100

    def __init__(self) -> None:
        super().__init__()
        self.line: LoadLine[int] = LoadLine(Ledger(self.BUDGET))
        sizes = ((10, 5), (20, 20), (30, 10), (40, 35), (70, 60), (50, 20), (101, 90))
        self.models = {
            key: Model(need, held, is_pinned=key == 2) for key, (need, held) in enumerate(sizes)
        }
        self.now_ns = 0
        self.is_proving = False

    def is_resident(self, key: int) -> bool:
        return key in self.line.ledger.sizes() and key != self.line.current

    def residents(self) -> list[Resident[int]]:
        return [
            Resident(
                key,
                size,
                1.0,
                self.models[key].is_pinned,
                key == self.line.current
                or (self.models[key].requests > 0 and not self.models[key].is_quiet),
            )
            for key, size in self.line.ledger.sizes().items()
        ]

    def ask(self, key: int) -> None:
        model = self.models[key]
        if not (model.in_line or key == self.line.current or self.is_resident(key)):
            model.in_line = True
            self.line.ask(Wish(key, Rank.ASKED))

    @rule(key=st.integers(0, 6))
    def request(self, key: int) -> None:
        self.models[key].requests += 1
        self.ask(key)

    @rule(key=st.integers(0, 6))
    def answer(self, key: int) -> None:
        model = self.models[key]
        if self.is_resident(key) and not model.is_quiet:
            model.requests = 0

    @rule()
    def step(self) -> None:
        self.now_ns += PATIENCE_NS
        step = self.line.next_step(self.residents(), self.now_ns)
        if isinstance(step, Prove):
            self.is_proving = True
            self.models[step.key].in_line = False
        elif isinstance(step, Begin):
            self.begin(step)
        elif isinstance(step, Refuse):
            assert self.models[step.key].need > self.BUDGET - self.pinned()
            self.models[step.key].in_line = False
            self.models[step.key].requests = 0
        elif isinstance(step, Quiet):
            # What runs comes to its end; what waits stays.
            for key in step.keys:
                assert not self.models[key].is_pinned
                self.models[key].is_quiet = True

    def begin(self, step: Begin[int]) -> None:
        self.models[step.key].in_line = False
        for key in step.victims:
            assert not self.models[key].is_pinned, "a pinned one was sent away"
            assert not self.models[key].requests or self.models[key].is_quiet, "at work"
        for model in self.models.values():
            model.is_quiet = False
        for key in step.victims:
            if self.models[key].requests:
                self.ask(key)

    @precondition(lambda self: self.line.current is not None)
    @rule(is_good=st.booleans())
    def end(self, is_good: bool) -> None:
        key = self.line.current
        assert key is not None
        model = self.models[key]
        if not is_good:
            self.is_proving = False
            self.line.failed(key)
            model.requests = 0
        elif self.is_proving:
            self.is_proving = False
            model.in_line = True
            assert not self.line.proved(key, model.need)
        else:
            self.line.loaded(key, model.held)

    def pinned(self) -> int:
        sizes = self.line.ledger.sizes()
        return sum(size for key, size in sizes.items() if self.models[key].is_pinned)

    @invariant()
    def keeps_the_budget(self) -> None:
        assert self.line.ledger.used <= self.line.ledger.budget

    @invariant()
    def forgets_nobody(self) -> None:
        """Whoever has requests is there, is on its way, or stands in line."""
        for key, model in self.models.items():
            if model.requests:
                assert self.is_resident(key) or key == self.line.current or model.in_line
        assert sorted(self.line.waiting()) == [k for k, m in self.models.items() if m.in_line]

    def teardown(self) -> None:
        """No deadlock: when loads go well, everybody who waits is answered in so many steps."""
        for _ in range(12 * len(self.models)):
            for key in self.models:
                self.answer(key)
            if self.line.current is not None:
                self.end(is_good=True)
            else:
                self.step()
        assert all(not model.requests for model in self.models.values())
        assert self.line.waiting() == []


Schedules.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSchedules = Schedules.TestCase
