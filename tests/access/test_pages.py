"""Which pages a client sees: those of the models that a rule names for it."""

from __future__ import annotations

import asyncio

import pytest

from edged.access.gate import Access, Gate
from edged.access.pages import VisiblePages
from edged.access.policy import Peer, Policy, build_rule
from edged.config.access import RuleConfig
from edged.errors import DeniedError
from tests.fakes.web import Pages


def access(**fields) -> Access:
    rule = RuleConfig(**fields)
    return Access(Policy((build_rule(rule, "r", int, int),)))


class Listed(Pages):
    def index(self, *, ready: bool):
        return [{"name": "m"}, {"name": "secret"}]

    def statistics(self, name, version):
        return {"model_stats": [{"name": "m"}, {"name": "secret"}]}


def stand(gate: Gate, peer: Peer) -> tuple[VisiblePages, Listed]:
    pages = Listed()
    return VisiblePages(pages, gate.enter(peer, lambda: None)), pages


def test_of_a_model_that_may_not_be_seen_nothing_is_said():
    gate = Gate(access(users=("4001",), models=("m",), allow=("infer", "metadata")))
    for peer in (Peer("grpc"), Peer("grpc", 4002), Peer("grpc", certificate="4001")):
        pages, _ = stand(gate, peer)
        for work in (
            pages.model,
            pages.model_ready,
            pages.config,
            pages.statistics,
            pages.inputs,
            pages.makes_text,
        ):
            with pytest.raises(DeniedError):
                work("m", None)
        with pytest.raises(DeniedError):
            asyncio.run(pages.metrics(""))
        assert pages.index(ready=False) == []
        assert pages.server() == {"name": "fake"}


def test_of_one_that_may_be_seen_everything_is():
    gate = Gate(access(users=("4001",), models=("m",), allow=("infer", "metadata")))
    pages, real = stand(gate, Peer("grpc", 4001))
    assert pages.model("m", None)["model"] == "m"
    assert pages.index(ready=True) == [{"name": "m"}]
    assert pages.statistics(None, None) == {"model_stats": [{"name": "m"}]}
    assert pages.inputs("m", None)[0].name == "x"
    assert pages.labels("m", 1)
    real.reasons = {"m": "loads", "secret": "failed"}
    assert pages.unready() == {"m": "loads"}
    real.reasons = {"secret": "failed"}
    assert pages.unready() == {"edged": "not every model is ready"}


def test_without_rules_all_is_seen_and_with_the_next_reload_no_more():
    gate = Gate()
    pages, _ = stand(gate, Peer("grpc"))
    assert len(pages.index(ready=False)) == 2
    assert pages.unready() == {}
    gate.follow(access(users=("*",), allow=("infer",)))
    assert pages.index(ready=False) == []
