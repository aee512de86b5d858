"""``runtime: auto``: every precision on every runtime that is here, and what wins is loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from edged.config.schema import ModelConfig, TrialConfig
from edged.costs import Costs
from edged.errors import GoldenMismatchError, LoadError, QuarantinedError, RuntimeFailureError
from edged.loading import Loaded
from edged.manifest import ArtefactEntry
from edged.runtimes import registry
from edged.runtimes.base import RuntimeInfo
from edged.serving.choosing import contest
from edged.serving.trial import Loader, LoadOrder
from edged.workers.session import WorkerSession
from edged.workers.shared import Who
from tests.fakes.loader import Contests, Footprints, Memory, NoStandings
from tests.fakes.precisions import TwoRuntime, TwoStored
from tests.fakes.worker import FakeShared, ThreadProcess, Workers

DIGEST = "d" * 64
AUTO = ModelConfig(bundle="b", runtime="auto")
NAMES = ("onnxruntime", "openvino", "onnxruntime-cuda")
NO_CUDA = "onnxruntime 1.0 was built without CUDA; pip install something"


class Installed(TwoRuntime):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.version, self.problem = name, "1.0", ""

    def info(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, "" if self.problem else self.version, (), self.problem)


class Bench:
    """A loader with two runtimes and one that is not there; races end as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry, "RUNTIME_NAMES", NAMES)
        self.workers = Workers(monkeypatch, ThreadProcess)
        self.inside = {name: Installed(name) for name in NAMES}
        self.inside["onnxruntime-cuda"].problem = NO_CUDA
        self.trials = {name: TwoRuntime() for name in NAMES}
        self.workers.runtimes = dict(self.trials)
        self.standings, self.contests = NoStandings(), Contests()
        self.stored: Any = TwoStored()
        self.device = "a board"
        self.costs: dict[str, int] = {
            "onnxruntime float32": 1000, "onnxruntime int8": 600,
            "openvino float32": 900, "openvino int8": 400,
        }  # fmt: skip
        self.races: list[list[str]] = []
        self.trial = TrialConfig()
        monkeypatch.setattr(contest, "race", self.race)
        self.start()

    def start(self) -> None:
        """As after a start of the daemon: what was noted is still there."""
        self.loader = Loader(
            self.inside.__getitem__, self.standings, self.trial, 2,
            measured=Memory(), device=lambda: self.device, footprints=Footprints(),
            contests=self.contests,
        )  # fmt: skip

    def race(self, sessions: Any, *_: Any, **__: Any) -> dict[Any, Costs]:
        self.races.append([" ".join(pair) for pair in sessions])
        return {pair: ((1, self.costs[" ".join(pair)] * 1000),) for pair in sessions}

    def load(self, config: ModelConfig = AUTO) -> Loaded:
        return self.loader.load(LoadOrder(DIGEST, self.stored, config), lambda: None)

    def served(self, config: ModelConfig = AUTO) -> tuple[str, str]:
        loaded = self.load(config)
        return loaded.runtime, loaded.precision

    def took(self) -> dict[str, list[str]]:
        return {name: one.took for name, one in self.inside.items() if one.took}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(monkeypatch)
    yield made
    made.workers.close()


