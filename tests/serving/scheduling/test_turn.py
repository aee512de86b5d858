"""What runs on the loop in one of its turns, over all models: rows of a table, and a loop by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from edged.serving.scheduling.turn import Turn, fits


@pytest.mark.parametrize(
    ("spent", "expected", "answer"),
    [
        (0, 0, True),
        (0, 500, True),
        (0, 9_000, True),  # or it would never run
        (100, 400, True),
        (100, 401, False),
        (500, 0, True),  # work on a thread holds up nobody
        (501, 0, False),
        (1, 9_000, False),
    ],
)
def test_fits(spent: int, expected: int, answer: bool):
    assert fits(spent, expected, 500) is answer


class Loop:
    """Callbacks of the next turn, run by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable, *arguments: object) -> None:
        self.soon.append(lambda: callback(*arguments))

    def turn(self) -> None:
        now, self.soon = self.soon, []
        for callback in now:
            callback()


class Model:
    """Runs ``batches`` runs of ``cost`` each, and asks again while some are left."""

    def __init__(self, name: str, log: list[str], cost: int, batches: int = 1) -> None:
        self.name, self.log, self.expected_ns, self.batches = name, log, cost, batches
        self.then: Callable[[], None] = lambda: None

    def pump(self) -> int:
        self.log.append(self.name)
        self.batches -= 1
        if self.batches:
            self.then()
        return self.expected_ns


def served(turn: Turn, loop: Loop, log: list[str], *models: Model) -> list[str]:
    """What ran, turn by turn."""
    for model in models:
        model.then = lambda model=model: turn.ask(model, loop)
        turn.ask(model, loop)
    turns = []
    while loop.soon:
        log.clear()
        loop.turn()
        turns.append("".join(log))
    return turns


def test_all_that_fits_runs_in_one_turn():
    log: list[str] = []
    models = [Model(name, log, 100) for name in "abcde"]
    assert served(Turn(500), Loop(), log, *models) == ["abcde"]


def test_what_does_not_fit_runs_in_the_next_turn_and_in_order():
    log: list[str] = []
    turn = Turn(500)
    models = [Model(name, log, 200) for name in "abcde"]
    assert served(turn, Loop(), log, *models) == ["ab", "cd", "e"]
    assert turn.spills == 2


def test_a_full_queue_does_not_keep_the_others_waiting():
    log: list[str] = []
    models = [Model("a", log, 100, batches=4), Model("b", log, 100), Model("c", log, 0)]
    assert served(Turn(500), Loop(), log, *models) == ["abc", "a", "a", "a"]


def test_one_that_is_longer_than_a_turn_has_a_turn_of_its_own():
    log: list[str] = []
    models = [Model("a", log, 100), Model("b", log, 900), Model("c", log, 100)]
    assert served(Turn(500), Loop(), log, *models) == ["a", "b", "c"]


def test_the_line_is_called_once_and_again_when_it_was_empty():
    log: list[str] = []
    turn, loop = Turn(500), Loop()
    for _ in range(2):
        models = [Model(name, log, 1) for name in "ab"]
        for model in models:
            turn.ask(model, loop)
        assert len(loop.soon) == 1
        loop.turn()
        assert not loop.soon
    assert log == ["a", "b", "a", "b"]


class Faulty(Model):
    """One that raises, which none should."""

    def pump(self) -> int:
        raise AssertionError("a fault")


def test_a_fault_of_one_stops_nobody():
    log: list[str] = []
    turn, loop = Turn(500), Loop()
    for model in (Model("a", log, 1), Faulty("f", log, 1), Model("b", log, 1)):
        turn.ask(model, loop)
    with pytest.raises(AssertionError, match="a fault"):
        loop.turn()
    loop.turn()
    turn.ask(Model("c", log, 1), loop)
    loop.turn()
    assert log == ["a", "b", "c"]


class Classed(Model):
    """One of a class, with a deadline."""

    due_ns = 0

    def __init__(self, name: str, log: list[str], rank: int, cost: int = 100) -> None:
        super().__init__(name, log, cost)
        self.rank = rank


def test_classes_run_in_their_order():
    log: list[str] = []
    turn = Turn(500)
    turn.is_ranked = True
    models = [Classed(name, log, rank) for name, rank in (("l", 2), ("h", 0), ("n", 1), ("m", 1))]
    models[3].due_ns = -1
    assert served(turn, Loop(), log, *models) == ["hmnl"]


def test_one_that_was_left_over_too_long_goes_first(monkeypatch: pytest.MonkeyPatch):
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    log: list[str] = []
    turn, loop = Turn(500), Loop()
    turn.is_ranked, turn.starvation_ns = True, 250
    low, high = Classed("l", log, 2, 400), Classed("h", log, 0, 400)
    high.batches = 100
    high.then = lambda: turn.ask(high, loop)
    for model in (low, high):
        turn.ask(model, loop)
    for _ in range(5):
        loop.turn()
        now[0] += 100
    assert "".join(log) == "hhhlh"


def test_a_class_that_runs_each_turn_is_not_taken_for_one_that_waits():
    log: list[str] = []
    turn, loop = Turn(500), Loop()
    turn.is_ranked = True
    busy = Classed("b", log, 1)
    busy.batches = 3
    busy.then = lambda: turn.ask(busy, loop)
    turn.ask(busy, loop)
    while loop.soon:
        loop.turn()
    assert not turn._since


def test_who_is_overlooked_ends_neither_being_alone_nor_a_stay():
    class Stayed:
        core, left = 3, 0

        def leave(self) -> None:
            self.left += 1

    log: list[str] = []
    turn, loop, me, stay = Turn(500), Loop(), object(), Stayed()
    turn.stay = stay  # type: ignore[assignment]
    mine, other = Model("m", log, 1), Model("o", log, 1)
    while not turn.is_alone(me):
        turn.ask(mine, loop)
        loop.turn()
    stay.left = 0
    turn.overlook(lambda: turn.ask(other, loop))
    loop.turn()
    assert (turn.is_alone(me), stay.left, log[-1]) == (True, 0, "o")
    turn.ask(other, loop)
    loop.turn()
    assert (turn.is_alone(me), stay.left) == (False, 2)
