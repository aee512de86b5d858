"""One connection's door: what passes, what is refused, and what is taken back."""

from __future__ import annotations

import numpy as np
import pytest

from edged.access.gate import Access, Gate
from edged.access.guard import Guard, GuardedCall, GuardedRun, guarded
from edged.access.policy import Peer, Policy, build_rule
from edged.access.quotas import Quota
from edged.config.access import RuleConfig
from edged.errors import CancelledError, Code, DeniedError, QueueFullError, QuotaError
from edged.messages import InferRequest, InferResponse, PrepareRequest
from edged.tensors import TensorSpec
from tests.fakes.wire import EchoDoor

X = {"x": np.zeros((1, 2), np.float32)}
LAYOUT = (TensorSpec("x", "float32", ("batch", 2)),)


def rules(*models: str) -> Policy:
    if not models:
        return Policy(())
    rule = RuleConfig(users=("7",), models=models, allow=("infer",))
    return Policy((build_rule(rule, "r", int, int),))


class Stand:
    def __init__(self, *models: str, quota: Quota | None = None) -> None:
        self.gate = Gate(Access(rules(*models), () if quota is None else (quota,)))
        self.door = EchoDoor()
        self.visit = self.gate.enter(Peer("native", 7), self.review)
        self.guard = guarded(self.door, self.visit)
        self.said: list[tuple[InferResponse, bool]] = []

    def review(self) -> None:
        self.guard.withdraw()

    def hear(self, response: InferResponse, final: bool) -> None:
        self.said.append((response, final))

    def ask(self, model: str = "m"):
        return self.guard.submit(InferRequest(model, X), self.hear)

    @property
    def code(self) -> Code | None:
        (response, final) = self.said[-1]
        assert final
        return response.error.code if response.error is not None else None


def test_without_rules_and_bounds_there_is_nothing_between():
    gate, door = Gate(), EchoDoor()
    assert guarded(door, gate.enter(Peer("native", 7), lambda: None)) is door


def test_what_is_allowed_passes_and_all_else_reaches_nobody():
    stand = Stand("m")
    stand.ask()
    assert stand.code is None
    stand.ask("secret")
    assert stand.code is Code.PERMISSION_DENIED
    assert [one.model for one in stand.door.requests] == ["m"]
    with pytest.raises(DeniedError):
        stand.guard.prepare(PrepareRequest("secret", LAYOUT))
    assert stand.door.prepared == 0
    assert stand.gate.refusals["rule"] == 2


def test_what_waits_is_taken_back_with_the_right():
    stand = Stand("m", "n")
    stand.door.is_holding = True
    stand.ask("m")
    stand.ask("n")
    stand.gate.follow(Access(rules("n")))
    assert stand.code is Code.PERMISSION_DENIED
    assert len(stand.said) == 1
    assert stand.door.cancelled == 1
    stand.door.release_all()
    assert stand.code is None
    assert not stand.guard._waiting
    assert stand.visit.account.in_flight == 0


def test_a_client_that_withdraws_hears_that_it_did():
    stand = Stand("m")
    stand.door.is_holding = True
    ticket = stand.ask()
    assert ticket.cancel()
    assert stand.code is Code.CANCELLED


def test_what_runs_is_answered_and_a_stream_is_cut():
    stand = Stand("m")
    stand.door.is_holding = True
    stand.ask()
    _, on_response = stand.door.held[0]
    stand.door.held.clear()  # it runs: nothing withdraws it any more
    stand.gate.follow(Access(rules()))
    assert not stand.said
    on_response(InferResponse("m", 7, 3), True)
    assert stand.code is None
    stand.gate.follow(Access(rules("m")))
    stand.ask()
    _, on_response = stand.door.held.pop()
    on_response(InferResponse("m", 7, 3), False)
    stand.gate.follow(Access(rules()))
    on_response(InferResponse("m", 7, 3), False)
    on_response(InferResponse("m", 7, 3), True)
    assert len(stand.said) == 3, "no part after the right was gone"
    assert stand.code is Code.PERMISSION_DENIED


