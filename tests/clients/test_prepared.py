"""Which way a request of a prepared call goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.client import Client
from edged.messages import LentInputs
from tests.fakes.house import LOOPS, House, houses

SMALL = np.ones((1, 4), np.float32)
LARGE = np.ones((1, 1 << 15), np.float32)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    yield from houses(next(iter(LOOPS)), tmp_path / "s")


@pytest.mark.parametrize(
    ("x", "way"), [(SMALL, "lone"), (LARGE, "memory"), (LARGE[:, ::2], "memory")]
)
def test_the_cheapest_one(house: House, x: np.ndarray, way: str):
    house.start()
    with Client(house.path) as client:
        call = client.prepare("m", x=((None, x.shape[1]), "float32"))
        assert [spec.name for spec in call.inputs] == [spec.name for spec in call.outputs] == ["x"]
        for _ in range(2):
            np.testing.assert_array_equal(call(x)["x"], x)
        house.door.is_quiet = way == "lone"
        np.testing.assert_array_equal(call.infer(x=x)["x"], x)
    if way == "lone":
        assert len(house.door.lone) == 1
    else:
        assert type(house.door.requests[-1].inputs) is LentInputs


def test_submitted_ones_go_by_the_socket(house: House):
    """Nothing says when their answers are read, and memory is for one request at a time."""
    house.start()
    with Client(house.path) as client:
        call = client.prepare("m", x=((None, 1 << 15), "float32"))
        for one in [call.submit(x=LARGE) for _ in range(4)]:
            np.testing.assert_array_equal(one.result()["x"], LARGE)
    assert not any(type(request.inputs) is LentInputs for request in house.door.requests)
