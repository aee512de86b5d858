"""A run from fixed memory to fixed memory passes on just that."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edged.tensors import Array
from edged.workers.run import WorkerRun


class Awake:
    def __init__(self) -> None:
        self.asked: list[tuple[Mapping[str, Array], Mapping[str, Array]]] = []

    def run_awake(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        self.asked.append((inputs, outputs))


def test_the_same_memory_each_time():
    session, inputs, outputs = Awake(), {"x": np.ones(1)}, {"y": np.ones(1)}
    run = WorkerRun(session, inputs, outputs)
    run.run()
    run.run()
    assert [(a is inputs, b is outputs) for a, b in session.asked] == [(True, True)] * 2
