"""Which way a load takes, and what a trial's end means for the release."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edged.config.schema import ModelConfig, TrialConfig, WorkerConfig
from edged.errors import GoldenMismatchError, LoadError, QuarantinedError, WorkerDiedError
from edged.loading import Loaded
from edged.runtimes.base import RuntimeInfo
from edged.runtimes.registry import create_runtime
from edged.serving.memory.footprint import PROCESS_BYTES
from edged.serving.trial import Loader, LoadOrder
from edged.specs import Duration, Size
from edged.workers.blame import Blame
from edged.workers.forked import ForkedWorkers
from edged.workers.session import WorkerCaps, WorkerSession
from edged.workers.shared import Who
from tests.bundles import make_manifest
from tests.e2e.harmful import crasher, hoarder
from tests.fakes.loader import Contests, Footprints, Memory, NoStandings
from tests.fakes.model import FakeRuntime, FakeStored, double, doubler
from tests.fakes.worker import FakeShared, ThreadProcess, Workers
from tests.models import TinyModel

DIGEST = "d" * 64
NONE, APART = ModelConfig(bundle="b"), ModelConfig(bundle="b", isolation="model")
SHARED = ModelConfig(bundle="b", isolation="device")


class Bench:
    """A loader whose worker processes are threads; ``inside`` is the daemon's own runtime."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers = Workers(monkeypatch, ThreadProcess)
        self.inside = FakeRuntime()
        self.standings = NoStandings()
        self.stored = FakeStored(doubler("gate", 3))
        self.said: list[str] = []
        self.memory = Memory()
        self.device = "a board, 2 cores"
        self.loader = Loader(
            lambda _: self.inside, self.standings, TrialConfig(), 2,
            measured=self.memory, device=lambda: self.device, footprints=Footprints(), contests=Contests(),
        )  # fmt: skip

    def load(self, config: ModelConfig = NONE) -> Loaded:
        return self.loader.load(
            LoadOrder(DIGEST, self.stored, config), lambda: self.said.append("loaded")
        )

    @property
    def told(self) -> list[str]:
        return [line[0] for line in self.standings.told]

    @property
    def trials(self) -> int:
        return len(self.workers.made)

    def dies(self, words: str, crash: str = "") -> Any:
        """A function of a model that takes its process along."""

        def function(inputs: Any) -> Any:
            self.workers.last.die(words, crash)
            return double(inputs)

        return function


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(monkeypatch)
    yield made
    made.workers.close()


class TestNew:
    def test_first_apart_then_inside(self, bench: Bench):
        loaded = bench.load()
        assert loaded.session is bench.inside.sessions[0]
        assert bench.told == ["admit", "passed", "begin"]
        assert bench.standings.told[1:] == [
            ("passed", DIGEST, "gate-3"), ("begin", DIGEST, "gate-3"),
        ]  # fmt: skip
        (trial,) = bench.workers.runtime.sessions
        assert trial.runs == [3, 1], (
            "the golden samples, and nothing is measured at such a priority"
        )
        assert bench.workers.last.ends == 1
        assert bench.said == ["loaded"], "of the trial nobody is told"

    def test_known_is_not_tried_again(self, bench: Bench):
        for _ in range(3):
            bench.load()
        assert bench.trials == 1
        assert bench.told == ["admit", "passed", "begin", "admit", "begin", "admit", "begin"]

    def test_another_version_of_the_runtime_is_another_trial(self, bench: Bench):
        bench.load()
        for version in ("2.0", "1.0", "2.0"):
            bench.inside.info = lambda v=version: RuntimeInfo("onnxruntime", v, ("cpu",))
            bench.load()
        assert bench.trials == 2
        assert bench.standings.passed == {
            (DIGEST, "onnxruntime 1.0"), (DIGEST, "onnxruntime 2.0"),
        }  # fmt: skip

    def test_off(self, bench: Bench):
        bench.loader.trial = TrialConfig(enabled=False)
        bench.load()
        assert bench.trials == 0
        assert bench.told == ["admit", "begin"]

    def test_a_load_inside_that_fails_did_no_harm(self, bench: Bench):
        bench.inside.error = LoadError("no memory")
        with pytest.raises(LoadError, match="no memory"):
            bench.load()
        assert bench.told == ["admit", "passed", "begin", "unharmed"]
        bench.inside.error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            bench.load()
        assert bench.told[-2:] == ["begin", "unharmed"]

    def test_who_is_in_quarantine_is_not_even_tried(self, bench: Bench):
        def admit(digest: str) -> None:
            raise QuarantinedError(f"in quarantine {digest}")

        bench.standings.admit = admit
        for config in (NONE, APART):
            with pytest.raises(QuarantinedError, match=DIGEST):
                bench.load(config)
        assert (bench.trials, bench.inside.loads) == (0, [])

    def test_who_took_the_daemon_down_too_often_is_not_loaded(self, bench: Bench):
        def begin(*_: Any) -> None:
            raise QuarantinedError("the daemon died 2 times")

        bench.standings.begin = begin
        with pytest.raises(QuarantinedError):
            bench.load()
        assert bench.inside.loads == []
        assert "unharmed" not in bench.told


