"""Stack, run, split; and only the bad member of a batch fails."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref

import numpy as np
import pytest

from edged.errors import DeviceLostError, EdgedError, LoadError, RunError, WorkerDiedError
from edged.messages import InferRequest
from edged.serving.executor import (
    BatchResult,
    RemoteBatch,
    run_batch,
    split,
    stack,
    tell,
)
from edged.serving.instance_threads import InstanceThreads
from edged.serving.scheduling.scheduler import Waiting
from tests.fakes.model import FakeSession
from tests.fakes.pair import gone


def item(rows: int, value: float = 1.0) -> Waiting:
    x = np.full((rows, 4), value, np.float32)
    return Waiting(InferRequest("gate", {"x": x}), lambda *_: None, rows, (), x.nbytes, 0, 1)


def test_each_gets_its_rows_back_as_a_view():
    session = FakeSession()
    items = [item(2, 1.0), item(1, 5.0), item(3, 9.0)]
    result = run_batch(session, items)
    assert session.runs == [6]
    assert result.rows == 6
    assert result.run_ns > 0
    base = result.outcomes[0].outputs["y"].base
    for got, sent in zip(result.outcomes, items, strict=True):
        assert got.item is sent
        assert got.error is None
        np.testing.assert_array_equal(got.outputs["y"], sent.request.inputs["x"] * 2)
        assert got.outputs["y"].base is base, "outputs were copied"


def test_one_runs_on_the_very_arrays_that_came():
    seen = []
    session = FakeSession(lambda inputs: seen.append(inputs["x"]) or {"y": inputs["x"]})
    sent = item(3)
    run_batch(session, [sent])
    assert seen[0] is sent.request.inputs["x"]


def test_only_the_bad_member_fails(caplog: pytest.LogCaptureFixture):
    def picky(inputs):
        if (inputs["x"] < 0).any():
            raise RunError("a negative reading")
        return {"y": inputs["x"] * 2}

    session = FakeSession(picky)
    with caplog.at_level(logging.WARNING, "edged.serving"):
        result = run_batch(session, [item(1, 1.0), item(2, -1.0), item(3, 3.0)])
    assert session.runs == [6, 1, 2, 3]
    errors = [outcome.error and outcome.error.message for outcome in result.outcomes]
    assert errors == [None, "a negative reading", None]
    assert result.outcomes[1].outputs is None
    np.testing.assert_array_equal(result.outcomes[2].outputs["y"], np.full((3, 4), 6.0))
    assert len([one for one in caplog.records if one.name.startswith("edged")]) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda inputs: {"y": inputs["x"][:1]},
        lambda inputs: {"y": np.float32(1).reshape(())},
        lambda inputs: {"y": np.concatenate([inputs["x"], inputs["x"]])},
    ],
    ids=["first row", "one value", "twice"],
)
def test_wrong_row_count_is_not_split(wrong, caplog: pytest.LogCaptureFixture):
    """Rows of another request would be handed out: each is run alone instead."""
    session = FakeSession(wrong)
    result = run_batch(session, [item(1), item(1)])
    assert session.runs == [2, 1, 1]
    assert "promises one row each" in caplog.text
    assert len(result.outcomes) == 2


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (LoadError("gone"), LoadError, "gone"),
        (RuntimeError("secret of the backend"), RunError, 'model "gate" failed while running'),
        (MemoryError(), RunError, 'model "gate" failed while running'),
    ],
)
def test_any_exception_of_a_model_becomes_ours(
    raised: Exception, kind: type[EdgedError], message: str, caplog: pytest.LogCaptureFixture
):
    def fails(_):
        raise raised

    for items in ([item(1)], [item(1), item(1)]):
        for outcome in run_batch(FakeSession(fails), items).outcomes:
            assert type(outcome.error) is kind
            assert outcome.error.message == message


class TestStackAndSplit:
    def test_there_and_back(self):
        items = [item(2, 1.0), item(0, 2.0), item(3, 9.0)]
        stacked = stack(items)
        assert {name: array.shape for name, array in stacked.items()} == {"x": (5, 4)}
        outcomes = split(items, 5, {"y": stacked["x"], "label": np.arange(5)})
        for outcome, sent in zip(outcomes, items, strict=True):
            assert (outcome.item, outcome.error) == (sent, None)
            np.testing.assert_array_equal(outcome.outputs["y"], sent.request.inputs["x"])
            assert outcome.outputs["y"].base is not None, "it was copied"
        np.testing.assert_array_equal(outcomes[2].outputs["label"], [2, 3, 4])

    def test_one_alone_is_not_touched(self):
        """Not even looked at: a model without rows has outputs of any shape."""
        alone = item(2)
        assert stack([alone]) is alone.request.inputs
        outputs = {"y": np.float32(3).reshape(())}
        (outcome,) = split([alone], 2, outputs)
        assert outcome.outputs is outputs

    @pytest.mark.parametrize("shape", [(), (1, 4), (3,), (0, 2)])
    def test_wrong_rows(self, shape: tuple[int, ...]):
        good, bad = np.zeros((2, 4)), np.zeros(shape)
        with pytest.raises(RunError, match=r'output "bad" has shape \[.*\] for a batch of 2 rows'):
            split([item(1), item(1)], 2, {"good": good, "bad": bad})


class FakeRemote:
    """A worker's session: each run is answered when the test says."""

    def __init__(self) -> None:
        self.begun: list[np.ndarray] = []
        self.on_done = None

    def begin(self, inputs, on_done) -> None:
        assert self.on_done is None, "one run at a time"
        self.begun.append(inputs["x"])
        self.on_done = on_done

    def answer(self, outputs=None, error: EdgedError | None = None) -> None:
        on_done, self.on_done = self.on_done, None
        on_done({} if outputs is None else outputs, error)

    def double(self) -> None:
        self.answer({"y": self.begun[-1] * 2})


