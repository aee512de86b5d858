"""No model leaves the runtime that was asked for without a word."""

from __future__ import annotations

import logging

import pytest

from edged.errors import LoadError
from edged.serving.lifecycle import State
from tests.fakes.clock import on_loop
from tests.fakes.pair import FIRST, SECOND, Pair


@on_loop
async def test_the_first_serves_and_nothing_is_said():
    pair = Pair()
    release = await pair.start()
    assert (release.runtime, release.stand_in) == (FIRST, None)
    assert pair.health.degradations() == {}
    assert not pair.manager.recovery.stood_in
    pair.manager.stop()


@on_loop
async def test_the_second_serves_and_it_is_said(caplog: pytest.LogCaptureFixture):
    pair = Pair()
    pair.first.problem = "is not installed"
    with caplog.at_level(logging.WARNING):
        release = await pair.start()
    assert release.runtime == SECOND
    assert release.stand_in is not None
    assert (release.stand_in.wanted, release.stand_in.why) == (FIRST, "is not installed")
    words = f"release 1 serves on {SECOND} instead of {FIRST}: is not installed"
    assert pair.health.degradations() == {"runtime.gate": words}
    assert [record.message for record in caplog.records] == [f"degraded: runtime.gate: {words}"]
    assert pair.manager.recovery.stood_in == {("gate", 1, FIRST, SECOND): 1}
    pair.manager.want([])
    assert pair.health.degradations() == {}
    pair.manager.stop()


@on_loop
async def test_none_may_stand_in():
    pair = Pair()
    pair.first.problem = "is not installed"
    release = await pair.start(fallback="deny")
    assert release.state is State.FAILED
    assert release.reason.startswith('model "gate" release 1: openvino: is not installed; ')
    assert "fallback: deny" in release.reason
    assert "models.gate.fallback: allow" in release.reason
    assert pair.second.loads == []
    pair.manager.stop()


@on_loop
async def test_a_list_of_one_has_nobody_to_stand_in_and_says_nothing_of_it():
    pair = Pair()
    pair.first.error = LoadError("no")
    release = await pair.start(fallback="deny", runtime=(FIRST,))
    assert release.reason == 'model "gate" release 1: openvino: no'
    pair.manager.stop()