class TestMeasured:
    def runs(self, bench: Bench, config: ModelConfig = NONE) -> int:
        """How often a model ran in this load, in the session that is to serve."""
        bench.load(config).session.close()
        sessions = (bench.workers.runtime if config is APART else bench.inside).sessions
        return len(sessions[-1].runs)

    @pytest.mark.parametrize("config", [NONE, APART])
    def test_once(self, bench: Bench, config: ModelConfig, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("edged.costs._LOOK_CAP_NS", 10**10)  # a busy machine looks too
        costs = bench.load(config).costs
        assert costs[0][1] > 0
        assert list(bench.memory.noted.values()) == [costs]
        # As if it had been measured on an idle machine: nothing is faster than that.
        (key,) = bench.memory.noted
        bench.memory.noted[key] = quick = ((1, 1), (2, 2))
        assert [self.runs(bench, config) for _ in range(3)] == [5, 5, 5]
        assert bench.memory.noted == {key: quick}

    def test_again_when_anything_else_is_different(self, bench: Bench):
        bench.load()
        assert list(bench.memory.noted) == [
            (DIGEST, "onnxruntime 1.0, 2 threads, a board, 2 cores")
        ]
        bench.device = "a board, 2 cores, 7W"
        assert self.runs(bench) > 10
        bench.inside.info = lambda: RuntimeInfo("onnxruntime", "2.0", ("cpu",))
        assert self.runs(bench) > 10
        assert self.runs(bench, APART) > 10
        assert len(bench.memory.noted) == 4

    def test_what_is_faster_now_is_noted(self, bench: Bench):
        bench.load()
        (key,) = bench.memory.noted
        bench.memory.noted[key] = slow = ((1, 10**12),)
        assert bench.load().costs == bench.memory.noted[key] != slow

    def test_a_load_that_fails_notes_nothing(self, bench: Bench):
        bench.stored.off_by = 1.0
        with pytest.raises(GoldenMismatchError):
            bench.load()
        assert bench.memory.noted == {}


class TestHarm:
    def test_a_crash_quarantines_at_once(self, bench: Bench):
        bench.workers.runtime.function = bench.dies("died of SIGFPE", "SIGFPE")
        with pytest.raises(QuarantinedError) as caught:
            bench.load()
        assert "died of SIGFPE" in caught.value.message
        assert caught.value.message.endswith("the release is in quarantine")
        assert bench.standings.told[1:] == [
            ("quarantine", DIGEST, "gate-3", "its trial died of SIGFPE on the golden samples or before")
        ]  # fmt: skip
        assert bench.inside.loads == []
        assert bench.workers.last.ends == 1

    def test_a_crash_while_loading_too(self, bench: Bench, monkeypatch: pytest.MonkeyPatch):
        def load(_: Any) -> Any:
            bench.workers.last.die("died of SIGSEGV", "SIGSEGV")
            raise LoadError("too late")

        bench.workers.runtime.load = load
        with pytest.raises(QuarantinedError, match="SIGSEGV"):
            bench.load()
        assert bench.told == ["admit", "quarantine"]

    def test_a_crash_on_the_first_choice_of_runtimes(self, bench: Bench):
        """Inside the first choice would be tried first again: that the second one works is no help."""
        crashes, load = [0], bench.workers.runtime.load

        def first_crashes(artefact: Any) -> Any:
            crashes[0] += 1
            if crashes[0] == 1:
                bench.workers.last.die("died of SIGSEGV", "SIGSEGV")
                raise LoadError("too late")
            return load(artefact)

        bench.workers.runtime.load = first_crashes
        twice = ModelConfig(bundle="b", runtime=("onnxruntime", "onnxruntime"))
        with pytest.raises(QuarantinedError, match="SIGSEGV"):
            bench.load(twice)
        assert bench.inside.loads == []

    @pytest.mark.parametrize("words", ["died of SIGKILL", "ended with status 1"])
    def test_an_end_from_outside_is_tried_again(self, bench: Bench, words: str):
        bench.workers.runtime.function = bench.dies(words)
        with pytest.raises(Exception, match=words) as caught:
            bench.load()
        assert not isinstance(caught.value, QuarantinedError)
        assert bench.told == ["admit"]
        assert bench.inside.loads == []
        bench.workers.runtime.function = double
        bench.load()
        assert bench.told[-2:] == ["passed", "begin"]

    def test_too_slow_is_tried_again(self, bench: Bench):
        bench.loader.trial = TrialConfig(timeout=Duration(50_000_000))

        def never(inputs: Any) -> Any:
            bench.workers.last.peer.recv(1)  # until the other end is closed
            return double(inputs)

        bench.workers.runtime.function = never
        with pytest.raises(Exception, match="did not answer in time") as caught:
            bench.load()
        assert not isinstance(caught.value, QuarantinedError)
        assert bench.told == ["admit"]
        assert bench.workers.last.ends == 1

    def test_other_numbers_than_promised(self, bench: Bench):
        bench.stored.off_by = 1.0
        for config in (NONE, APART):
            with pytest.raises(GoldenMismatchError):
                bench.load(config)
        assert bench.told == ["admit", "admit"]
        assert bench.inside.loads == []
        assert all(process.ends == 1 for process in bench.workers.made)


class TestApart:
    def test_needs_no_trial(self, bench: Bench):
        loaded = bench.load(APART)
        assert isinstance(loaded.session, WorkerSession)
        assert bench.told == ["admit"]
        assert (bench.trials, bench.inside.loads, bench.said) == (1, [], ["loaded"])
        assert bench.workers.last.ends == 0
        loaded.session.close()

    def test_a_crash_on_the_samples_quarantines(self, bench: Bench):
        bench.workers.runtime.function = bench.dies("died of SIGABRT", "SIGABRT")
        with pytest.raises(QuarantinedError):
            bench.load(APART)
        assert bench.told == ["admit", "quarantine"]

    def test_caps(self, bench: Bench, monkeypatch: pytest.MonkeyPatch):
        seen: list[WorkerCaps] = []
        init = WorkerSession.__init__

        def note(self: WorkerSession, runtime: str, artefact: Any, caps: Any, _: Any) -> None:
            seen.append(caps)
            tame = WorkerCaps(load_timeout_s=15, run_timeout_s=15)
            init(self, runtime, artefact, tame)

        monkeypatch.setattr(WorkerSession, "__init__", note)
        bench.loader.trial = TrialConfig(memory=Size(1 << 28), timeout=Duration(7_000_000_000))
        bench.load()
        worker = WorkerConfig(memory=Size(1 << 29), run_timeout=Duration(500_000_000))
        bench.load(ModelConfig(bundle="b", isolation="model", worker=worker)).session.close()
        trial, serving = seen
        assert trial == WorkerCaps(
            threads=2, memory_bytes=1 << 28, load_timeout_s=7, run_timeout_s=7, nice=19
        )
        assert serving == WorkerCaps(
            threads=2, memory_bytes=1 << 29, load_timeout_s=7, run_timeout_s=0.5, nice=0
        )


class TestShared:
    """``isolation: device``: it has neighbours, and comes to them proven."""

    @pytest.fixture
    def shared(self, bench: Bench) -> FakeShared:
        bench.loader.workers = made = FakeShared(bench.workers)
        return made

    def test_first_apart_then_to_the_others(self, bench: Bench, shared: FakeShared):
        worker = WorkerConfig(memory=Size(1 << 29))
        config = ModelConfig(bundle="b", isolation="device", worker=worker)
        for _ in range(2):
            loaded = bench.load(config)
            assert isinstance(loaded.session, WorkerSession)
            assert loaded.session.lodger
            loaded.session.close()
        assert shared.entered == [(Who("device cpu", "gate", DIGEST), 1 << 29)] * 2
        assert bench.told == ["admit", "passed", "admit"]
        assert bench.trials == 3, "one trial and two places"
        assert not bench.inside.loads

    def test_one_that_crashes_in_its_trial_never_meets_them(self, bench: Bench, shared: FakeShared):
        bench.workers.runtime.function = bench.dies("died of SIGABRT", "SIGABRT")
        with pytest.raises(QuarantinedError):
            bench.load(SHARED)
        assert not shared.entered

    def test_without_trials_it_is_tried_among_them(self, bench: Bench, shared: FakeShared):
        bench.loader.trial = TrialConfig(enabled=False)
        bench.workers.runtime.function = bench.dies("died of SIGABRT", "SIGABRT")
        with pytest.raises(QuarantinedError):
            bench.load(SHARED)
        assert len(shared.entered) == 1

    def test_what_another_did_to_its_load_is_no_fault_of_its_own(
        self, bench: Bench, shared: FakeShared
    ):
        bench.loader.trial = TrialConfig(enabled=False)

        def dies(inputs: Any) -> Any:
            bench.workers.last.die('died of SIGABRT while it ran model "x"', "", Blame.OTHER)
            return double(inputs)

        bench.workers.runtime.function = dies
        with pytest.raises(WorkerDiedError, match='ran model "x"'):
            bench.load(SHARED)
        assert bench.told == ["admit"]

    def test_its_size_is_that_of_a_load_inside(self, bench: Bench, shared: FakeShared):
        sizes = [
            bench.loader.prepare(LoadOrder(DIGEST, bench.stored, config)).footprint.peak
            for config in (NONE, SHARED, APART)
        ]
        assert sizes[0] == sizes[1] == sizes[2] - PROCESS_BYTES


class RealStored(FakeStored):
    def __init__(self, model: TinyModel) -> None:
        super().__init__(make_manifest(model, name=model.name)[0])
        self.model = model

    def artefact(self, runtime: str, precision: str = "") -> bytes:
        return self.model.data

    def golden(self, entry: Any = None) -> Any:
        return self.model.golden(1)


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkedWorkers]:
    made = ForkedWorkers(0, linger_s=3600)
    yield made
    made.rest()


