"""Stack, run, split; and only the bad member of a batch fails."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest

from edged.errors import EdgedError, LoadError, RunError
from edged.messages import InferRequest
from edged.serving.executor import InstanceThread, run_batch
from edged.serving.scheduler import Waiting
from tests.fakes.model import FakeSession


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
    assert len(caplog.records) == 1


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


class TestInstanceThread:
    def test_runs_in_order_on_one_other_thread(self):
        thread = InstanceThread("edged-test")
        done = threading.Event()
        seen: list[tuple[int, int]] = []
        for n in range(50):
            thread.submit(lambda n=n: seen.append((n, threading.get_ident())))
        thread.submit(done.set)
        assert done.wait(10)
        assert [n for n, _ in seen] == list(range(50))
        idents = {ident for _, ident in seen}
        assert len(idents) == 1
        assert threading.get_ident() not in idents
        thread.close()

    def test_ends_after_its_last_job(self):
        thread = InstanceThread("edged-end")
        seen: list[int] = []
        thread.submit(lambda: seen.append(1))
        thread.close()
        thread._thread.join(10)
        assert not thread._thread.is_alive()
        assert seen == [1]

    def test_survives_a_job_that_raises(self, caplog: pytest.LogCaptureFixture):
        thread = InstanceThread("edged-raise")
        done = threading.Event()
        thread.submit(lambda: 1 / 0)
        thread.submit(done.set)
        assert done.wait(10)
        assert "edged-raise" in caplog.text
        thread.close()

    def test_is_not_started_before_its_first_job(self):
        before = threading.active_count()
        thread = InstanceThread("edged-idle")
        thread.close()
        assert threading.active_count() == before
