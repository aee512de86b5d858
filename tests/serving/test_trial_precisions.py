"""A bundle with several precisions: what wins is loaded, remembered, and replaced when it fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from edged.config.schema import ModelConfig, TrialConfig
from edged.costs import Costs
from edged.errors import (
    GoldenMismatchError,
    LoadError,
    QuarantinedError,
    RunError,
    RuntimeFailureError,
)
from edged.loading import Loaded
from edged.manifest import ArtefactEntry, Manifest, Member
from edged.runtimes.base import RuntimeInfo
from edged.serving.choosing import contest
from edged.serving.trial import Loader, LoadOrder
from edged.store.contests import Held
from tests.fakes.loader import Contests, Footprints, Memory, NoStandings
from tests.fakes.model import FakeStored, doubler
from tests.fakes.precisions import TwoRuntime, TwoStored, answering
from tests.fakes.worker import ThreadProcess, Workers

DIGEST = "d" * 64
AUTO, APART = ModelConfig(bundle="b"), ModelConfig(bundle="b", isolation="model")
FAST, SLOW = ((1, 1_000_000), (2, 1_500_000)), ((1, 4_000_000), (2, 8_000_000))


class Bench:
    """A loader whose races end as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers = Workers(monkeypatch, ThreadProcess)
        self.workers.runtime = self.trials = TwoRuntime()
        self.inside = TwoRuntime()
        self.standings, self.memory, self.contests = NoStandings(), Memory(), Contests()
        self.stored: Any = TwoStored()
        self.device = "a board"
        self.costs: dict[str, Costs] = {"float32": SLOW, "int8": FAST}
        self.races: list[list[str]] = []
        self.said: list[str] = []
        monkeypatch.setattr(contest, "race", self.race)
        self.start()

    def start(self) -> None:
        """As after a start of the daemon: what was noted is still there."""
        self.loader = Loader(
            lambda _: self.inside, self.standings, TrialConfig(), 2,
            measured=self.memory, device=lambda: self.device, footprints=Footprints(),
            contests=self.contests,
        )  # fmt: skip

    def race(self, sessions: Any, *_: Any, **__: Any) -> dict[str, Costs]:
        self.races.append([pair.precision for pair in sessions])
        return {pair: self.costs[pair.precision] for pair in sessions}

    def load(self, config: ModelConfig = AUTO) -> Loaded:
        order = LoadOrder(DIGEST, self.stored, config)
        return self.loader.load(order, lambda: self.said.append("loaded"))

    @property
    def open_now(self) -> int:
        return sum(not session.closed for session in self.inside.sessions)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(monkeypatch)
    yield made
    made.workers.close()


class TestFaster:
    @pytest.mark.parametrize("winner", ["float32", "int8"])
    def test_serves(self, bench: Bench, winner: str, caplog: pytest.LogCaptureFixture):
        bench.costs = {name: FAST if name == winner else SLOW for name in bench.costs}
        with caplog.at_level(logging.INFO, "edged.serving"):
            loaded = bench.load()
        assert loaded.precision == winner
        assert loaded.why.startswith(f"{winner} won on this device: {winner} 1.000 ms a row")
        assert f"release 3 serves in {winner}: {winner} won on this device" in caplog.text
        assert bench.inside.took == [winner], "the other was never in the daemon"
        assert bench.open_now == 1
        assert bench.said == ["loaded"]

    def test_is_remembered_with_the_figures(self, bench: Bench):
        bench.load()
        raced = (("onnxruntime", "float32", SLOW), ("onnxruntime", "int8", FAST))
        assert bench.contests.noted == {
            (DIGEST, "onnxruntime 1.0, 2 threads, a board"): Held(raced),
        }
        bench.start()
        assert bench.load().precision == "int8"
        assert bench.load().why.startswith("int8 won on this device")
        assert bench.races == [["float32", "int8"]]
        assert len(bench.workers.made) == 2, "one trial each, once"

    def test_figures_alone_are_no_trial(self, bench: Bench):
        """As after ``edged quarantine --lift``: the standing is gone, the figures are not."""
        bench.load()
        bench.standings.passed.clear()
        bench.load()
        assert len(bench.races) == 2

    def test_another_setting_is_another_race(self, bench: Bench):
        bench.load()
        bench.device, bench.costs = "a board, 7W", {"float32": FAST, "int8": SLOW}
        assert bench.load().precision == "float32"
        bench.device = "a board"
        assert bench.load().precision == "int8"
        assert len(bench.races) == 2
        bench.inside.info = lambda: RuntimeInfo("onnxruntime", "2.0", ("cpu",))
        bench.load()
        assert len(bench.races) == 3

    def test_apart(self, bench: Bench):
        loaded = bench.load(APART)
        assert loaded.precision == "int8"
        assert bench.inside.took == []
        assert bench.trials.took == ["float32", "int8", "int8"]
        assert [process.ends for process in bench.workers.made] == [1, 1, 0], "one is left"
        loaded.session.close()

    def test_figures_of_serving_are_each_precisions_own(self, bench: Bench):
        bench.load()
        bench.load(ModelConfig(bundle="b", precision="float32"))
        assert [key for _, key in bench.memory.noted] == [
            "onnxruntime 1.0 int8, 2 threads, a board",
            "onnxruntime 1.0 float32, 2 threads, a board",
        ]

    def test_without_trials_nothing_is_compared(self, bench: Bench):
        bench.loader.trial = TrialConfig(enabled=False)
        loaded = bench.load()
        assert loaded.precision == "float32"
        assert loaded.why == "it is listed first; without trials nothing is compared"
        assert (bench.races, bench.workers.made) == ([], [])

    def test_one_precision_has_no_choice(self, bench: Bench):
        bench.stored = FakeStored(doubler())
        bench.trials.hooks = bench.inside.hooks = {"onnx": lambda inputs: {"y": inputs["x"] * 2}}
        loaded = bench.load()
        assert (loaded.precision, loaded.why, bench.races) == ("float32", "", [])