def test_a_trial_gets_its_process_by_its_runtime_and_what_serves_does_not(bench: Bench):
    asked: list[str] = []
    bench.loader = Loader(
        lambda _: bench.inside, bench.standings, TrialConfig(), 2,
        measured=bench.memory, device=lambda: "", footprints=Footprints(), contests=Contests(),
        enter_trial=asked.append,
    )  # fmt: skip
    bench.load(APART)
    assert asked == []
    bench.load()
    assert asked == ["onnxruntime"]


@pytest.mark.parametrize("is_forked", [False, True], ids=["started", "forked"])
class TestReal:
    """Processes with ONNX Runtime in them, and this one behind them."""

    @pytest.fixture(autouse=True)
    def enter(self, forks: ForkedWorkers, is_forked: bool) -> None:
        self.enter_trial = forks.enter_for if is_forked else lambda _: None

    def load(self, model: TinyModel, standings: NoStandings, config: ModelConfig = NONE) -> Loaded:
        trial = TrialConfig(memory=Size(1 << 30))
        loader = Loader(
            lambda name: create_runtime(name, threads=1), standings, trial, 1,
            measured=Memory(), device=lambda: "", footprints=Footprints(), contests=Contests(),
            enter_trial=self.enter_trial,
        )  # fmt: skip
        return loader.load(LoadOrder(DIGEST, RealStored(model), config), lambda: None)

    def test_a_model_that_dies_of_its_samples_never_gets_here(self):
        standings = NoStandings()
        with pytest.raises(QuarantinedError, match="SIGFPE"):
            self.load(crasher(-1), standings)
        assert [line[0] for line in standings.told] == ["admit", "quarantine"]

    def test_one_that_wants_all_the_memory_only_fails(self):
        """As it may on a smaller device and not on this one: no crash, no quarantine."""
        standings = NoStandings()
        with pytest.raises(Exception, match="failed while running"):
            self.load(hoarder(1 << 29), standings)
        assert [line[0] for line in standings.told] == ["admit"]

    def test_a_good_one_gets_here(self):
        standings = NoStandings()
        loaded = self.load(crasher(7), standings)
        assert [line[0] for line in standings.told] == ["admit", "passed", "begin"]
        assert not isinstance(loaded.session, WorkerSession)
        assert loaded.session.run({"n": np.array([7])})["y"].dtype == np.int64
