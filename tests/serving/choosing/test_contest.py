"""The trial of several precisions and runtimes, with workers that are threads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from edged.errors import EdgedError, GoldenMismatchError, LoadError, RunError, RuntimeFailureError
from edged.manifest import ArtefactEntry
from edged.serving.choosing import contest
from edged.serving.choosing.choice import Pair
from edged.serving.choosing.contest import Outcome, hold_contest
from edged.workers.isolation import WorkerCaps
from tests.fakes.precisions import TwoRuntime, TwoStored, answering
from tests.fakes.worker import ThreadProcess, Workers

FLOAT32, INT8 = Pair("onnxruntime", "float32"), Pair("onnxruntime", "int8")
OF = {"float32": FLOAT32, "int8": INT8}


class Ring:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers = Workers(monkeypatch, ThreadProcess)
        self.workers.runtime = self.runtime = TwoRuntime()
        self.stored = TwoStored()
        self.runtimes = ["onnxruntime"]
        monkeypatch.setattr(contest, "waited_ns", lambda _: 0)  # their pid is nobody's

    def hold(self) -> Outcome:
        entries = {pair: entry for runtime in self.runtimes for pair, entry in self.of(runtime)}
        return hold_contest(self.stored, entries, WorkerCaps(nice=19))

    def of(self, runtime: str) -> list[tuple[Pair, ArtefactEntry]]:
        entries = self.stored.manifest.artefacts
        return [(Pair(runtime, entry.precision), entry) for entry in entries]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    made = Ring(monkeypatch)
    yield made
    made.workers.close()


def test_both_are_proven_and_raced(ring: Ring):
    outcome = ring.hold()
    assert outcome.proven == (FLOAT32, INT8)
    assert set(outcome.costs) == {FLOAT32, INT8}
    assert all(runs[0][0] == 1 and runs[0][1] > 0 for runs in outcome.costs.values())
    assert (outcome.missed, outcome.crash, outcome.error) == ({}, "", None)
    assert [process.nice for process in ring.workers.made] == [19, 19]
    assert [process.ends for process in ring.workers.made] == [1, 1], "no process is left"


@pytest.mark.parametrize("which", ["float32", "int8"])
def test_one_that_breaks_its_promise(ring: Ring, which: str):
    ring.stored.lies.add(which)
    outcome = ring.hold()
    assert OF[which] not in outcome.proven
    assert len(outcome.proven) == 1
    assert "does not reproduce the golden samples" in outcome.missed[OF[which]]
    assert outcome.costs == {}, "there is nobody to race"
    assert isinstance(outcome.error, GoldenMismatchError)
    assert [process.ends for process in ring.workers.made] == [1, 1]


def test_answers_are_not_those_of_the_other(ring: Ring):
    """The control: int8 held against float32's answers fails, as float32 against int8's."""
    ring.runtime.hooks = {"float32": answering("int8"), "int8": answering("float32")}
    assert ring.hold().proven == ()


def test_each_has_its_own_tolerance(ring: Ring):
    ring.runtime.hooks = {name: answering(name, 0.03) for name in ("float32", "int8")}
    assert ring.hold().proven == (INT8,)


def test_runtimes_too(ring: Ring):
    ring.runtimes = ["onnxruntime", "openvino"]
    outcome = ring.hold()
    assert [(pair.runtime, pair.precision) for pair in outcome.costs] == [
        ("onnxruntime", "float32"), ("onnxruntime", "int8"), ("openvino", "float32"), ("openvino", "int8"),
    ]  # fmt: skip
    assert outcome.proven == tuple(outcome.costs)
    assert ring.workers.asked == ["onnxruntime"] * 2 + ["openvino"] * 2


def test_who_dies_in_the_race_takes_no_figures_along(ring: Ring):
    ring.runtimes = ["onnxruntime", "openvino"]
    runs = [0]

    def dies(inputs: Any) -> Any:
        runs[0] += 1
        if runs[0] == 3:
            ring.workers.made[1].die("died of SIGFPE", "SIGFPE")
        return answering("int8")(inputs)

    ring.runtime.hooks["int8"] = dies
    outcome = ring.hold()
    assert set(outcome.costs) == set(outcome.proven) == {
        FLOAT32, Pair("openvino", "float32"), Pair("openvino", "int8"),
    }  # fmt: skip
    assert outcome.missed == {INT8: "its trial died of SIGFPE"}
    assert outcome.is_final, "it would die again"


def test_a_device_that_lets_nobody_run_is_asked_another_time(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("edged.serving.choosing.choice._CAP_NS", 10**7)
    waited = itertools.count(step=10**9)
    monkeypatch.setattr(contest, "waited_ns", lambda _: next(waited))
    outcome = ring.hold()
    assert set(outcome.costs) == {FLOAT32, INT8}
    assert not outcome.is_final
    monkeypatch.setattr(contest, "waited_ns", lambda _: 0)
    assert ring.hold().is_final


@pytest.mark.parametrize(
    ("error", "is_final"),
    [(LoadError("no kernel"), True), (RuntimeFailureError("needs more memory"), False)],
)
def test_what_another_time_may_bring(ring: Ring, error: EdgedError, is_final: bool):
    ring.runtime.errors["int8"] = error
    assert ring.hold().is_final is is_final


def test_one_that_does_not_load(ring: Ring):
    ring.runtime.errors["int8"] = LoadError("no kernel")
    outcome = ring.hold()
    assert (outcome.proven, outcome.missed) == ((FLOAT32,), {INT8: "no kernel"})
    assert outcome.crash == ""


@pytest.mark.parametrize("when", [1, 3])
def test_one_that_crashes_when_proven_or_raced(ring: Ring, when: int):
    """The golden samples are runs 1 and 2; later ones are of the race."""
    runs = [0]

    def dies(inputs: Any) -> Any:
        runs[0] += 1
        if runs[0] == when:
            ring.workers.made[1].die("died of SIGFPE", "SIGFPE")
        return answering("int8")(inputs)

    ring.runtime.hooks["int8"] = dies
    outcome = ring.hold()
    assert outcome.proven == (FLOAT32,)
    assert outcome.missed == {INT8: "its trial died of SIGFPE"}
    assert outcome.crash == "SIGFPE"


def test_a_race_that_fails_leaves_both_in(ring: Ring, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any, **__: Any) -> Any:
        raise RunError("no memory")

    monkeypatch.setattr(contest, "race", fails)
    outcome = ring.hold()
    assert (outcome.proven, outcome.costs) == ((FLOAT32, INT8), {})
    assert not outcome.is_final
