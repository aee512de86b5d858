"""One sequence and its requests, without a loop; all together: test_open_sequences.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edged.errors import RunError
from edged.messages import InferResponse, SequencedRequest, SequenceStep
from edged.serving.sequences.open_sequence import Sequence, Step

NEXT = {"h": np.ones(3, np.float32)}


class Layout:
    """As a release's, with one state."""

    tensors = (SimpleNamespace(output="hN"),)

    def taken(self, outputs: dict[str, Any], _rows: int, owner: str) -> dict[str, Any]:
        if "hN" not in outputs:
            raise RunError(f"{owner} gave no state")
        return NEXT


class Rig:
    """A sequence with a request under way, and who went on after it."""

    def __init__(self, *, end: bool = False, breaks: bool = False) -> None:
        self.went_on: list[Sequence] = []
        self.told: list[tuple[InferResponse, bool]] = []
        self.breaks = breaks
        release: Any = SimpleNamespace(
            states=Layout(), owner='model "m" release 1', sequence=SimpleNamespace(idle_timeout=7),
            sequences=SimpleNamespace(go_on=self.went_on.append),
        )  # fmt: skip
        self.sequence = Sequence("k", release, rows=1, size_bytes=12, states={"h": "before"})
        request = SequencedRequest("m", {}, sequence=SequenceStep("k", end=end))
        item: Any = SimpleNamespace(rows=1, queue=None)
        self.step = Step(item, request, self.tell, self.sequence, release)
        self.sequence.now = self.step

    def tell(self, response: InferResponse, final: bool) -> None:
        self.told.append((response, final))
        if self.breaks:
            raise BrokenPipeError

    def answer(self, outputs: dict[str, Any], **fields: Any) -> InferResponse:
        response = InferResponse("m", 1, 1, outputs, **fields)
        self.step.answered(response, True)
        return response


def test_an_answer_leaves_the_next_state_and_does_not_show_it():
    rig = Rig()
    response = rig.answer({"y": 1, "hN": 2})
    assert response.outputs == {"y": 1}
    assert rig.sequence.states == NEXT
    assert rig.sequence.is_idle
    assert rig.went_on == [rig.sequence]


def test_the_last_one_leaves_none():
    rig = Rig(end=True)
    rig.answer({"y": 1, "hN": 2})
    assert rig.sequence.states is None


def test_a_failure_leaves_the_state_as_it_was():
    for rig, outputs, error in ((Rig(), {}, RunError("no")), (Rig(), {"y": 1}, None)):
        response = rig.answer(outputs, error=error)
        assert isinstance(response.error, RunError)
        assert response.outputs == {}
        assert rig.sequence.states == {"h": "before"}
        assert rig.went_on == [rig.sequence]


def test_a_part_is_told_and_nothing_ends():
    rig = Rig()
    part = InferResponse("m", 1, 1, {"y": 1})
    rig.step.answered(part, False)
    assert rig.told == [(part, False)]
    assert rig.sequence.now is rig.step
    assert not rig.went_on


def test_the_next_one_goes_on_where_the_client_cannot_be_told():
    rig = Rig(breaks=True)
    with pytest.raises(BrokenPipeError):
        rig.answer({"y": 1, "hN": 2})
    assert rig.sequence.is_idle
    assert rig.went_on == [rig.sequence]