def test_a_prepared_call_loses_its_right_and_gets_it_back():
    stand = Stand("m")
    call = stand.guard.prepare(PrepareRequest("m", LAYOUT))
    assert (call.release, call.generation, call.outputs) == (7, 3, LAYOUT)
    assert call.turn is stand.door
    run = call.bind(X, X, 1)
    assert run.run("uds") is not None
    stand.door.shut_out = QueueFullError("its queue is full")
    assert call.shuts_out(1, None, 0, "uds") is None, "a refused request is counted too"
    stand.gate.follow(Access(rules()))
    assert run.run("uds") is None
    assert not run.is_current
    assert call.bind(X, X, 1) is None
    assert call.submit(X, 1, None, "uds", stand.hear) is None
    assert stand.code is Code.PERMISSION_DENIED
    stand.gate.follow(Access(rules("m")))
    call.submit(X, 1, None, "uds", stand.hear)
    assert stand.code is None
    call.adopt(X, 1, "uds", stand.hear)
    assert stand.door.adopted == 1


def test_a_call_from_before_is_guarded_once():
    stand = Stand("m")
    old = stand.door.prepare(PrepareRequest("secret", LAYOUT))
    call = stand.guard.over(old)
    assert isinstance(call, GuardedCall)
    assert stand.guard.over(call) is call
    call.submit(X, 1, None, "uds", stand.hear)
    assert stand.code is Code.PERMISSION_DENIED


def test_bytes_in_flight_are_counted_and_given_back():
    stand = Stand("m", quota=Quota("q", is_any_user=True, in_flight=20))
    stand.door.is_holding = True
    stand.ask()
    stand.ask()
    stand.ask()
    assert stand.code is Code.RESOURCE_EXHAUSTED
    assert stand.said[-1][0].error.retry_after_ns > 0
    assert stand.gate.refusals["in_flight"] == 1
    stand.door.release_all()
    assert stand.visit.account.in_flight == 0
    stand.ask()
    assert len(stand.door.held) == 1


def test_what_outlives_its_connection_gives_its_bytes_back_too():
    stand = Stand("m", quota=Quota("q", is_any_user=True, in_flight=20))
    stand.door.is_holding = True
    stand.ask()
    stand.visit.leave()
    assert stand.visit.account.in_flight == 8
    stand.door.release_all()
    assert stand.visit.account.in_flight == 0


def test_requests_come_no_faster_than_they_may_whichever_way():
    stand = Stand("m", quota=Quota("q", is_any_user=True, rate=1, burst=2))
    call = stand.guard.prepare(PrepareRequest("m", LAYOUT))
    run = call.bind(X, X, 1)
    assert isinstance(run, GuardedRun)
    assert run.is_current
    assert run.run("uds") is not None  # one
    stand.door.is_holding = True
    assert run.run("uds") is None, "not alone any more: the usual way has to be gone"
    stand.door.is_holding = False
    call.submit(X, 1, None, "uds", stand.hear)  # two
    assert stand.code is None
    assert run.run("uds") is None
    call.submit(X, 1, None, "uds", stand.hear)
    assert stand.code is Code.RESOURCE_EXHAUSTED
    stand.ask()
    assert stand.code is Code.RESOURCE_EXHAUSTED
    assert 0 < stand.said[-1][0].error.retry_after_ns <= 1_000_000_000
    assert stand.gate.refusals["rate"] == 2
    stand.gate.follow(Access(rules("m")))
    assert run.run("uds") is None, "made before a change: it is over"
    assert not run.is_current
    run = call.bind(X, X, 1)
    assert all(run.run("uds") is not None for _ in range(9)), "without bounds as fast as one likes"