class TestFastest:
    @pytest.mark.parametrize("fastest", ["openvino int8", "onnxruntime int8"])
    def test_serves(self, bench: Bench, fastest: str, caplog: pytest.LogCaptureFixture):
        bench.costs[fastest] = 200
        with caplog.at_level(logging.INFO, "edged.serving"):
            loaded = bench.load()
        runtime, precision = fastest.split()
        assert (loaded.runtime, loaded.precision) == (runtime, precision)
        assert bench.took() == {runtime: [precision]}, "nothing else was in the daemon"
        assert bench.races == [
            ["onnxruntime float32", "openvino float32", "onnxruntime int8", "openvino int8"]
        ]
        assert loaded.why.startswith(
            f"int8 on {runtime} won on this device: int8 on {runtime} 0.200 ms a row; int8 on "
        )
        assert loaded.why.endswith(
            "left out: onnxruntime-cuda (onnxruntime 1.0 was built without CUDA)"
        )
        assert f"release 3 serves in int8 on {runtime}" in caplog.text
        assert "WARNING" not in caplog.text, "what is not installed is nothing to worry about"

    def test_a_lower_precision_has_to_earn_its_place(self, bench: Bench):
        bench.costs |= {"onnxruntime int8": 880, "openvino int8": 850}
        assert bench.served() == ("openvino", "float32")

    def test_every_one_was_proven_before_it_serves(self, bench: Bench):
        bench.load()
        assert bench.workers.asked == ["onnxruntime", "openvino"] * 2
        assert all(process.nice == 19 for process in bench.workers.made)
        assert all(process.ends == 1 for process in bench.workers.made)
        sessions = [one for name in NAMES for one in bench.trials[name].sessions]
        assert [session.runs[:2] for session in sessions] == [[3, 1]] * 4, "golden samples"
        assert {what for _, what in bench.standings.passed} == {
            f"{name} 1.0, {precision}"
            for name in ("onnxruntime", "openvino")
            for precision in ("float32", "int8")
        }

    def test_is_remembered_until_a_version_changes(self, bench: Bench):
        for _ in range(2):
            assert bench.served() == ("openvino", "int8")
            bench.start()
        assert len(bench.races) == 1
        assert list(bench.contests.noted) == [
            (
                DIGEST,
                "onnxruntime-cuda missing, onnxruntime 1.0, openvino 1.0, 2 threads, a board",
            )
        ]
        bench.costs["onnxruntime int8"] = 100
        bench.inside["openvino"].version = "2.0"
        assert bench.served() == ("onnxruntime", "int8"), "an upgrade asks again"
        bench.device = "a board, 7W"
        bench.load()
        bench.inside["onnxruntime-cuda"].problem = ""
        bench.costs |= {"onnxruntime-cuda float32": 50, "onnxruntime-cuda int8": 60}
        assert bench.served() == ("onnxruntime-cuda", "float32"), "as does one that is new here"
        assert len(bench.races) == 4

    def test_a_file_that_was_not_there_asks_again(self, bench: Bench):
        """As an engine that the device built of the same release."""
        bench.load()
        manifest = bench.stored.manifest
        more = ArtefactEntry("onnx", "model-float16.onnx", "float16")
        entries = (*manifest.artefacts, more)
        bench.stored.manifest = msgspec.structs.replace(manifest, artefacts=entries)
        bench.costs |= {"onnxruntime float16": 100, "openvino float16": 200}
        assert bench.served() == ("onnxruntime", "float16")
        assert [len(race) for race in bench.races] == [4, 6]

    def test_a_verdict_that_was_lifted_asks_again(self, bench: Bench):
        bench.load()
        bench.standings.passed.clear()
        bench.load()
        assert len(bench.races) == 2

    def test_a_precision_that_the_operator_names(self, bench: Bench):
        config = msgspec.structs.replace(AUTO, precision="float32")
        assert bench.served(config) == ("openvino", "float32")
        assert bench.races == [["onnxruntime float32", "openvino float32"]]
        assert bench.load(config).why.startswith("openvino won on this device: openvino 0.900 ms")
        assert bench.served() == ("openvino", "int8")
        with pytest.raises(LoadError, match="no float16 artefact"):
            bench.load(msgspec.structs.replace(AUTO, precision="float16"))


