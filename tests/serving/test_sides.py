"""Runs of a lone asker by the side they belong to: beside what ``test_rollout.py`` sees of them."""

from __future__ import annotations

import numpy as np

from edged.serving.rollout import Rollout
from edged.serving.sides import SideWatch, bind_sides
from tests.fakes.clock import on_loop
from tests.serving.test_rollout import X, both, canary, house


def watch(rollout: Rollout) -> SideWatch:
    return SideWatch(rollout, {"device": "d7"}, {"x": X}, {"y": np.empty_like(X)})


@on_loop
async def test_what_the_call_was_prepared_with_counts_where_a_request_has_no_key():
    stable, new = both()
    plane, rollout = house(canary(50, "device"), stable, new)
    lone = bind_sides(plane, stable, watch(rollout), 2)
    first = lone.run("uds:7").release
    assert {lone.run("uds:7").release for _ in range(20)} == {first}
    assert {lone.run("uds:7", f"d{n}").release for n in range(50)} == {1, 2}


@on_loop
async def test_a_side_that_is_gone_leaves_all_to_the_queue():
    stable, _ = both()
    plane, rollout = house(canary(50), stable)
    assert bind_sides(plane, stable, watch(rollout), 2).run("uds:7") is None
