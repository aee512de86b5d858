"""Calls and pages: what each needs a right for, and what is left out of lists."""

from __future__ import annotations

import pytest

from edged.access.calls import check_call, visible
from edged.access.gate import Access, Gate
from edged.access.policy import Peer, Policy, build_rule
from edged.access.visit import Visit
from edged.config.access import RuleConfig
from edged.errors import DeniedError


def visit(*allow: str, models: tuple[str, ...] = ("*",), door: str = "native") -> Visit:
    rule = RuleConfig(users=("7",), models=models, allow=allow)
    policy = Policy((build_rule(rule, "r", int, int),), has_admin_door=True)
    return Gate(Access(policy)).enter(Peer(door, 7), lambda: None)


@pytest.mark.parametrize(
    ("call", "arguments", "verb"),
    [
        ("status", {}, "status"),
        ("metrics", {}, "metrics"),
        ("manifest", {"model": "m"}, "metadata"),
        ("engines", {}, "status"),
        ("engines", {"look": 1}, "status"),
    ],
)
def test_a_call_needs_its_right(call: str, arguments: dict, verb: str):
    check_call(visit(verb), call, arguments)
    with pytest.raises(DeniedError):
        check_call(visit("infer"), call, arguments)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [("engines", {"look": True}), ("reload", {}), ("new", {}), ("Status", {})],
)
def test_what_changes_something_or_is_new_is_closed(call: str, arguments: dict):
    with pytest.raises(DeniedError):
        check_call(visit("infer", "metadata", "status", "metrics", "admin"), call, arguments)


def test_administrators_calls_on_their_socket():
    for call, arguments in (("engines", {"look": True}), ("reload", {})):
        check_call(visit("admin", door="admin"), call, arguments)


def test_a_manifest_of_another_model_or_of_no_name():
    asker = visit("metadata", models=("cam-*",))
    check_call(asker, "manifest", {"model": "cam-1"})
    for model in ("secret", None, ["cam-1"], {"model": "cam-1"}):
        with pytest.raises(DeniedError):
            check_call(asker, "manifest", {"model": model})


def test_lists_show_what_may_be_seen():
    asker = visit("metadata", models=("cam-*",))
    both = [{"name": "cam-1"}, {"name": "secret"}]
    check_call(asker, "models", {})
    assert visible(asker, "models", both) == both[:1]
    assert visible(asker, "status", both) == both
    free = Gate().enter(Peer("native", 7), lambda: None)
    assert visible(free, "models", both) == both
