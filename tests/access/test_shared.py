"""Clients that nobody knows: what a rule for tcp gives them, and nothing of any user."""

from __future__ import annotations

import asyncio

import pytest

from edged.access.gate import Access, Gate
from edged.access.policy import Policy, build_rule
from edged.access.shared import SharedDoor, SharedPages
from edged.config.access import RuleConfig
from edged.errors import DeniedError
from edged.messages import InferRequest, InferResponse
from tests.access.test_guard import X
from tests.fakes.web import Pages
from tests.fakes.wire import EchoDoor


def access(**fields) -> Access:
    rule = RuleConfig(**fields)
    return Access(Policy((build_rule(rule, "r", int, int),)))


class Listed(Pages):
    def index(self, *, ready: bool):
        return [{"name": "m"}, {"name": "secret"}]

    def statistics(self, name, version):
        return {"model_stats": [{"name": "m"}, {"name": "secret"}]}


def stand(gate: Gate) -> tuple[SharedDoor, SharedPages, Listed]:
    pages = Listed()
    door = SharedDoor(EchoDoor(), gate, "grpc")
    return door, SharedPages(pages, door), pages


def ask(door: SharedDoor, model: str) -> str:
    said: list[InferResponse] = []
    door.submit(InferRequest(model, X), lambda response, _: said.append(response))
    return "good" if said[0].error is None else said[0].error.code.value


def test_a_users_rule_is_not_theirs():
    door, pages, _ = stand(Gate(access(users=("*",), allow=("infer", "metadata"))))
    assert ask(door, "m") == "PERMISSION_DENIED"
    for work in (
        pages.model,
        pages.model_ready,
        pages.config,
        pages.statistics,
        pages.inputs,
        pages.makes_text,
    ):
        with pytest.raises(DeniedError, match="clients over gRPC"):
            work("m", None)
    with pytest.raises(DeniedError):
        asyncio.run(pages.metrics(""))
    assert pages.index(ready=False) == []
    assert pages.server() == {"name": "fake"}


def test_a_rule_for_tcp_is():
    gate = Gate(access(tcp=True, models=("m",), allow=("infer", "metadata")))
    door, pages, real = stand(gate)
    assert ask(door, "m") == "good"
    assert ask(door, "secret") == "PERMISSION_DENIED"
    assert pages.model("m", None)["model"] == "m"
    assert pages.index(ready=True) == [{"name": "m"}]
    assert pages.statistics(None, None) == {"model_stats": [{"name": "m"}]}
    assert pages.inputs("m", None)[0].name == "x"
    assert pages.labels("m", 1)
    real.reasons = {"m": "loads", "secret": "failed"}
    assert pages.unready() == {"m": "loads"}
    real.reasons = {"secret": "failed"}
    assert pages.unready() == {"edged": "not every model is ready"}


def test_without_rules_they_may_and_with_the_next_reload_no_more():
    gate = Gate()
    door, pages, _ = stand(gate)
    assert ask(door, "m") == "good"
    assert len(pages.index(ready=False)) == 2
    assert pages.unready() == {}
    gate.follow(access(users=("*",), allow=("infer",)))
    assert ask(door, "m") == "PERMISSION_DENIED"
