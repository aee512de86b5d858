"""Nodes that a device left to the processor are counted and named, also out of a worker."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import msgspec
import pytest

from edged.runtimes.placed import Placed, placed_of, placed_words
from edged.workers.worker import LoadReply

CPU = Counter({"Loop": 1, "NonMaxSuppression": 2})


def test_of_a_session():
    found = placed_of(SimpleNamespace(placed=(Counter({"Conv": 7, "Relu": 5}), CPU)))
    assert found == Placed(12, {"NonMaxSuppression": 2, "Loop": 1})
    assert found.cpu_nodes == 3
    assert list(found.as_dict()["on_cpu"]) == ["NonMaxSuppression", "Loop"]


@pytest.mark.parametrize("session", [object(), SimpleNamespace(placed=None)])
def test_of_one_that_does_not_tell(session: object):
    assert placed_of(session) is None


def test_words():
    few = {"NonMaxSuppression": 2, "Loop": 1}
    assert placed_words(12, few) == "3 of 15 nodes run on the CPU: 2 NonMaxSuppression, 1 Loop"
    assert placed_words(12, {}) == ""
    many = {f"Op{number}": 1 for number in range(9)}
    assert placed_words(1, many).endswith("1 Op5, …")


def test_a_worker_hands_it_on():
    reply = {"version": "1", "inputs": [], "outputs": [], "placed": [{"Conv": 7}, dict(CPU)]}
    data = msgspec.msgpack.encode(reply)
    again = msgspec.convert(msgspec.msgpack.decode(data), LoadReply, strict=False)
    assert placed_of(SimpleNamespace(placed=again.placed)) == Placed(7, dict(CPU.most_common()))
