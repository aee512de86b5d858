"""When a configuration is worse than the one before: a table of figures, and the timer."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edged.config.reload import ConfirmConfig
from edged.generation import proving as module
from edged.generation.looks import Look, Seen
from edged.generation.proving import Proving, Window, share_of_failures
from edged.specs import Duration

S = 1_000_000_000
RULES = ConfirmConfig(window=Duration(10 * S))


def seen(requests: int, failures: int = 0, *, lost: str = "", failed: bool = False) -> Seen:
    return Seen(
        {("m", 1): (requests, failures)},
        {lost: "its reason"} if lost else {},
        frozenset([lost]) if failed else frozenset(),
    )


class Figures:
    """What a test says is seen; in two pieces."""

    def __init__(self) -> None:
        self.now = seen(0)

    def begun(self) -> Seen:
        return self.now

    def steps(self) -> Look:
        yield
        return self.now


@pytest.mark.parametrize(
    ("usual", "requests", "failures", "is_bad"),
    [
        (0.0, 1000, 0, False),
        (0.0, 4, 4, False),  # too few to say
        (0.0, 5, 5, True),
        (0.0, 1000, 50, False),  # as much as is allowed
        (0.0, 1000, 51, True),
        (0.2, 1000, 399, False),  # not well before either
        (0.2, 1000, 401, True),
        (1.0, 1000, 1000, False),
    ],
)
def test_failures(usual: float, requests: int, failures: int, is_bad: bool) -> None:
    window = Window(RULES, usual, seen(70, 7), 0)
    verdict = window.judge(seen(70 + requests, 7 + failures), S)
    assert (verdict is not None) == is_bad
    if is_bad:
        assert f"{failures} of {requests} answers failed" in str(verdict)


def test_time_is_over() -> None:
    window = Window(RULES, 0.0, seen(0), 5 * S)
    assert window.judge(seen(9), 15 * S - 1) is None
    assert window.judge(seen(9), 15 * S) == ""


class TestLost:
    def test_for_good(self) -> None:
        window = Window(RULES, 0.0, seen(0), 0)
        verdict = window.judge(seen(0, lost="m", failed=True), 1)
        assert verdict == 'model "m" does not answer any more: its reason'

    def test_for_too_long(self) -> None:
        window = Window(RULES, 0.0, seen(0), 0)
        assert window.judge(seen(0, lost="m"), S) is None
        assert window.judge(seen(0, lost="m"), 3 * S - 1) is None
        assert window.judge(seen(0, lost="m"), 3 * S) is not None

    def test_back_in_time(self) -> None:
        """A worker that was started again."""
        window = Window(RULES, 0.0, seen(0), 0)
        assert window.judge(seen(0, lost="m"), S) is None
        assert window.judge(seen(0), 2 * S) is None
        assert window.judge(seen(0, lost="m"), 3 * S) is None

    def test_was_not_there_to_begin_with(self) -> None:
        window = Window(RULES, 0.0, seen(0, lost="m", failed=True), 0)
        assert window.judge(seen(0, lost="m", failed=True), 9 * S) is None
        assert window.judge(seen(50, 50, lost="m", failed=True), 9 * S) is None


class TestTether:
    """A document that came over a broker must leave that within reach."""

    WAIT = 60 * S

    def judge(self, *links: tuple[int, str | None]) -> str | None:
        window = Window(RULES, 0.0, seen(0), 0, self.WAIT)
        found: str | None = None
        for at, link in links:
            found = window.judge(replace(seen(0), link=link), at * S)
            if found:
                return found
        return found

    def test_within_reach(self) -> None:
        assert self.judge((1, ""), (9, "")) is None
        assert self.judge((1, ""), (10, "")) == ""

    def test_where_it_does_not_count(self) -> None:
        assert self.judge((10, None)) == ""

    def test_it_is_waited_for(self) -> None:
        away = [(at, "away") for at in range(1, 50)]
        assert self.judge(*away) is None
        assert self.judge(*away, (50, "")) is None  # only just back
        assert self.judge(*away, (50, ""), (52, "")) == ""

    def test_it_stays_away(self) -> None:
        found = self.judge(*[(at, "away") for at in range(1, 63)])
        assert found == "the broker that it came over is out of reach: away"

    def test_a_link_that_comes_and_goes_is_none(self) -> None:
        assert self.judge(*[(at, "away" if at % 2 else "") for at in range(1, 30)]) is None
        found = self.judge(*[(at, "away" if at % 2 else "") for at in range(1, 90)])
        assert "is out of reach: it comes and goes" in str(found)

    def test_without_a_window_it_is_not_waited_for(self) -> None:
        window = Window(ConfirmConfig(window=Duration(0)), 0.0, seen(0), 0, self.WAIT)
        assert window.judge(replace(seen(0), link="away"), 0) == ""


def test_a_release_that_went_takes_its_figures_along() -> None:
    before = Seen({("m", 1): (100, 10), ("m", 2): (5, 5)}, {})
    now = Seen({("m", 2): (15, 6), ("m", 3): (7, 1)}, {})
    assert share_of_failures(before, now) == (17, 2)


class TestProving:
    def test_verdicts(self) -> None:
        async def work() -> None:
            ended: list[str] = []
            figures = Figures()
            proving = Proving(figures, ended.append)
            proving.begin(ConfirmConfig(window=Duration(0)), must_prove=True)
            assert ended == [""]
            assert proving.left_s is None
            proving.begin(RULES, must_prove=False)
            assert proving.left_s is None
            proving.begin(RULES, must_prove=True)
            assert 0 < (proving.left_s or 0) <= 10
            figures.now = seen(10, 10)
            while len(ended) < 2:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
            assert "10 of 10" in ended[1]
            # What failed so far is usual for the next one.
            proving.begin(RULES, must_prove=True)
            figures.now = seen(20, 20)
            await asyncio.sleep(0.3)
            assert len(ended) == 2
            proving.stop()
            assert proving.left_s is None

        asyncio.run(asyncio.wait_for(work(), 30))

    def test_anew_when_no_model_is_lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing could take its place: a loss that ends is forgiven, failures are not usual."""

        async def work() -> None:
            monkeypatch.setattr(module, "_AGAIN_S", 0.01)
            ended: list[str] = []
            figures = Figures()
            proving = Proving(figures, ended.append)
            proving.begin(RULES, must_prove=True)
            figures.now = seen(9, 9, lost="m", failed=True)
            proving.begin_again(RULES)
            assert proving.left_s is None
            await asyncio.sleep(0.1)
            assert proving.left_s is None
            figures.now = seen(9, 9)
            while proving.left_s is None:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
            figures.now = seen(19, 19)
            while not ended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert "10 of 10" in ended[0]
            proving.begin_again(ConfirmConfig(window=Duration(0)))
            assert ended[1:] == [""]

        asyncio.run(asyncio.wait_for(work(), 30))

    def test_no_verdict_of_a_look_that_a_change_came_between(self) -> None:
        async def work() -> None:
            ended: list[str] = []
            figures = Figures()
            looks = 0

            def steps() -> Look:
                nonlocal looks
                looks += 1
                if looks == 1:
                    proving.begin(RULES, must_prove=False)  # in the middle of the look
                    asyncio.get_running_loop().call_soon(over.set)
                yield
                return seen(9, 9)

            figures.steps = steps  # type: ignore[method-assign]
            over = asyncio.Event()
            proving = Proving(figures, ended.append)
            proving.begin(RULES, must_prove=True)
            await over.wait()
            await asyncio.sleep(0)
            assert (ended, proving.left_s) == ([], None)
            proving.stop()

        asyncio.run(asyncio.wait_for(work(), 30))
