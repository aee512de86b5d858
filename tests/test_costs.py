"""What runs cost is measured once, on a machine that does other things too."""

from __future__ import annotations

from typing import Any

import pytest

from edged import costs as costing
from edged.costs import Costs
from edged.errors import GoldenMismatchError, RunError
from edged.loading import warm
from edged.serving.scheduling.scheduler import paying_rows
from tests.fakes.model import FakeSession, FakeStored, doubler


class TestMeasure:
    """What runs take by their rows, with a model that moves the clock by as much."""

    def costs(self, monkeypatch: pytest.MonkeyPatch, run_ns, manifest=None) -> tuple:
        now = [0]
        monkeypatch.setattr(costing.time, "monotonic_ns", lambda: now[0])

        def run(inputs):
            now[0] += run_ns(len(inputs["x"]))
            return {"y": inputs["x"] * 2}

        return warm(FakeSession(run), manifest or doubler(), None)

    def test_every_size_while_batches_pay(self, monkeypatch: pytest.MonkeyPatch):
        costs = self.costs(monkeypatch, lambda rows: 10_000 + rows * 100)
        assert [rows for rows, _ in costs] == [1, 2, 4, 8, 16, 32]
        assert costs[-1] == (32, 13_200)

    def test_what_disturbed_one_size_does_not_decide(self, monkeypatch: pytest.MonkeyPatch):
        """Runs as they came on a busy machine, milliseconds: rows cost 7 each, batches pay nothing.

        One row was slow from the first to the last run, as long as only that was measured.
        """
        slow = iter([13.1, 14.6, 12.2, 15.9, 13.7, 14.1, 12.8, 13.3])
        later = iter([1.0, 1.31, 1.02, 1.55, 1.0, 1.08, 1.9, 1.04, 1.01] * 9)

        def run_ns(rows: int) -> int:
            return int(1e6 * (next(slow, 0) or 7 * rows * next(later)))

        costs = self.costs(monkeypatch, run_ns)
        assert costs[0][1] < 8_000_000
        assert paying_rows(costs, 32) == 1

    def test_the_second_look_is_short(self, monkeypatch: pytest.MonkeyPatch):
        spent = [0]

        def run_ns(rows: int) -> int:
            spent[0] += 20_000_000 + rows
            return 20_000_000 + rows

        self.costs(monkeypatch, run_ns)
        assert spent[0] < costing._MEASURE_CAP_NS + costing._AGAIN_CAP_NS + 100_000_000

    def test_no_further_than_two_sizes_that_gain_nothing(self, monkeypatch: pytest.MonkeyPatch):
        costs = self.costs(monkeypatch, lambda rows: rows * 1_000_000)
        assert costs == ((1, 1_000_000), (2, 2_000_000), (4, 4_000_000))

    def test_no_longer_than_the_cap(self, monkeypatch: pytest.MonkeyPatch):
        costs = self.costs(monkeypatch, lambda rows: 20_000_000 + rows)
        assert sum(run_ns for _, run_ns in costs) * 7 < costing._MEASURE_CAP_NS * 2
        assert len(costs) < 6

    def test_no_batch_of_large_inputs_is_made_to_be_measured(self, monkeypatch):
        monkeypatch.setattr(costing, "_MEASURE_BYTES", 100)  # rows of 16 bytes
        costs = self.costs(monkeypatch, lambda rows: 10_000 + rows)
        assert [rows for rows, _ in costs] == [1, 2, 4]

    def test_rows_that_the_model_refuses_together_are_not_joined(self, monkeypatch):
        def run_ns(rows: int) -> int:
            if rows > 2:
                raise RunError("too many")
            return 10_000

        costs = self.costs(monkeypatch, run_ns)
        assert costs == ((1, 10_000),)
        with pytest.raises(RunError):
            self.costs(monkeypatch, lambda rows: run_ns(rows + 2))

    def test_one_size_where_rows_cannot_be_stacked(self, monkeypatch: pytest.MonkeyPatch):
        costs = self.costs(monkeypatch, lambda _: 1000, doubler(shape=(3, 4)))
        assert costs == ((1, 1000),)


class TestKnown:
    """What was measured before is believed unless a look finds the model faster."""

    def warm(self, monkeypatch: pytest.MonkeyPatch, run_ns: int, known: Costs | None) -> Any:
        now = [0]
        monkeypatch.setattr(costing.time, "monotonic_ns", lambda: now[0])

        def run(inputs: Any) -> Any:
            now[0] += run_ns
            return {"y": inputs["x"] * 2}

        session = FakeSession(run)
        stored = FakeStored(doubler())
        return session, warm(session, doubler(), stored.golden(), known)

    @pytest.mark.parametrize("run_ns", [6_700, 10_000, 1_000_000])
    def test_is_believed_and_nothing_is_measured(self, monkeypatch, run_ns: int):
        known = ((1, 10_000), (2, 10_500), (4, 11_000))
        session, costs = self.warm(monkeypatch, run_ns, known)
        assert costs is known
        assert session.runs == [3, 1, *[1] * costing._LOOK_RUNS], "the samples run all the same"

    def test_a_slow_model_is_not_looked_at_for_long(self, monkeypatch):
        session, _ = self.warm(monkeypatch, 10**9, ((1, 10**9),))
        assert session.runs == [3, 1, 1]

    def test_is_measured_again_when_it_was_measured_on_a_busy_machine(self, monkeypatch):
        session, costs = self.warm(monkeypatch, 6_600, ((1, 10_000),))
        assert costs[:2] == ((1, 6_600), (2, 6_600))
        assert session.runs[:5] == [3, 1, 1, 1, 1]

    def test_a_machine_that_becomes_busy_after_the_look_makes_nothing_worse(self, monkeypatch):
        now, runs = [0], [0]
        monkeypatch.setattr(costing.time, "monotonic_ns", lambda: now[0])

        def run(inputs: Any) -> Any:
            runs[0] += 1
            now[0] += 1_000 if runs[0] <= 5 else 50_000
            return {"y": inputs["x"] * 2}

        stored, known = FakeStored(doubler()), ((1, 10_000), (2, 10_500))
        session = FakeSession(run)
        assert warm(session, doubler(), stored.golden(), known) is known
        assert len(session.runs) > 10, "it was measured again"

    def test_nothing_is_measured_where_nobody_asks(self, monkeypatch):
        session, costs = self.warm(monkeypatch, 10_000, ())
        assert costs == ()
        assert session.runs == [3, 1]

    def test_a_known_release_is_proven_all_the_same(self):
        stored = FakeStored(doubler(), off_by=0.5)
        with pytest.raises(GoldenMismatchError):
            warm(FakeSession(), doubler(), stored.golden(), ((1, 10_000),))
