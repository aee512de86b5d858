"""No model leaves the runtime that was asked for without a word."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import numpy as np
import pytest

from edged.config.schema import BatchingConfig
from edged.errors import (
    Code,
    DeviceLostError,
    EdgedError,
    LoadError,
    ModelNotReadyError,
    RunError,
)
from edged.messages import InferResponse
from edged.resident import Resident
from edged.serving.lifecycle import State
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.model import Arrays
from tests.fakes.pair import FIRST, SECOND, Pair
from tests.test_resident import Memory


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
    assert len(list(pair.manager.recovery.figures())) == 2
    pair.manager.want([])
    assert pair.health.degradations() == {}
    assert list(pair.manager.recovery.figures()) == [], "its counters end with a release"
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


def errors(answers: list[InferResponse]) -> list[EdgedError]:
    return [one.error for one in answers if one.error is not None]


class TestLost:
    """A device that goes while it is used."""

    @pytest.mark.parametrize("inline_ns", [0, 10**12], ids=["on threads", "on the loop"])
    @on_loop
    async def test_the_next_one_takes_over_and_nothing_is_lost(self, inline_ns: int):
        pair = Pair(inline_ns)
        release = await pair.start(batching=BatchingConfig(max_batch=2, instances=1))
        before = await pair.ask(1.0)
        pair.lose()
        answers = await asyncio.gather(*(pair.ask(float(n)) for n in range(20)))
        assert (before.error, release.runtime, release.state) == (None, SECOND, State.READY)
        told = errors(answers)
        # Those of the run that found out are asked to come again, and of those that a thread may
        # have begun by then; the others wait for the load.
        assert 1 <= len(told) <= 6
        for error in told:
            assert type(error) is ModelNotReadyError
            assert error.code is Code.UNAVAILABLE
            assert error.retry_after_ns > 0
            assert "lost its device while running, ask again" in error.message
        for number, answer in enumerate(answers):
            if answer.error is None:
                assert answer.outputs["y"].tolist() == [[2.0 * number] * 4]
        again = await pair.ask(3.0)
        assert again.error is None
        assert release.in_flight == 0
        pair.manager.stop()

    @on_loop
    async def test_it_is_said_and_counted(self, caplog: pytest.LogCaptureFixture):
        pair = Pair()
        release = await pair.start()
        pair.lose()
        with caplog.at_level(logging.WARNING):
            await pair.ask()
            assert (await pair.ask()).error is None
        assert release.stand_in is not None
        assert "its device was lost while running" in release.stand_in.why
        assert "CUDA failure 719" in pair.health.degradations()["runtime.gate"]
        assert pair.manager.recovery.losses == {("gate", 1, FIRST): 1}
        said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
        words = 'model "gate" failed while running: CUDA failure 719'
        assert said == [f"{release.owner} on {FIRST}: its device was lost while running: {words}"]
        # It is not asked again at once, and a session of a lost device is not freed.
        assert pair.first.loads == ["gate"]
        assert [session.closed for session in pair.first.sessions] == [0]
        assert pair.manager.recovery.unclosed == pair.first.sessions
        pair.manager.stop()

    @on_loop
    async def test_where_none_may_stand_in_it_fails_aloud_and_comes_back(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        clock = Clock(monkeypatch)
        pair = Pair()
        release = await pair.start(fallback="deny")
        pair.lose()
        first = await pair.ask()
        assert type(first.error) is ModelNotReadyError
        await until(lambda: release.state is State.FAILED)
        assert "its device was lost while running" in release.reason
        assert "fallback: deny" in release.reason
        second = await pair.ask()
        assert type(second.error) is ModelNotReadyError
        assert "its device was lost" in second.error.message
        assert pair.second.loads == []
        await clock.forward(9 * 10**9)
        assert pair.first.loads == ["gate"]
        await clock.forward(2 * 10**9)
        await until(lambda: release.failures == 1)  # it is still away
        pair.find()
        await clock.forward(2 * 10**9)
        await until(lambda: release.state is State.READY)
        assert (release.runtime, (await pair.ask()).error) == (FIRST, None)
        pair.manager.stop()

    @on_loop
    async def test_who_waits_longer_than_the_deadline_is_told_when_to_come_back(self):
        pair = Pair()
        release = await pair.start()
        pair.lose()
        pair.second.gate = threading.Event()
        await pair.ask()
        late = await pair.ask(deadline_ns=time.monotonic_ns() + 50_000_000)
        assert type(late.error) is ModelNotReadyError
        assert late.error.retry_after_ns > 0
        pair.second.gate.set()
        await until(lambda: release.state is State.READY)
        pair.manager.stop()

    @on_loop
    async def test_a_run_that_fails_on_its_inputs_costs_nobody_the_device(self):
        pair = Pair()
        release = await pair.start()

        def fail(_: object) -> Arrays:
            raise RunError("these inputs")

        pair.first.sessions[0].function = fail
        answer = await pair.ask()
        assert type(answer.error) is RunError
        await turns(20)
        assert (release.state, release.runtime, release.loss) == (State.READY, FIRST, "")
        assert not pair.manager.recovery.losses
        pair.manager.stop()

    @on_loop
    async def test_a_release_that_drains_tells_who_waits(self):
        pair = Pair(0)
        release = await pair.start()
        session = pair.first.sessions[0]
        session.gate = threading.Event()
        running, waiting = pair.ask(), pair.ask()
        await until(lambda: release.running)
        pair.lose()
        pair.manager.want([])
        assert release.state is State.DRAINING
        session.gate.set()
        for answer in (await running, await waiting):
            assert type(answer.error) is ModelNotReadyError
        await until(lambda: not pair.manager.releases())
        assert not session.closed
        pair.manager.stop()

    @on_loop
    async def test_a_process_that_dies_before_its_loss_was_seen_to(self):
        """What was to be done about the old session is not done to the new one."""
        pair = Pair()
        release = await pair.start()
        release.lose(DeviceLostError("CUDA failure 719"))
        release._worker_died("died of SIGABRT")
        await until(lambda: release.state is State.READY)
        await turns(20)
        assert (release.runtime, release.is_held, release.loss) == (FIRST, False, "")
        assert (await pair.ask()).error is None
        assert not pair.manager.recovery.losses
        pair.manager.stop()

    @on_loop
    async def test_what_was_left_on_the_lost_device_is_asked_for_again(self):
        """Inputs that another model had left there are lost with it; the load goes on all the same."""
        pair = Pair()
        release = await pair.start()
        pair.lose()
        pair.second.gate = threading.Event()
        await pair.ask()
        waiting = pair.ask(2.0)
        (item,) = release.backlog.items

        class Gone(Memory):
            def read(self) -> np.ndarray:
                raise RuntimeError("CUDA failure 719")

        item.request.inputs = {
            "x": Resident(Gone(np.ones((1, 4), "f4")), "cuda:0", np.dtype("f4"), (1, 4))
        }
        pair.second.gate.set()
        answer = await waiting
        assert type(answer.error) is ModelNotReadyError
        assert "inputs were lost with a device, ask again" in answer.error.message
        assert (await pair.ask()).error is None
        assert (release.runtime, release.in_flight) == (SECOND, 0)
        pair.manager.stop()
