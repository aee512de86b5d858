"""What runs before the first request: every size of batch that requests will make, and no more."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.schema import BatchingConfig, ModelConfig, TrialConfig
from edged.costs import Costs
from edged.errors import GoldenMismatchError, RunError, WorkerDiedError
from edged.manifest import Manifest
from edged.messages import InferRequest
from edged.serving import warmup as module
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.release import ServedRelease
from edged.serving.trial import Loader, LoadOrder
from edged.serving.warmup import sizes_to_warm, warm_up
from edged.tensors import Array
from tests.fakes.clock import on_loop, until
from tests.fakes.loader import Contests, Footprints, Memory, NoStandings
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeRuntime, FakeSession, FakeStored, double, doubler
from tests.serving.test_dataplane import Answers, door

PAYS: Costs = ((1, 100), (2, 100), (4, 100), (8, 100))
PAYS_NOT: Costs = ((1, 100), (2, 200), (4, 400))

SIZES = {
    "batching pays": (PAYS, 8, (8, 4, 2)),
    "the operator allows less": (PAYS, 5, (5, 4, 2)),
    "still rising where measuring ended": (PAYS, 32, (32, 16, 8, 4, 2)),
    "no power of two": (((1, 100), (2, 100), (4, 100)), 12, (12, 8, 4, 2)),
    "it does not pay": (PAYS_NOT, 32, ()),
    "rows are not joined": (PAYS, 1, ()),
    "nothing is known, as in a trial": ((), 32, ()),
}


@pytest.mark.parametrize(("costs", "most", "expected"), SIZES.values(), ids=SIZES)
def test_sizes(costs: Costs, most: int, expected: tuple[int, ...]):
    assert sizes_to_warm(costs, most) == expected


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6), st.integers(1, 300))
def test_no_batch_is_larger_than_what_was_run(times: list[int], most: int):
    """The largest that a release will form is the first that is run, or the one row of the proof."""
    costs = tuple((1 << place, ns) for place, ns in enumerate(times))
    config = ModelConfig(bundle="b", batching=BatchingConfig(max_batch=most))
    release = ServedRelease(ReleaseKey("gate", "d", ""), doubler(), config, 0)
    release.costs = costs
    release.configure(config)
    assert max(sizes_to_warm(costs, most), default=1) == release.batch_rows


def run(
    session: FakeSession, costs: Costs = PAYS, manifest: Manifest | None = None,
    stored: FakeStored | None = None, **fields,
) -> int:  # fmt: skip
    manifest = manifest or doubler()
    stored = stored or FakeStored(manifest)
    batching = BatchingConfig(max_batch=8)
    config = ModelConfig(**{"bundle": "b", "batching": batching, **fields})
    return warm_up(session, manifest.artefacts[0], costs, stored=stored, config=config)


class TestRuns:
    def test_each_size_once_the_largest_first(self):
        session = FakeSession()
        assert run(session) == 3
        assert session.runs == [8, 4, 2]

    def test_as_often_as_is_said(self):
        session = FakeSession()
        assert run(session, warmup=2) == 6
        assert session.runs == [8, 8, 4, 4, 2, 2]

    def test_off(self):
        session = FakeSession()
        assert run(session, warmup=0) == 0
        assert not session.runs

    def test_rows_that_cannot_share_a_run(self):
        manifest = make_manifest([("x", "float32", (4,))], [("y", "float32", (4,))])
        session = FakeSession()
        assert run(session, manifest=manifest) == 0
        assert not session.runs

    def test_without_samples_zeros_do(self):
        seen: list[Array] = []

        def keep(inputs: Mapping[str, Array]) -> dict[str, Array]:
            seen.append(inputs["x"])
            return double(inputs)

        assert run(FakeSession(keep), stored=FakeStored(doubler(), has_golden=False)) == 3
        assert [array.shape for array in seen] == [(8, 4), (4, 4), (2, 4)]
        assert not any(array.any() for array in seen)

    def test_the_samples_over_and_over(self):
        seen: list[Array] = []

        def keep(inputs: Mapping[str, Array]) -> dict[str, Array]:
            seen.append(inputs["x"])
            return double(inputs)

        run(FakeSession(keep))
        inputs, _ = FakeStored(doubler()).golden()
        np.testing.assert_array_equal(seen[0], inputs["x"][[0, 1, 2, 0, 1, 2, 0, 1]])

    def test_batches_that_are_too_large_are_left_out(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "_BATCH_BYTES", 4 * 16)
        session = FakeSession()
        run(session)
        assert session.runs == [4, 2]

    def test_it_ends_when_it_takes_long(self, monkeypatch: pytest.MonkeyPatch, caplog):
        caplog.set_level("INFO")
        now = [0]
        monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])

        def slow(inputs: Mapping[str, Array]) -> dict[str, Array]:
            now[0] += module._CAP_NS // 2 + 1
            return double(inputs)

        session = FakeSession(slow)
        assert run(session) == 2
        assert session.runs == [8, 4]
        assert "its warm-up ends before batches of 2 rows" in caplog.text


class TestWrong:
    def test_a_batch_that_gives_other_numbers(self):
        """It promised that rows are independent, and they are not from some size on."""

        def lies(inputs: Mapping[str, Array]) -> dict[str, Array]:
            return {"y": inputs["x"] * (2 if len(inputs["x"]) < 8 else 3)}

        with pytest.raises(GoldenMismatchError, match="in a batch of 8 rows"):
            run(FakeSession(lies))

    def test_a_batch_that_fails_is_no_reason_not_to_serve(self, caplog: pytest.LogCaptureFixture):
        def fails(_: Mapping[str, Array]) -> dict[str, Array]:
            raise RunError("too many rows")

        session = FakeSession(fails)
        assert run(session) == 0
        assert session.runs == [8]
        assert "in a batch of 8 rows cannot be warmed: too many rows" in caplog.text

    def test_a_process_that_dies_of_it(self):
        def dies(_: Mapping[str, Array]) -> dict[str, Array]:
            raise WorkerDiedError("killed")

        with pytest.raises(WorkerDiedError):
            run(FakeSession(dies))


def load(runtime: FakeRuntime, memory: Memory, stored: FakeStored | None = None):
    loader = Loader(
        lambda _: runtime, NoStandings(), TrialConfig(enabled=False), 2,
        measured=memory, device=lambda: "a board", footprints=Footprints(), contests=Contests(),
    )  # fmt: skip
    stored = stored or FakeStored(doubler())
    config = ModelConfig(bundle="b", batching=BatchingConfig(max_batch=8))
    return loader.load(LoadOrder("d", stored, config), lambda: None), config


def remember(memory: Memory) -> None:
    """Let batches of eight pay, as measured before; no look finds it so much faster now."""
    for key in memory.noted:
        memory.noted[key] = ((1, 1), (2, 1), (4, 1), (8, 1))


@on_loop
async def test_no_request_runs_a_size_for_the_first_time():
    """Also where the times are known from before, so that nothing is measured any more."""
    memory, runtime = Memory(), FakeRuntime()
    load(runtime, memory)
    remember(memory)
    loaded, config = load(runtime, memory)
    session = runtime.sessions[-1]
    before = set(session.runs)
    assert before >= {1, 2, 4, 8}
    release = ServedRelease(ReleaseKey("gate", "d", ""), doubler(), config, 10**9)
    release.move(Event.LOAD)
    release.move(Event.LOADED)
    release.loaded(session, "onnxruntime", loaded.typical_run_ns, loaded.costs)
    release.move(Event.WARMED)
    plane = door(release)
    del session.runs[:]
    for count in (1, 2, 4, 8):
        answers = [Answers() for _ in range(count)]
        for one in answers:
            plane.submit(InferRequest("gate", {"x": np.ones((1, 4), np.float32)}), one)
        await until(lambda them=answers: all(them))
        assert all(one[0].error is None for one in answers)
    assert session.runs == [1, 2, 4, 8]
    assert set(session.runs) <= before


def test_a_load_that_fails_in_its_warm_up_closes_the_session():
    memory, runtime = Memory(), FakeRuntime()
    load(runtime, memory)
    remember(memory)
    runtime.function = lambda inputs: {"y": inputs["x"] * (2 if len(inputs["x"]) < 8 else 3)}
    with pytest.raises(GoldenMismatchError, match="in a batch of 8 rows"):
        load(runtime, memory)
    assert runtime.sessions[-1].closed == 1
