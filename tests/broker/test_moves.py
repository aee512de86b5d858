"""Which bindings go from one line of a broker to another, and how long their old one is waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edged.broker import moves as module
from edged.broker.moves import moved, rest, takers
from edged.config.broker_lines import Line
from edged.config.keyed import WindowConfig
from edged.protocol.mqtt import BaseTopics
from edged.transports.bindings.binding_set import BindingSet, prepare_bindings, with_waiting
from tests.fakes.door import SUM
from tests.transports.bindings.test_bindings import binding

PLANT, CLOUD, OTHER = Line("plant"), Line("plant", "cloud"), Line("other")


def reads(*names: str, **words: Any) -> BindingSet:
    configs = [binding(name, from_=f"{name}/in", to=f"{name}/out", **words) for name in names]
    return prepare_bindings(configs, lambda *_: SUM, BaseTopics("edged/n"))


def prepare(name: str, reads_from: str) -> BindingSet:
    return prepare_bindings(
        [binding(name, from_=reads_from, to="x/out")], lambda *_: SUM, BaseTopics("edged/n")
    )


@pytest.mark.parametrize(
    ("before", "after", "gone", "by"),
    [
        ({PLANT: reads("a")}, {PLANT: reads("a")}, {}, []),
        ({PLANT: reads("a")}, {PLANT: None}, {}, []),
        ({PLANT: reads("a")}, {OTHER: reads("a")}, {PLANT: ["a"]}, []),
        ({PLANT: reads("a"), OTHER: None}, {OTHER: reads("b")}, {}, []),
        ({PLANT: reads("a")}, {OTHER: prepare("b", "a/in")}, {}, []),
        ({PLANT: reads("a", "b")}, {PLANT: reads("b"), CLOUD: reads("a")}, {PLANT: ["a"]}, [CLOUD]),
        ({PLANT: None, CLOUD: reads("a")}, {PLANT: reads("a")}, {CLOUD: ["a"]}, [PLANT]),
        (
            {PLANT: reads("a"), CLOUD: reads("b")},
            {PLANT: reads("b"), CLOUD: reads("a")},
            {PLANT: ["a"], CLOUD: ["b"]},
            [PLANT, CLOUD],
        ),
        (
            {PLANT: reads("a", window=WindowConfig(rows=2))},
            {CLOUD: reads("a")},
            {PLANT: ["a"]},
            [CLOUD],
        ),
    ],
)
def test_those_whose_filter_another_line_of_the_broker_takes(
    before: Any, after: Any, gone: dict[Line, list[str]], by: list[Line]
) -> None:
    found = moved(before, after)
    assert {line: [one.name for one in its] for line, its in found.items()} == gone
    assert takers(found, after) == by


def test_what_came_for_a_binding_that_went_is_answered_as_before() -> None:
    both = reads("a", "b")
    left = both.left_by(both.bindings[1:])
    for one in (left, left.part(None), with_waiting(left, ()), left.after(both)):
        assert {*one.filters()} == {"a/in"}
        assert [route.binding.name for route in one.routes("b/in")] == ["b"]
        assert [route.binding.name for route in one.routes("a/in")] == ["a"]
    assert left.part("bulk").routes("b/in") == left.routes("c/in") == ()
    again = reads("a").with_others(both.bindings[1:])
    assert {*again.filters()} == {"a/in", "b/in"}
    assert both.left_by(()) is both.with_others(()) is both


def test_a_member_of_a_group_that_went_answers_once() -> None:
    both = prepare_bindings(
        [binding(name, from_="$share/g/in/{at}", to=f"{name}/out") for name in ("a", "b")],
        lambda *_: SUM,
        BaseTopics("edged/n"),
    )
    left = reads("c").left_by(both.bindings)
    for one in (left.after(both), left.after(both).after(left), reads("c").after(both)):
        assert sorted(route.binding.name for route in one.routes("in/1")) == ["a", "b"]


def test_who_went_still_answers_after_the_next_reload_what_nobody_else_does() -> None:
    """The broker may have hours of messages for a session that it could not reach."""
    before = reads("a", "b")
    left = reads("a").left_by(before.bindings[1:]).after(before)
    for _ in range(2):
        left = reads("a").after(left)
        assert {*left.filters()} == {"a/in"}
        assert [route.binding for route in left.routes("b/in")] == [before.bindings[1]]
    other = prepare_bindings(
        [binding("all", from_="b/#", to="all/out")], lambda *_: SUM, BaseTopics("edged/n")
    )
    assert [one.binding.name for one in other.after(left).routes("b/in")] == ["all"]
    again = reads("b").after(left)
    assert [one.binding for one in again.routes("b/in")] == [*again.bindings]


def test_who_has_the_name_of_one_that_went_stays() -> None:
    before = prepare_bindings(
        [binding("a", from_="x/in", to="x/out")], lambda *_: SUM, BaseTopics("edged/n")
    )
    now = reads("a")
    left = now.with_others(before.bindings).left_by(before.bindings)
    assert left.bindings == now.bindings == now.left_by(before.bindings).bindings
    assert [route.binding for route in left.routes("x/in")] == [*before.bindings]


def test_the_rest_is_over_when_nothing_comes_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_QUIET_S", 0)
    words = {"state": "connected", "subscribed": True}
    told = [
        words | {"acknowledged": 3, "in_flight": 0},
        words | {"acknowledged": 5, "in_flight": 1},
        words | {"acknowledged": 5, "in_flight": 1},
        words | {"acknowledged": 6, "in_flight": 0, "subscribed": False},
        words | {"acknowledged": 6, "in_flight": 0, "subscribed": False},
        words | {"acknowledged": 6, "in_flight": 0},
        "not asked",
    ]

    class Sessions:
        def stats(self) -> Any:
            return told.pop(0)

    assert asyncio.run(rest(Sessions(), 60))  # type: ignore[arg-type]
    assert told == ["not asked"]
    assert not asyncio.run(rest(Sessions(), 0))  # type: ignore[arg-type]
    assert told == ["not asked"]
    told.insert(0, words | {"state": "connecting"})
    assert not asyncio.run(rest(Sessions(), 60))  # type: ignore[arg-type]
    assert told == ["not asked"]


def test_a_long_way_to_the_broker_is_no_end_of_its_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It sends the next ones when it has our acknowledgements; by satellite after 0.6 s."""
    at_s, told = 0.0, [0]

    async def sleep(seconds: float) -> None:
        nonlocal at_s
        at_s += seconds

    class Sessions:
        def stats(self) -> Any:
            told.append(64 if at_s < 0.6 else 128)
            words = {"state": "connected", "subscribed": True, "in_flight": 0}
            return words | {"acknowledged": told[-1]}

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert asyncio.run(rest(Sessions(), 60))  # type: ignore[arg-type]
    assert told[-1] == 128