class TestMissing:
    def test_one_alone_needs_no_race(self, bench: Bench):
        bench.inside["openvino"].problem = "openvino is not installed"
        config = msgspec.structs.replace(AUTO, precision="int8")
        loaded = bench.load(config)
        assert (loaded.runtime, loaded.precision) == ("onnxruntime", "int8")
        assert loaded.why == (
            "nothing else can run it here; left out: onnxruntime-cuda (onnxruntime 1.0 was built "
            "without CUDA), openvino (openvino is not installed)"
        )
        assert bench.races == []
        assert bench.workers.asked == ["onnxruntime"], "it has a trial all the same"

    def test_nothing_is_here(self, bench: Bench):
        for one in bench.inside.values():
            one.problem = f"{one.name} is not installed; install it"
        with pytest.raises(LoadError, match="openvino: openvino is not installed"):
            bench.load()
        assert bench.workers.made == []

    def test_a_kind_that_the_bundle_does_not_have(self, bench: Bench):
        """A file for one runtime only: the others get nothing, and say so."""
        manifest = bench.stored.manifest
        alone = (ArtefactEntry("openvino", "model.xml", "float32"),)
        bench.stored.manifest = msgspec.structs.replace(manifest, artefacts=alone)
        bench.inside["openvino"].hooks = bench.trials["openvino"].hooks = {
            "openvino": lambda inputs: {"y": inputs["x"] * 2}
        }
        bench.stored.artefact = lambda runtime, _precision: runtime.encode()
        loaded = bench.load()
        assert loaded.runtime == "openvino"
        assert "onnxruntime (the bundle has no onnx artefact; it has: openvino)" in loaded.why


class TestFailing:
    def test_one_that_breaks_its_promise_is_out(self, bench: Bench, caplog):
        bench.trials["openvino"].hooks["int8"] = lambda inputs: {"y": inputs["x"]}
        loaded = bench.load()
        assert (loaded.runtime, loaded.precision) == ("onnxruntime", "int8")
        assert "int8 on openvino is out: " in loaded.why
        assert "does not reproduce the golden samples" in loaded.why
        assert "WARNING" in caplog.text
        assert bench.races == [["onnxruntime float32", "openvino float32", "onnxruntime int8"]]
        bench.start()
        assert bench.load().why == loaded.why
        assert len(bench.races) == 1

    def test_a_runtime_that_crashes_harms_nobody(self, bench: Bench):
        def dies(_: Any) -> Any:
            bench.workers.last.die("died of SIGSEGV", "SIGSEGV")
            raise LoadError("too late")

        bench.trials["openvino"].load = dies
        assert bench.served() == ("onnxruntime", "int8")
        assert "quarantine" not in [line[0] for line in bench.standings.told]
        bench.start()
        bench.load()
        assert len(bench.workers.made) == 4, "what crashed is not asked again"
        bench.trials["onnxruntime"].load = dies
        bench.standings.passed.clear()
        with pytest.raises(QuarantinedError):
            bench.load()

    def test_all_are_wrong(self, bench: Bench):
        bench.stored.lies = {"float32", "int8"}
        with pytest.raises(GoldenMismatchError):
            bench.load()
        assert bench.took() == {}

    def test_none_loads(self, bench: Bench):
        for one in bench.trials.values():
            one.errors = dict.fromkeys(("float32", "int8"), LoadError("no kernel"))
        with pytest.raises(LoadError, match=r"int8 on openvino: no kernel; onnxruntime-cuda: "):
            bench.load()

    def test_want_of_memory_is_asked_again_at_the_next_start(self, bench: Bench):
        bench.trials["openvino"].errors["int8"] = RuntimeFailureError("needs more memory")
        assert bench.served() == bench.served() == ("onnxruntime", "int8")
        assert len(bench.races) == 1
        bench.trials["openvino"].errors.clear()
        bench.start()
        assert bench.served() == ("openvino", "int8")
        bench.start()
        bench.load()
        assert len(bench.races) == 2, "and now it is known"

    def test_but_not_at_every_start_for_ever(self, bench: Bench):
        bench.trials["openvino"].errors["int8"] = RuntimeFailureError("needs more memory")
        for _ in range(5):
            assert bench.served() == ("onnxruntime", "int8")
            bench.start()
        assert len(bench.races) == 3
        assert "int8 on openvino is out: needs more memory" in bench.load().why
        bench.inside["openvino"].version = "2.0"
        bench.load()
        assert len(bench.races) == 4

    def test_the_winner_is_not_to_be_had_inside(self, bench: Bench, caplog):
        errors = dict.fromkeys(("float32", "int8"), LoadError("no memory to run from"))
        bench.inside["openvino"].errors = errors
        loaded = bench.load()
        assert (loaded.runtime, loaded.precision) == ("onnxruntime", "int8")
        assert "openvino is out: int8: no memory to run from" in loaded.why
        assert [one.runtime for one in loaded.skipped] == ["openvino"], "which is told aloud"
        assert "WARNING" in caplog.text

    def test_a_runtime_that_was_here_and_is_gone_is_stood_in_for(self, bench: Bench):
        """That it is missed must be said; where it comes back the contest need not be held again."""
        assert bench.served() == ("openvino", "int8")
        bench.inside["openvino"].problem = "libopenvino.so is gone"
        loaded = bench.load()
        assert loaded.runtime == "onnxruntime"
        assert [(one.runtime, one.why) for one in loaded.skipped] == [
            ("openvino", "int8: libopenvino.so is gone; float32: libopenvino.so is gone")
        ]
        bench.inside["openvino"].problem = ""
        assert bench.served() == ("openvino", "int8")
        assert len(bench.races) == 1

    def test_one_that_was_never_here_is_left_out(self, bench: Bench):
        bench.load()
        bench.inside["openvino"].problem = "libopenvino.so is gone"
        bench.start()
        loaded = bench.load()
        assert (loaded.runtime, loaded.skipped) == ("onnxruntime", ())
        assert "openvino (libopenvino.so is gone)" in loaded.why
        assert len(bench.races) == 2

    def test_nothing_stands_in_for_what_won_where_that_is_denied(self, bench: Bench):
        config = msgspec.structs.replace(AUTO, fallback="deny")
        assert bench.served(config) == ("openvino", "int8")
        bench.inside["openvino"].errors["int8"] = LoadError("no kernel")
        assert bench.served(config) == ("openvino", "float32"), "another precision may"
        bench.inside["openvino"].problem = "libopenvino.so is gone"
        with pytest.raises(LoadError, match=r"openvino: .*libopenvino.so is gone"):
            bench.load(config)
        assert "onnxruntime" not in bench.took()