class TestConfigured:
    @pytest.mark.parametrize("precision", ["float32", "int8"])
    def test_overrides(self, bench: Bench, precision: str):
        bench.costs = {"float32": FAST, "int8": SLOW}
        config = ModelConfig(bundle="b", precision=precision)
        loaded = bench.load(config)
        assert loaded.precision == precision
        assert loaded.why == "the configuration says so"
        assert (bench.trials.took, bench.races) == ([precision], [])
        bench.load(config)
        assert len(bench.workers.made) == 1, "its trial is remembered"

    def test_no_other_stands_in(self, bench: Bench):
        bench.stored.lies.add("int8")
        with pytest.raises(GoldenMismatchError):
            bench.load(ModelConfig(bundle="b", precision="int8"))
        assert bench.inside.took == []

    def test_of_a_bundle_that_has_one(self, bench: Bench):
        bench.stored = FakeStored(doubler())
        with pytest.raises(LoadError, match="no int8 artefact; it has: float32; set"):
            bench.load(ModelConfig(bundle="b", precision="int8"))
        hooks = {"onnx": lambda inputs: {"y": inputs["x"] * 2}}
        bench.trials.hooks = bench.inside.hooks = hooks
        loaded = bench.load(ModelConfig(bundle="b", precision="float32"))
        assert (loaded.precision, loaded.why) == ("float32", "")

    def test_what_the_bundle_does_not_have(self, bench: Bench):
        with pytest.raises(LoadError, match="no float16 artefact; it has: float32, int8"):
            bench.load(ModelConfig(bundle="b", precision="float16"))


