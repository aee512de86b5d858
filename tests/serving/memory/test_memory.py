"""Who stays in memory and who goes, without a clock or a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.traces import belady, zipf
from edged.serving.memory.memory import (
    Full,
    Heat,
    Ledger,
    Never,
    Resident,
    Room,
    Wait,
    charge,
    choose_victims,
    plan_load,
    worth,
)

MIB = 1 << 20


def resident(key: str, size: int = 10, heat: float = 1.0, **flags: bool) -> Resident[str]:
    return Resident(key, size, heat, **flags)


@pytest.mark.parametrize(
    ("need", "residents", "victims"),
    [
        pytest.param(10, [resident("a", heat=2), resident("b")], ("b",), id="least asked for"),
        pytest.param(10, [resident("a"), resident("b")], ("a",), id="longest here"),
        pytest.param(
            11, [resident("a"), resident("b", heat=2)], ("a", "b"), id="as many as needed"
        ),
        pytest.param(
            10, [resident("a", is_pinned=True), resident("b", heat=9)], ("b",), id="pinned"
        ),
        pytest.param(10, [resident("a", is_busy=True), resident("b", heat=9)], ("b",), id="busy"),
        pytest.param(11, [resident("a")], None, id="not enough"),
        pytest.param(1, [], None, id="nobody there"),
        pytest.param(1, [resident("a", is_busy=True)], None, id="all busy"),
        pytest.param(
            40 * MIB,
            [resident("small", MIB, 0.1), resident("large", 50 * MIB, 1.0)],
            ("large",),
            id="whoever need not go stays",
        ),
        pytest.param(
            5 * MIB,
            [resident("small", 5 * MIB, 1.0), resident("large", 500 * MIB, 1.0)],
            ("large",),
            id="a byte of the large one is worth less",
        ),
    ],
)
def test_victims(
    need: int, residents: list[Resident[str]], victims: tuple[str, ...] | None
) -> None:
    assert choose_victims(need, residents) == victims


RESIDENTS = st.lists(
    st.builds(
        Resident,
        st.integers(),
        st.integers(1, 50),
        st.floats(0, 100),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda one: one.key,
    max_size=12,
)


@given(st.integers(1, 200), RESIDENTS)
def test_victims_are_enough_and_none_is_needless(need: int, residents: list[Resident[int]]) -> None:
    victims = choose_victims(need, residents)
    free = {one.key: one.size for one in residents if not (one.is_pinned or one.is_busy)}
    if victims is None:
        assert sum(free.values()) < need
        return
    freed = sum(free[key] for key in victims)
    assert freed >= need
    assert all(freed - free[key] < need for key in victims)


@pytest.mark.parametrize(
    ("need", "may_evict", "plan"),
    [
        (30, True, Room()),
        (31, True, Room(("idle",))),
        (31, False, Full()),
        (41, True, Wait(("busy",))),
        (70, True, Wait(("busy",))),
        (71, True, Never(70)),
        (71, False, Never(70)),
    ],
)
def test_a_load_begins_when_there_is_room(need: int, may_evict: bool, plan: object) -> None:
    residents = [
        resident("pinned", 30, is_pinned=True),
        resident("idle", 10),
        resident("busy", 30, is_busy=True),
    ]
    assert plan_load(need, 100, residents, may_evict=may_evict) == plan


def test_who_is_waited_for_is_who_would_go() -> None:
    """The favourite is left alone, although it is idle no more than the other."""
    residents = [
        resident("rare", 30, 0.1, is_busy=True),
        resident("favourite", 30, 9, is_busy=True),
    ]
    assert plan_load(30, 60, residents, may_evict=True) == Wait(("rare",))


def test_more_than_pinned_ones_leave_there_never_is() -> None:
    pinned = [resident("a", 120, is_pinned=True)]
    assert plan_load(1, 100, pinned, may_evict=True) == Never(0)


@pytest.mark.parametrize(
    ("peak", "pinned", "is_measured", "wanted"),
    [
        (60, 0, True, 60),
        (60, 0, False, 60),
        (120, 0, True, 120),
        (120, 0, False, 100),
        (120, 40, False, 60),
        (500, 0, False, 100),
        (501, 0, False, 501),
        (120, 80, False, 120),
        (120, 100, False, 120),
    ],
)
def test_a_mere_fear_is_no_reason_to_refuse(
    peak: int, pinned: int, is_measured: bool, wanted: int
) -> None:
    assert charge(peak, 100, pinned, is_measured=is_measured) == wanted


def test_a_lowered_budget_is_over_until_somebody_goes() -> None:
    ledger: Ledger[str] = Ledger(100)
    ledger.take("a", 60)
    ledger.take("b", 40)
    assert (ledger.used, ledger.over) == (100, 0)
    ledger.budget = 50
    assert ledger.over == 50
    ledger.give_back("a")
    assert (ledger.used, ledger.over) == (40, 0)
    ledger.give_back("a")
    assert ledger.sizes() == {"b": 40}


def test_what_is_promised_only_falls() -> None:
    ledger: Ledger[str] = Ledger(100)
    ledger.take("a", 60)
    ledger.shrink("a", 20)
    ledger.shrink("a", 50)
    assert ledger.used == 20
    with pytest.raises(AssertionError):
        ledger.take("b", 81)
    with pytest.raises(AssertionError):
        ledger.take("a", 1)
    assert ledger.used == 20


def test_heat_fades_and_counts_a_burst_once() -> None:
    heat: Heat[str] = Heat(half_life=2)
    heat.look({"burst": 1000, "steady": 1, "never": 0})
    assert (heat.of("burst"), heat.of("steady"), heat.of("never")) == (1, 1, 0)
    heat.look({"burst": 1000, "steady": 2, "never": 0})
    heat.look({"burst": 1000, "steady": 3, "never": 0})
    assert heat.of("burst") == pytest.approx(0.5)
    assert heat.of("steady") > 2
    heat.look({"steady": 3})
    assert heat.of("burst") == 0
    heat.look({"steady": 3, "burst": 0})
    assert heat.of("burst") == 0


def test_yesterdays_favourite_goes_before_todays() -> None:
    heat: Heat[str] = Heat()
    for count in range(1, 501):
        heat.look({"old": count, "new": 0})
    for count in range(1, 1001):
        heat.look({"old": 500, "new": count})
    assert heat.of("old") < heat.of("new") / 10


def ours(trace: list[int], room: int, size: int = 5 * MIB) -> int:
    """The loads of our choice: a look at every miss, as the daemon does."""
    heat: Heat[int] = Heat()
    ledger: Ledger[int] = Ledger(room * size)
    counts = dict.fromkeys(trace, 0)
    loads = 0
    for model in trace:
        if model not in ledger.sizes():
            loads += 1
            heat.look(counts)
            residents = [Resident(one, held, heat.of(one)) for one, held in ledger.sizes().items()]
            plan = plan_load(size, ledger.budget, residents, may_evict=True)
            assert isinstance(plan, Room)
            for victim in plan.victims:
                ledger.give_back(victim)
            ledger.take(model, size)
        counts[model] += 1
    return loads


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_zipf_trace_costs_little_more_than_knowing_the_future(seed: int) -> None:
    """LRU: 1.69 to 1.80 on these."""
    trace = zipf(100, 4000, seed)
    assert ours(trace, 20) / belady(trace, 20) <= 1.4


def test_popularity_that_moves_is_followed() -> None:
    """Half the trace asks for others; a count that never fades needs 1.59 here."""
    first = zipf(100, 3000, 1)
    trace = first + [99 - model for model in zipf(100, 3000, 2)]
    assert ours(trace, 20) / belady(trace, 20) <= 1.45


def test_a_load_of_a_small_one_costs_more_for_its_bytes() -> None:
    small, large = resident("s", MIB, 1.0), resident("l", 100 * MIB, 1.0)
    assert worth(small) > worth(large)
    assert worth(resident("none", 0, 1.0)) > 0