class TestIsolation:
    def test_in_a_process_of_its_own(self, bench: Bench):
        config = msgspec.structs.replace(AUTO, isolation="model")
        loaded = bench.load(config)
        assert (loaded.runtime, loaded.precision) == ("openvino", "int8")
        assert isinstance(loaded.session, WorkerSession)
        assert bench.workers.asked[-1] == "openvino"
        assert bench.took() == {}
        loaded.session.close()
        bench.load(AUTO).session.close()
        assert len(bench.races) == 1, "where it serves is no matter to the contest"

    def test_in_the_process_of_its_device(self, bench: Bench):
        bench.loader.workers = shared = FakeShared(bench.workers)
        config = msgspec.structs.replace(AUTO, isolation="device")
        bench.load(config).session.close()
        assert [who for who, _ in shared.entered] == [Who("device cpu", "gate", DIGEST)]
        bench.inside["onnxruntime-cuda"].problem = ""
        bench.costs |= {"onnxruntime-cuda float32": 50, "onnxruntime-cuda int8": 60}
        bench.load(config).session.close()
        assert shared.entered[-1][0] == Who("device cuda", "gate", DIGEST)

    def test_without_trials_the_first_serves(self, bench: Bench):
        bench.loader.trial = TrialConfig(enabled=False)
        loaded = bench.load()
        assert (loaded.runtime, loaded.precision) == ("onnxruntime", "float32")
        assert loaded.why.startswith("it comes first; without trials nothing is compared; left out")
        assert bench.workers.made == []
        bench.inside["onnxruntime-cuda"].problem = ""
        assert bench.served() == ("onnxruntime-cuda", "float32"), "accelerators come first"

    def test_without_trials_but_apart_it_is_compared(self, bench: Bench):
        bench.loader.trial = TrialConfig(enabled=False)
        loaded = bench.load(msgspec.structs.replace(AUTO, isolation="model"))
        assert loaded.runtime == "openvino"
        loaded.session.close()


def test_a_size_is_that_of_what_was_chosen(bench: Bench):
    prepared = bench.loader.prepare(LoadOrder(DIGEST, bench.stored, AUTO))
    assert prepared.is_proven
    assert prepared.footprint.held > 0