class TestFailing:
    @pytest.mark.parametrize("which", ["float32", "int8"])
    def test_broken_promise_in_the_trial(self, bench: Bench, which: str, caplog):
        bench.stored.lies.add(which)
        loaded = bench.load()
        assert loaded.precision != which
        assert loaded.why.startswith(f"{which} is out: ")
        assert "does not reproduce the golden samples" in loaded.why
        assert "WARNING" in caplog.text
        assert which not in bench.inside.took, "what failed its trial never gets into the daemon"
        assert len(bench.standings.passed) == 1

    def test_crash_in_the_trial(self, bench: Bench):
        def dies(inputs: Any) -> Any:
            bench.workers.made[-1].die("died of SIGFPE", "SIGFPE")
            return inputs

        bench.trials.hooks["int8"] = dies
        loaded = bench.load()
        assert (loaded.precision, bench.inside.took) == ("float32", ["float32"])
        assert "int8 is out: its trial died of SIGFPE" in loaded.why
        assert "quarantine" not in [line[0] for line in bench.standings.told]
        bench.trials.hooks["float32"] = dies
        bench.standings.passed.clear()
        with pytest.raises(QuarantinedError, match="every precision of it failed"):
            bench.load()

    @pytest.mark.parametrize("how", ["load", "promise"])
    def test_the_winner_fails_inside(self, bench: Bench, how: str):
        if how == "load":
            bench.inside.errors["int8"] = LoadError("no memory")
        else:
            bench.inside.hooks["int8"] = lambda inputs: {"y": inputs["x"] * 3}
        loaded = bench.load()
        assert loaded.precision == "float32"
        assert loaded.why.startswith("int8 is out: ")
        assert bench.inside.took == ["int8", "float32"]
        assert bench.open_now == 1, "the session of what failed is closed"
        assert bench.said == ["loaded"], "a release is loaded once"

    def test_a_race_that_fails_is_no_reason_not_to_serve(self, bench: Bench, monkeypatch):
        def fails(*_: Any, **__: Any) -> Any:
            raise RunError("no memory")

        with monkeypatch.context() as patch:
            patch.setattr(contest, "race", fails)
            loaded = bench.load()
        assert loaded.precision == "float32"
        assert loaded.why == "it is listed first; their race failed: no memory"
        assert bench.load().precision == "int8", "it is raced at the next load"

    def test_tolerances_inside(self, bench: Bench):
        bench.inside.hooks = {name: answering(name, 0.03) for name in ("float32", "int8")}
        assert bench.load().precision == "int8"
        with pytest.raises(GoldenMismatchError):
            bench.load(ModelConfig(bundle="b", precision="float32"))

    def test_of_three_one_is_out_and_two_are_raced(self, bench: Bench):
        manifest = bench.stored.manifest
        third = ArtefactEntry("onnx", "model-float16.onnx", "float16")
        entries = (*manifest.artefacts, third)
        bench.stored.manifest = msgspec.structs.replace(manifest, artefacts=entries)
        bench.trials.errors["float16"] = LoadError("no kernel")
        why = bench.load().why
        assert why.startswith("int8 won on this device")
        assert why.endswith("; float16 is out: no kernel")

    def test_all_fail(self, bench: Bench):
        bench.trials.errors = dict.fromkeys(("float32", "int8"), LoadError("no kernel"))
        with pytest.raises(LoadError, match="float32: no kernel; int8: no kernel"):
            bench.load()
        bench.trials.errors, bench.stored.lies = {}, {"float32", "int8"}
        with pytest.raises(GoldenMismatchError):
            bench.load()
        assert bench.inside.took == []

    def test_what_would_fail_again_is_not_asked_again(self, bench: Bench):
        """The same bytes on the same version: a start need not wait for the same answer."""
        bench.stored.lies.add("int8")
        bench.load()
        bench.start()
        loaded = bench.load()
        assert loaded.precision == "float32"
        assert "int8 is out: " in loaded.why
        assert "does not reproduce the golden samples" in loaded.why
        assert len(bench.workers.made) == 2
        bench.stored.lies.clear()
        bench.inside.info = lambda: RuntimeInfo("onnxruntime", "2.0", ("cpu",))
        assert bench.load().precision == "int8", "another version may do better"

    def test_what_failed_by_chance_is_tried_again_at_the_next_start(self, bench: Bench):
        bench.trials.errors["int8"] = RuntimeFailureError("needs more memory")
        bench.load()
        bench.trials.errors.clear()
        assert bench.load().precision == "float32", "not at each load"
        assert len(bench.workers.made) == 2
        bench.start()
        assert bench.load().precision == "int8"


class TestEngines:
    """A bundle with TensorRT's files is served by its ONNX file, and says so."""

    def with_engine(self, manifest: Manifest) -> Manifest:
        entries = (
            *manifest.artefacts,
            ArtefactEntry("tensorrt", "model-int8-tensorrt.onnx", "int8"),
            ArtefactEntry("tensorrt", "model-int8-sm87.engine", "int8"),
        )
        members = (
            *manifest.members,
            Member("model-int8-tensorrt.onnx", "onnx", 1, "0" * 64),
            Member("model-int8-sm87.engine", "tensorrt", 1, "0" * 64),
        )
        return msgspec.structs.replace(manifest, artefacts=entries, members=members)

    @pytest.mark.parametrize("config", [AUTO, APART])
    def test_one_that_is_not_used_is_told(
        self, bench: Bench, config: ModelConfig, caplog: pytest.LogCaptureFixture
    ):
        bench.stored.manifest = self.with_engine(bench.stored.manifest)
        loaded = bench.load(config)
        assert (loaded.runtime, loaded.precision) == ("onnxruntime", "int8")
        assert bench.races == [["float32", "int8"]], "nothing of TensorRT's takes part"
        assert loaded.why.startswith("int8 won on this device")
        told = (
            'not used: model-int8-sm87.engine, because models.gate.runtime does not list "tensorrt"'
        )
        assert loaded.why.endswith(f"{told}; onnxruntime runs the ONNX file")
        assert told in caplog.text

    def test_also_where_there_was_nothing_to_choose(self, bench: Bench):
        alone = msgspec.structs.replace(
            bench.stored.manifest, artefacts=bench.stored.manifest.artefacts[:1]
        )
        bench.stored.manifest = self.with_engine(alone)
        assert bench.load().why.startswith("not used: model-int8-sm87.engine")

    def test_a_file_to_build_from_is_no_engine(self, bench: Bench):
        whole = self.with_engine(bench.stored.manifest)
        bench.stored.manifest = msgspec.structs.replace(whole, artefacts=whole.artefacts[:3])
        assert "not used" not in bench.load().why