def test_what_is_denied_has_been_asked():
    """Who tries what it may not is slowed down like everybody, and hears nothing else then."""
    stand = Stand("other", quota=Quota("q", is_any_user=True, rate=1, burst=3))
    for code in (Code.PERMISSION_DENIED, Code.PERMISSION_DENIED):
        stand.ask()
        assert stand.code is code
    with pytest.raises(DeniedError):
        stand.visit.require_early("infer", "m")
    stand.visit.require_early("infer", "other")  # allowed: the door counts it
    with pytest.raises(QuotaError):
        stand.visit.require_early("infer", "m")
    stand.ask()
    assert stand.code is Code.RESOURCE_EXHAUSTED
    assert (stand.gate.refusals["rule"], stand.gate.refusals["rate"]) == (3, 2)


def test_what_is_too_much_at_once_has_been_asked():
    stand = Stand("m", quota=Quota("q", is_any_user=True, in_flight=4, rate=1, burst=2))
    for _ in range(4):
        stand.ask()
        assert stand.code is Code.RESOURCE_EXHAUSTED
    assert (stand.gate.refusals["in_flight"], stand.gate.refusals["rate"]) == (2, 2)


def test_one_that_is_alone_has_no_more_in_flight_than_it_may():
    stand = Stand("m", quota=Quota("q", is_any_user=True, in_flight=15))
    call = stand.guard.prepare(PrepareRequest("m", LAYOUT))
    run, large = call.bind(X, X, 1), call.bind({"x": np.zeros((2, 2), np.float32)}, X, 2)
    assert large.run("uds") is None, "it would never fit, alone or not"
    assert run.run("uds") is not None
    stand.visit.account.in_flight = 8  # of another connection, say
    assert run.run("uds") is None
    stand.visit.account.in_flight = 0
    assert run.run("uds") is not None
    assert (len(stand.door.lone), stand.visit.account.in_flight) == (2, 0)
    stand.gate.follow(Access(rules("m")))
    assert call.bind(X, X, 1).run("uds") is not None


def test_a_run_that_goes_on_in_a_worker_is_in_flight():
    stand = Stand("m", quota=Quota("q", is_any_user=True, in_flight=15))
    call = stand.guard.prepare(PrepareRequest("m", LAYOUT))
    stand.door.is_holding = True
    call.adopt(X, 1, "uds", stand.hear)
    assert stand.visit.account.in_flight == 8
    assert call.bind(X, X, 1).run("uds") is None
    stand.ask()
    assert stand.code is Code.RESOURCE_EXHAUSTED
    stand.door.release_all()
    assert stand.code is None
    assert stand.visit.account.in_flight == 0


def test_a_guard_stays_the_same_one():
    stand = Stand("m")
    assert isinstance(stand.guard, Guard)
    assert guarded(stand.door, stand.visit, stand.guard) is stand.guard
    assert isinstance(guarded(stand.door, stand.visit, stand.door), Guard)
    assert CancelledError.code is Code.CANCELLED


def test_among_those_of_others():
    """Each goes in by its own right and is counted; the run is nobody's."""
    stand = Stand("m")
    stand.door.gathers = 8
    call = stand.guard.prepare(PrepareRequest("m", LAYOUT))
    assert call.gathers == 8
    assert call.shared.entry is None
    entry = call.entry
    assert entry.enters(4)
    entry.leaves(4, has_run=True)
    stand.gate.follow(Access(rules()))
    assert not entry.enters(4), "its rights have changed"
    assert call.gathers == 0


def test_bounds_hold_among_others_too():
    stand = Stand("m", quota=Quota("q", is_any_user=True, in_flight=10, rate=1, burst=2))
    entry = stand.guard.prepare(PrepareRequest("m", LAYOUT)).entry
    account = stand.visit.account
    assert entry.enters(6)
    assert not entry.enters(6), "more than may be in flight"
    assert account.in_flight == 6
    entry.leaves(6, has_run=False)
    assert account.in_flight == 0
    for _ in range(2):  # the one that did not run is not counted
        assert entry.enters(6)
        entry.leaves(6, has_run=True)
    assert not entry.enters(6), "more than may be asked in a second"
    assert account.in_flight == 0