class TestRemoteBatch:
    def begin(self, *items: Waiting) -> tuple[FakeRemote, list[BatchResult]]:
        remote, results = FakeRemote(), []
        RemoteBatch(remote, items, results.append).begin()
        assert not results
        return remote, results

    def test_each_gets_its_rows(self):
        items = [item(2, 1.0), item(3, 5.0)]
        remote, results = self.begin(*items)
        remote.double()
        (result,) = results
        assert [array.shape for array in remote.begun] == [(5, 4)]
        assert result.rows == 5
        assert result.run_ns > 0
        for got, sent in zip(result.outcomes, items, strict=True):
            assert (got.item, got.error) == (sent, None)
            np.testing.assert_array_equal(got.outputs["y"], sent.request.inputs["x"] * 2)

    def test_one_alone_is_sent_as_it_came(self):
        sent = item(3)
        remote, results = self.begin(sent)
        assert remote.begun[0] is sent.request.inputs["x"]
        remote.answer(error=RunError("a negative reading"))
        assert [(o.outputs, o.error.message) for o in results[0].outcomes] == [
            (None, "a negative reading")
        ]
        assert len(remote.begun) == 1, "what failed alone was tried again"

    def test_only_the_bad_member_fails(self, caplog: pytest.LogCaptureFixture):
        items = [item(1, 1.0), item(2, -1.0), item(3, 3.0)]
        remote, results = self.begin(*items)
        remote.answer(error=RunError("a negative reading"))
        remote.double()
        remote.answer(error=RunError("a negative reading"))
        assert not results
        remote.double()
        (result,) = results
        assert [array.shape[0] for array in remote.begun] == [6, 1, 2, 3]
        errors = [outcome.error and outcome.error.message for outcome in result.outcomes]
        assert errors == [None, "a negative reading", None]
        assert [outcome.item for outcome in result.outcomes] == items
        assert result.outcomes[1].outputs is None
        np.testing.assert_array_equal(result.outcomes[2].outputs["y"], np.full((3, 4), 6.0))
        assert "running them one by one: a negative reading" in caplog.text

    def test_wrong_rows_are_not_split(self):
        remote, results = self.begin(item(1), item(1))
        remote.answer({"y": np.zeros((1, 4))})
        remote.double()
        remote.double()
        assert [array.shape[0] for array in remote.begun] == [2, 1, 1]
        assert [outcome.error for outcome in results[0].outcomes] == [None, None]

    @pytest.mark.parametrize(
        "death", [WorkerDiedError("died of SIGSEGV", crash="SIGSEGV"), DeviceLostError("gone")]
    )
    def test_a_death_fails_all_and_nothing_is_run_again(self, death: EdgedError):
        """The one that killed it is not known: run again one by one, it would kill again."""
        remote, results = self.begin(item(1), item(2))
        remote.answer(error=death)
        (result,) = results
        assert [(o.outputs, o.error) for o in result.outcomes] == [(None, death)] * 2
        assert len(remote.begun) == 1

    def test_a_death_among_the_ones_run_alone(self):
        remote, results = self.begin(item(1), item(2), item(3))
        remote.answer(error=RunError("no"))
        remote.double()
        death = WorkerDiedError("died of SIGSEGV", crash="SIGSEGV")
        for _ in range(2):
            remote.answer(error=death)
        (result,) = results
        assert [outcome.error for outcome in result.outcomes] == [None, death, death]


class TestWhatIsLetGo:
    """What a run was given may be memory of a GPU; no collector is asked before it is free."""

    def test_after_an_error(self):
        def fail(inputs):
            raise RunError("bad luck") from ValueError("deep inside")

        sent = item(2)
        gone = weakref.ref(sent.request.inputs["x"])
        gc.disable()
        try:
            results = [run_batch(FakeSession(fail), [sent])]
            results.append(results[0])  # as who holds the answer does
            error = results[0].outcomes[0].error
            del sent, results
            assert gone() is None
        finally:
            gc.enable()
        assert isinstance(error, RunError)

    def test_after_a_job(self):
        threads, done = InstanceThreads("edged-m"), threading.Event()
        sent = item(2)
        gone = weakref.ref(sent.request.inputs["x"])
        threads.submit(lambda sent=sent: done.set(), 1)
        del sent
        assert done.wait(30)
        give_up = time.monotonic() + 30
        while gone() is not None and time.monotonic() < give_up:
            time.sleep(0.001)
        assert gone() is None
        threads.close(None)


def test_a_run_that_ends_after_the_loop_tells_nobody(caplog: pytest.LogCaptureFixture):
    loop = asyncio.new_event_loop()
    loop.close()
    threads, told, ended = InstanceThreads("edged-late"), threading.Event(), threading.Event()
    threads.submit(lambda: tell(loop, told.set) or ended.set(), 1)
    assert ended.wait(15)
    threads.close(None)
    assert not told.is_set()
    assert not [record for record in caplog.records if record.name.startswith("edged")]


def test_a_batch_whose_device_is_lost_is_not_tried_one_by_one():
    session = FakeSession(gone)
    result = run_batch(session, [item(1), item(2)])
    assert session.runs == [3]
    assert [type(outcome.error) for outcome in result.outcomes] == [DeviceLostError] * 2
