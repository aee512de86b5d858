"""What serves: figures decide, and a tie goes to what is listed first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edged.costs import Costs
from edged.errors import IncompatibleError, RunError
from edged.loading import Loaded, Skipped
from edged.runtimes.engine import Host
from edged.serving.choosing import choice
from edged.serving.choosing.choice import Choice, Pair, choose, idle_engines, race
from tests.engines import ELSEWHERE, HOST, build, with_engines
from tests.fakes.model import FakeSession
from tests.fakes.precisions import two_precisions
from tests.models import double

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


def chosen(**costs: Costs) -> tuple[str, ...]:
    """The precisions of one runtime, the best first."""
    pairs, _ = choose({Pair("rt", precision): runs for precision, runs in costs.items()})
    return tuple(pair.precision for pair in pairs)


@pytest.mark.parametrize("name", WINS)
def test_int8_wins(name: str):
    assert chosen(float32=FLOAT32, int8=WINS[name]) == ("int8", "float32")


@pytest.mark.parametrize("name", LOSES)
def test_float32_stays(name: str):
    assert chosen(float32=FLOAT32, int8=LOSES[name]) == ("float32", "int8")


def test_of_three():
    costs: dict[str, Costs] = {"float32": ((1, 100),), "float16": ((1, 50),), "int8": ((1, 20),)}
    assert chosen(**costs) == ("int8", "float32", "float16")


class TestRuntimes:
    """Nothing but time is at stake between two runtimes of one precision."""

    FASTER = {  # noqa: RUF012
        "by more than chance": ((1, 970_000), (8, 3_880_000)),
        "in batches more than it is slower alone": ((1, 1_100_000), (8, 2_000_000)),
        "alone more than it is slower in batches": ((1, 500_000), (8, 4_800_000)),
    }
    SLOWER = {  # noqa: RUF012
        "the same": FLOAT32,
        "by chance": ((1, 990_000), (8, 3_960_000)),
        "slower in both": ((1, 1_100_000), (8, 4_400_000)),
        "alone less than it is slower in batches": ((1, 900_000), (8, 8_000_000)),
    }

    def chosen(self, one: Costs, other: Costs) -> str:
        pairs, _ = choose({Pair("one", "float32"): one, Pair("other", "float32"): other})
        assert len(pairs) == 2
        return pairs[0].runtime

    @pytest.mark.parametrize("name", FASTER)
    def test_the_faster_wins(self, name: str):
        assert self.chosen(FLOAT32, self.FASTER[name]) == "other"

    @pytest.mark.parametrize("name", SLOWER)
    def test_the_first_stays(self, name: str):
        assert self.chosen(FLOAT32, self.SLOWER[name]) == "one"

    def test_a_lower_precision_has_to_beat_the_fastest_of_the_higher(self):
        """Int8 beats float32 of its own runtime by far, and not that of the other by a tenth."""
        costs: dict[Pair, Costs] = {
            Pair("one", "float32"): ((1, 1000),),
            Pair("other", "float32"): ((1, 500),),
            Pair("one", "int8"): ((1, 480),),
            Pair("other", "int8"): ((1, 700),),
        }
        pairs, why = choose(costs)
        assert pairs == (
            Pair("other", "float32"), Pair("one", "float32"), Pair("one", "int8"), Pair("other", "int8"),
        )  # fmt: skip
        assert why.startswith(
            "float32 on other won on this device: float32 on other 0.001 ms a row"
        )
        costs[Pair("one", "int8")] = ((1, 450),)
        assert choose(costs)[0][:2] == (Pair("one", "int8"), Pair("other", "int8"))

    def test_says_runtimes_where_only_they_differ(self):
        _, why = choose({Pair("one", "int8"): FLOAT32, Pair("other", "int8"): ((1, 500_000),)})
        assert why == (
            "other won on this device: other 0.500 ms a row; one 1.000 ms a row, 4.000 ms for 8"
        )


def test_says_what_decided():
    costs = {Pair("rt", "float32"): FLOAT32, Pair("rt", "int8"): WINS["faster in both"]}
    _, why = choose(costs)
    assert why == (
        "int8 won on this device: int8 0.500 ms a row, 2.000 ms for 8; "
        "float32 1.000 ms a row, 4.000 ms for 8"
    )


class TestPick:
    def picked(self, choice: Choice, runtime: str = "rt") -> list[str]:
        return [entry.precision for entry in choice.pick(runtime, ENTRIES)]

    def test_order(self):
        assert self.picked(Choice(("rt",), ("int8", "float32"))) == ["int8", "float32"]
        assert self.picked(Choice(("rt",), ("int8",))) == ["int8"]
        assert Choice(("rt",)).pick("rt", ENTRIES) == list(ENTRIES)

    def test_of_each_runtime_its_own(self):
        pairs = Pair("rt", "int8"), Pair("other", "float32"), Pair("rt", "float32")
        choice = Choice(("rt", "other"), pairs=pairs)
        assert self.picked(choice) == ["int8", "float32"]
        assert self.picked(choice, "other") == ["float32"]
        assert choice.first == ("rt", "int8")

    def test_nothing_is_left(self):
        message = "no float16 artefact; it has: float32, int8; set models.NAME.precision to auto"
        with pytest.raises(IncompatibleError, match=message):
            Choice(("rt",), ("float16",), is_strict=True).pick("rt", ENTRIES)


class TestRace:
    """Sessions that move the clock by what a run takes."""

    SAMPLE = {"x": np.ones((1, 4), np.float32)}  # noqa: RUF012

    def race(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        is_row_wise: bool = True,
        waits: Any = None,
        **costs: Any,
    ):
        now = [0]
        self.disturbed: set[str] = set()
        monkeypatch.setattr(choice.time, "monotonic_ns", lambda: now[0])
        self.order: list[str] = []

        def running(name: str, run_ns: Callable[[int], int]) -> FakeSession:
            def run(inputs: Any) -> Any:
                self.order.append(name)
                now[0] += run_ns(len(inputs["x"]))
                return {}

            return FakeSession(run)

        sessions = {name: running(name, run_ns) for name, run_ns in costs.items()}
        by_id = {id(session): name for name, session in sessions.items()}
        return race(
            sessions, self.SAMPLE, is_row_wise=is_row_wise, disturbed=self.disturbed,
            waits=lambda session: waits(by_id[id(session)]) if waits else 0,
        )  # fmt: skip

    def test_in_turn(self, monkeypatch: pytest.MonkeyPatch):
        got = self.race(monkeypatch, a=lambda rows: 100 * rows, b=lambda rows: 90 + rows)
        assert self.order[:4] == ["a", "b", "a", "b"]
        assert got["a"][0] == (1, 100)
        assert got["b"][-1] == (32, 122)

    def test_the_fastest_run_counts(self, monkeypatch: pytest.MonkeyPatch):
        """As on a machine that is busy but for one moment."""
        runs = iter([9, 9, 9, 5, *[9] * 9])
        got = self.race(monkeypatch, is_row_wise=False, a=lambda _: next(runs), b=lambda _: 7)
        assert got == {"a": ((1, 5),), "b": ((1, 7),)}

    def test_goes_on_while_somebody_gets_faster(self, monkeypatch: pytest.MonkeyPatch):
        """As where the moments without disturbance are rare."""
        runs = iter([90, *[80] * 8, 60, *[80] * 8, 59])
        got = self.race(monkeypatch, is_row_wise=False, a=lambda _: next(runs), b=lambda _: 75)
        assert got["a"] == ((1, 59),), "which is not faster by more than chance"
        assert len(self.order) == 2 * 19

    def test_goes_on_until_each_was_let_run(self, monkeypatch: pytest.MonkeyPatch):
        """Another process has the cores until the thirtieth round, but for one of the two."""
        waited = {"a": 0, "b": 0}

        def waits(name: str) -> int:
            if name == "b" and self.order.count("b") < 30:
                waited[name] += 10**6
            return waited[name]

        run_ns = 10**6
        self.race(
            monkeypatch, is_row_wise=False, waits=waits, a=lambda _: run_ns, b=lambda _: run_ns
        )
        assert self.order.count("a") == self.order.count("b") == 30
        assert self.disturbed == set()

    def test_but_not_for_ever_and_tells_who_was_not(self, monkeypatch: pytest.MonkeyPatch):
        waited = [0]

        def waits(name: str) -> int:
            waited[0] += 10**6 * (name == "b")
            return waited[0]

        run_ns = 5 * 10**7
        self.race(monkeypatch, waits=waits, a=lambda _: run_ns, b=lambda _: run_ns)
        assert self.disturbed == set(), "a wait of a fiftieth is none"
        run_ns = 5 * 10**6
        self.race(monkeypatch, waits=waits, a=lambda _: run_ns, b=lambda _: run_ns)
        assert self.disturbed == {"b"}

    def test_more_rows_are_not_tried_where_they_bring_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        got = self.race(monkeypatch, a=lambda rows: 100 * rows, b=lambda rows: 95 * rows)
        assert [rows for rows, _ in got["a"]] == [1, 2, 4]

    def test_fewer_rows_take_no_longer_than_more(self, monkeypatch: pytest.MonkeyPatch):
        """One row was disturbed for as long as it was looked at."""
        got = self.race(
            monkeypatch, a=lambda rows: {1: 100, 2: 70}.get(rows, 40 * rows), b=lambda _: 9
        )
        assert got["a"][:3] == ((1, 70), (2, 70), (4, 160))

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


class TestIdleEngines:
    LIST = ("tensorrt", "onnxruntime")

    def told(self, *hosts: Host, runtime: str = "onnxruntime", wanted: Any = LIST) -> str:
        manifest, _ = with_engines(double(), [build(double(), host) for host in hosts])
        skipped = (Skipped("tensorrt", "no GPU is visible"),) if wanted == self.LIST else ()
        loaded = Loaded(FakeSession(manifest), runtime, (), skipped=skipped)
        return idle_engines(manifest, loaded, wanted)

    def test_none_there_or_one_at_work(self):
        assert self.told() == ""
        assert self.told(HOST, wanted="auto") == "", "the choice tells what is left out"
        assert self.told(HOST, ELSEWHERE, runtime="tensorrt") == ""

    @pytest.mark.parametrize(
        ("wanted", "why"),
        [
            (("onnxruntime",), 'because models.gate.runtime does not list "tensorrt"; onnxrun'),
            (("onnxruntime", "tensorrt"), 'runtime has "tensorrt" after onnxruntime; onnxruntime'),
            (LIST, "because no GPU is visible; onnxruntime runs the ONNX file"),
        ],
    )
    def test_why_not(self, wanted: Any, why: str):
        said = self.told(HOST, wanted=wanted)
        assert said.startswith("not used: model-float32-sm87-")
        assert why in said
