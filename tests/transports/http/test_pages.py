"""Which document a page over HTTP is, and that rules and bounds hold for pages as they do over gRPC."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.access.gate import Access
from edged.access.policy import Policy, build_rule
from edged.access.quotas import Quota
from edged.config.access import RuleConfig
from edged.transports.http.pages import document_of
from edged.transports.http.routes import route_of
from tests.fakes.house import LOOPS
from tests.fakes.web import Pages, Visitor, Web


class Listed(Pages):
    def index(self, *, ready: bool) -> list[dict[str, Any]]:
        return [{"name": "m"}, {"name": "secret"}]

    def statistics(self, name: str | None, version: str | None) -> dict[str, Any]:
        return {"model_stats": [{"name": "m"}, {"name": "secret"}]}


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/models/m/versions/3", {"model": "m", "version": "3"}),
        ("/v2/models/m/ready", {"ready": "m", "version": None}),
        ("/v2/models/m/config", {"config": "m", "version": None}),
        ("/v2/models/stats", {"stats": None, "version": None}),
        ("/v2/repository/index", [{"ready": False}]),
    ],
)
def test_each(path: str, document: Any):
    pages, route = Pages(), route_of(path)
    assert document_of(pages, route, b"", has_memory=False, has_admin=False) == (200, document)


@pytest.mark.parametrize(
    ("has_memory", "has_admin", "more"),
    [(False, False, []), (True, False, ["system_shared_memory"]), (False, True, ["logging"])],
)
def test_what_the_server_can(has_memory: bool, has_admin: bool, more: list[str]):
    has = {"has_memory": has_memory, "has_admin": has_admin}
    _, document = document_of(Pages(), route_of("/v2"), b"", **has)
    assert document["extensions"] == ("generate", *more)


def test_readiness():
    pages, route = Pages(), route_of("/v2/health/ready")
    pages.reasons = {"m": "it loads"}
    found = document_of(pages, route, b"", has_memory=False, has_admin=False)
    assert found == (503, {"live": True, "ready": False, "not_ready": {"m": "it loads"}})


@pytest.fixture
def listed(tmp_path: Path) -> Iterator[Web]:
    web = Web(tmp_path / "h", LOOPS["asyncio"])
    web.server.pages = web.pages = Listed()
    yield web.start()
    web.stop()


@pytest.fixture
def visitor(listed: Web) -> Iterator[Visitor]:
    made = Visitor(listed.path)
    yield made
    made.close()


def follow(web: Web, rule: RuleConfig, *quotas: Quota) -> None:
    access = Access(Policy((build_rule(rule, "r", int, int),)), quotas)
    web.call(web.server.gate.follow, access)


def test_of_a_model_that_may_not_be_seen_nothing_is_said(listed: Web, visitor: Visitor):
    visitor.ask("GET", "/v2/health/live")
    follow(listed, RuleConfig(users=(str(os.getuid()),), models=("m",), allow=("metadata",)))
    assert visitor.ask("GET", "/v2/models/m")[0] == 200
    for path in ("/v2/models/secret", "/v2/models/secret/config", "/v2/models/secret/stats",
                 "/v2/models/nope", "/metrics"):  # fmt: skip
        assert visitor.ask("GET", path)[0] == 403
    assert visitor.ask("POST", "/v2/models/m/infer", b"{}")[0] == 403
    assert visitor.ask("POST", "/v2/repository/index") == (200, [{"name": "m"}])
    assert visitor.ask("GET", "/v2/models/stats") == (200, {"model_stats": [{"name": "m"}]})
    listed.pages.reasons = {"m": "loads", "secret": "failed"}
    assert visitor.ask("GET", "/v2/health/ready")[1]["not_ready"] == {"m": "loads"}
    listed.pages.reasons = {"secret": "failed"}
    status, document = visitor.ask("GET", "/v2/health/ready")
    assert (status, document["not_ready"]) == (503, {"edged": "not every model is ready"})


def test_what_is_refused_is_counted(listed: Web, visitor: Visitor):
    """As over gRPC: who only tries names is slowed down like anybody."""
    visitor.ask("GET", "/v2/health/live")
    user = os.getuid()
    quota = Quota("quotas[0]", frozenset({user}), rate=0.001, burst=3)
    follow(listed, RuleConfig(users=(str(user),), models=("m",), allow=("metadata",)), quota)
    found = [visitor.ask("GET", f"/v2/models/name-{number}")[0] for number in range(4)]
    assert found == [403, 403, 403, 429]
    assert visitor.ask("GET", "/v2/health/ready")[0] == 200, "probes are never counted"
