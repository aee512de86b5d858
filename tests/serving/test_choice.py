"""Which precision serves: figures decide, and a tie goes to what the bundle lists first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edged.errors import IncompatibleError, RunError
from edged.serving import choice
from edged.serving.choice import Choice, choose, race
from tests.fakes.model import FakeSession
from tests.fakes.precisions import two_precisions

FLOAT32 = ((1, 1_000_000), (8, 4_000_000))
ENTRIES = two_precisions().artefacts

WINS = {
    "faster in both": ((1, 500_000), (8, 2_000_000)),
    "by a tenth": ((1, 909_000), (8, 4_000_000)),
    "another number of rows pays": ((1, 400_000), (2, 800_000)),
}
LOSES = {
    "slower": ((1, 2_000_000), (8, 8_000_000)),
    "the same": FLOAT32,
    "by less than chance": ((1, 950_000), (8, 3_000_000)),
    "one row only: batches pay more in float32": ((1, 600_000), (8, 4_800_000)),
    "batches only": ((1, 1_000_000), (8, 1_000_000)),
}


@pytest.mark.parametrize("name", WINS)
def test_int8_wins(name: str):
    assert choose({"float32": FLOAT32, "int8": WINS[name]}).order == ("int8", "float32")


@pytest.mark.parametrize("name", LOSES)
def test_float32_stays(name: str):
    assert choose({"float32": FLOAT32, "int8": LOSES[name]}).order == ("float32", "int8")


def test_of_three():
    costs = {"float32": ((1, 100),), "float16": ((1, 50),), "int8": ((1, 20),)}
    assert choose(costs).order == ("int8", "float32", "float16")


def test_says_what_decided():
    why = choose({"float32": FLOAT32, "int8": WINS["faster in both"]}).why
    assert why == (
        "int8 won on this device: int8 0.500 ms a row, 2.000 ms for 8; "
        "float32 1.000 ms a row, 4.000 ms for 8"
    )


class TestPick:
    def test_order(self):
        assert [e.precision for e in Choice(("int8", "float32")).pick(ENTRIES)] == [
            "int8", "float32",
        ]  # fmt: skip
        assert [e.precision for e in Choice(("int8",)).pick(ENTRIES)] == ["int8"]
        assert Choice().pick(ENTRIES) == list(ENTRIES)

    def test_nothing_is_left(self):
        message = "no float16 artefact; it has: float32, int8; set models.NAME.precision to auto"
        with pytest.raises(IncompatibleError, match=message):
            Choice(("float16",), is_strict=True).pick(ENTRIES)


class TestRace:
    """Sessions that move the clock by what a run takes."""

    SAMPLE = {"x": np.ones((1, 4), np.float32)}  # noqa: RUF012

    def race(self, monkeypatch: pytest.MonkeyPatch, *, is_row_wise: bool = True, **costs: Any):
        now = [0]
        monkeypatch.setattr(choice.time, "monotonic_ns", lambda: now[0])
        self.order: list[str] = []

        def running(name: str, run_ns: Callable[[int], int]) -> FakeSession:
            def run(inputs: Any) -> Any:
                self.order.append(name)
                now[0] += run_ns(len(inputs["x"]))
                return {}

            return FakeSession(run)

        sessions = {name: running(name, run_ns) for name, run_ns in costs.items()}
        return race(sessions, self.SAMPLE, is_row_wise=is_row_wise)

    def test_in_turn(self, monkeypatch: pytest.MonkeyPatch):
        got = self.race(monkeypatch, a=lambda rows: 100 * rows, b=lambda rows: 90 + rows)
        assert self.order[:4] == ["a", "b", "a", "b"]
        assert got["a"][0] == (1, 100)
        assert got["b"][-1] == (32, 122)

    def test_the_fastest_run_counts(self, monkeypatch: pytest.MonkeyPatch):
        """As on a machine that is busy but for one moment."""
        runs = iter([9, 9, 9, 5, 9, 9, 9, 9, 9])
        got = self.race(monkeypatch, is_row_wise=False, a=lambda _: next(runs), b=lambda _: 7)
        assert got == {"a": ((1, 5),), "b": ((1, 7),)}

    def test_ends_in_time_with_a_figure_of_each(self, monkeypatch: pytest.MonkeyPatch):
        got = self.race(monkeypatch, a=lambda _: 10**10, b=lambda _: 10**10)
        assert got == {"a": ((1, 10**10),), "b": ((1, 10**10),)}
        assert self.order == ["a", "b"]

    def test_no_large_batch_is_made(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(choice, "_BYTES", 40)  # rows of 16 bytes
        got = self.race(monkeypatch, a=lambda _: 1, b=lambda _: 1)
        assert [rows for rows, _ in got["a"]] == [1, 2]

    def test_rows_that_one_refuses_together(self, monkeypatch: pytest.MonkeyPatch):
        def refuses(rows: int, most: int) -> int:
            if rows > most:
                raise RunError("too many")
            return 1

        got = self.race(monkeypatch, a=lambda rows: refuses(rows, 2), b=lambda _: 1)
        assert [rows for rows, _ in got["b"]] == [1, 2] == [rows for rows, _ in got["a"]]
        with pytest.raises(RunError):
            self.race(monkeypatch, a=lambda rows: refuses(rows, 0), b=lambda _: 1)
