"""Loading proves a release before it may serve."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from edged import costs as costing
from edged import loading
from edged.errors import EdgedError, GoldenMismatchError, LoadError
from edged.loading import Skipped, compare, entries_for, find_entries, load_release, warm
from edged.manifest import ArtefactEntry, Tolerance
from edged.runtimes import registry
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeRuntime, FakeSession, FakeStored, double, doubler

ONE = np.ones((2, 3), np.float32)
NAN = np.array([[1, np.nan, 1]], np.float32)
INF = np.array([[1, np.inf, 1]], np.float32)
LOOSE = {"y": Tolerance(rtol=0.0, atol=0.1)}
LABELS = np.array([1, 2, 3])

SAME = {
    "equal": (ONE, ONE, {}),
    "within the default": (ONE + 1e-6, ONE, {}),
    "within atol": (ONE + 0.09, ONE, LOOSE),
    "within rtol": (ONE * 1005, ONE * 1000, {"y": Tolerance(rtol=0.01, atol=0)}),
    "labels": (LABELS, LABELS, {}),
    "bools": (LABELS > 1, LABELS > 1, {}),
    "float16": (ONE.astype(np.float16), ONE.astype(np.float16), {}),
    "empty": (ONE[:0], ONE[:0], {}),
}
OTHER = {
    "beyond the default": (ONE + 1e-2, ONE, {}, "6 of 6 elements are off, the worst by 0.01"),
    "beyond atol": (ONE + 0.11, ONE, LOOSE, "tolerance atol 0.1, rtol 0"),
    "one element": (ONE + np.eye(2, 3, dtype=np.float32), ONE, {}, "2 of 6 elements are off"),
    "got NaN": (NAN, ONE[:1], {}, "gives NaN or infinity"),
    "got NaN as promised": (NAN, NAN, {}, "gives NaN or infinity"),
    "got infinity": (INF, ONE[:1], {}, "gives NaN or infinity"),
    "promised NaN": (ONE[:1], NAN, {}, "promise NaN or infinity"),
    "promised infinity": (ONE[:1], INF, {}, "promise NaN or infinity"),
    "shape": (ONE[:1], ONE, {}, r"should have shape \[2, 3\]; got \[1, 3\]"),
    "missing": (None, ONE, {}, "got nothing"),
    "labels": (np.array([1, 2, 4]), LABELS, {}, "differs in 1 of 3 elements"),
    "labels are not rounded": (LABELS + 1e-9, LABELS, {}, "differs in 3 of 3"),
    "a tolerance is of no use to labels": (
        LABELS + 1,
        LABELS,
        {"y": Tolerance(rtol=1, atol=99)},
        "differs in 3",
    ),
    "bools": (LABELS > 1, LABELS > 2, {}, "differs in 1"),
    "another's tolerance": (ONE + 0.09, ONE, {"z": Tolerance(atol=1)}, "does not reproduce"),
}


@pytest.mark.parametrize("name", SAME)
def test_same(name: str):
    got, wanted, tolerances = SAME[name]
    compare({"y": got, "extra": ONE}, {"y": wanted}, tolerances, "gate")


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.hostile("G13 NaN or infinity on the golden samples")
def test_other(name: str):
    got, wanted, tolerances, message = OTHER[name]
    outputs = {} if got is None else {"y": got}
    with pytest.raises(GoldenMismatchError, match=message) as caught:
        compare(outputs, {"y": wanted}, tolerances, 'model "gate" release 1')
    assert caught.value.message.startswith('model "gate" release 1')


class TestWarm:
    def test_replays_whole_and_one_row_and_measures_one_row(self):
        session = FakeSession()
        costs = warm(session, doubler(), FakeStored(doubler()).golden())
        assert session.runs[:2] == [3, 1]
        assert session.runs[2 : 2 + costing._MEASURE_RUNS] == [1] * costing._MEASURE_RUNS
        assert costs[0][0] == 1
        assert costs[0][1] > 0

    def test_a_model_whose_rows_depend_on_each_other_is_found(self):
        """One row alone must give what it gave among the others, or batching changes answers."""

        def normalised(inputs):
            return {"y": inputs["x"] - inputs["x"].mean(axis=0)}

        golden = FakeStored(doubler()).golden()[0]
        with pytest.raises(GoldenMismatchError):
            warm(FakeSession(normalised), doubler(), (golden, normalised(golden)))

    def test_a_fixed_batch_is_replayed_whole_only(self):
        manifest = doubler(shape=(3, 4))
        session = FakeSession()
        warm(session, manifest, FakeStored(manifest).golden())
        assert set(session.runs) == {3}

    def test_without_golden_samples_zeros_run(self):
        manifest = make_manifest([("x", "int8", ("batch", "time", 4))])
        seen = []
        warm(FakeSession(lambda inputs: seen.append(inputs["x"]) or {"y": ONE}), manifest, None)
        assert (seen[0].shape, seen[0].dtype, seen[0].any()) == ((1, 1, 4), np.int8, False)

    def test_a_slow_model_is_not_run_seven_times(self, monkeypatch: pytest.MonkeyPatch):
        now = iter(range(0, 10**12, 150_000_000))
        monkeypatch.setattr(costing.time, "monotonic_ns", lambda: next(now))
        session = FakeSession()
        assert warm(session, doubler(), None) == ((1, 150_000_000),)
        assert len(session.runs) == 2


class TestLoadRelease:
    def load(self, stored: FakeStored, runtime: FakeRuntime, log: list[str] | None = None):
        events = [] if log is None else log
        return load_release(
            stored, ("onnxruntime",), lambda _: runtime, lambda: events.append("loaded")
        )

    def test_gives_a_proven_session(self):
        runtime, log = FakeRuntime(), []
        loaded = self.load(FakeStored(doubler()), runtime, log)
        assert loaded.session is runtime.sessions[0]
        assert loaded.runtime == "onnxruntime"
        assert loaded.typical_run_ns > 0
        assert log == ["loaded"]
        assert not loaded.session.closed

    def test_hands_over_the_artefact_of_the_kind(self):
        runtime = FakeRuntime()
        seen = []
        original = runtime.load
        runtime.load = lambda artefact: seen.append(artefact) or original(artefact)
        self.load(FakeStored(doubler()), runtime)
        assert seen[0].data == b"onnx"
        assert [str(spec) for spec in seen[0].inputs] == ["float32[batch,4]"]

    def test_a_false_promise_closes_the_session(self):
        runtime = FakeRuntime()
        with pytest.raises(GoldenMismatchError, match="does not reproduce the golden samples"):
            self.load(FakeStored(doubler(), off_by=0.5), runtime)
        assert [session.closed for session in runtime.sessions] == [1]

    def test_a_model_that_fails_on_its_samples_closes_the_session(self):
        runtime = FakeRuntime(lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            self.load(FakeStored(doubler()), runtime)
        assert [session.closed for session in runtime.sessions] == [1]

    @pytest.mark.parametrize("how", ["problem", "error"])
    def test_no_runtime_takes_it(self, how: str):
        runtime, log = FakeRuntime(), []
        setattr(runtime, how, "not installed" if how == "problem" else LoadError("not installed"))
        with pytest.raises(LoadError) as caught:
            self.load(FakeStored(doubler()), runtime, log)
        assert caught.value.message == 'model "gate" release 1: onnxruntime: not installed'
        assert log == []

    def test_the_next_runtime_is_tried(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(registry.ARTEFACT_KINDS, "second", ("onnx",))
        first, second = FakeRuntime(), FakeRuntime()
        first.error = LoadError("no")
        runtimes = {"onnxruntime": first, "second": second}
        loaded = load_release(
            FakeStored(doubler()), ("onnxruntime", "second"), runtimes.__getitem__, lambda: None
        )
        assert loaded.runtime == "second"
        assert loaded.skipped == (Skipped("onnxruntime", "no", may_change=True),)

    def test_whose_package_is_not_there_may_be_there_later(self):
        loaded = load_release(
            FakeStored(doubler()), ("gone", "onnxruntime"), lambda _: FakeRuntime(), lambda: None
        )
        words = "no installed package gives it (an entry point of the group edged.runtimes)"
        assert loaded.skipped == (Skipped("gone", words, may_change=True),)

    def test_who_has_no_file_of_the_bundle_is_skipped_for_good(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setitem(registry.ARTEFACT_KINDS, "first", ("engine",))
        loaded = load_release(
            FakeStored(doubler()), ("first", "onnxruntime"), lambda _: FakeRuntime(), lambda: None
        )
        words = "the bundle has no engine artefact; it has: onnx"
        assert loaded.skipped == (Skipped("first", words, may_change=False),)

    def test_a_bundle_without_the_kind(self):
        manifest = doubler()
        entry = type(manifest.artefacts[0])(runtime="openvino", file="m.onnx")
        stored = FakeStored(manifest)
        stored.manifest = type(manifest)(
            **{
                **{f: getattr(manifest, f) for f in manifest.__struct_fields__},
                "artefacts": (entry,),
            }
        )
        with pytest.raises(EdgedError, match="the bundle has no onnx artefact; it has: openvino"):
            self.load(stored, FakeRuntime())

    def test_of_two_kinds_the_runtimes_own_and_the_other_where_it_has_none(self):
        onnx = [ArtefactEntry("onnx", "a.onnx"), ArtefactEntry("onnx", "b.onnx", "int8")]
        ir = ArtefactEntry("openvino", "a.xml")
        manifest = msgspec.structs.replace(doubler(), artefacts=(*onnx, ir))
        assert entries_for(manifest, "openvino") == [onnx[1], ir]
        assert entries_for(manifest, "onnxruntime") == onnx
        manifest = msgspec.structs.replace(manifest, artefacts=(ir,))
        assert find_entries(manifest, "onnxruntime") == []

    def test_control_the_double_is_what_is_promised(self):
        golden = FakeStored(doubler()).golden()
        compare(double(golden[0]), golden[1], {}, "gate")
        assert dataclasses.is_dataclass(loading.Loaded)
