"""Who may do what, as a table; no socket, no clock, no name service."""

from __future__ import annotations

import pytest

from edged.access.policy import Peer, Policy, build_rule
from edged.config.access import ADMIN_VERBS, MODEL_VERBS, OPEN_VERBS, RuleConfig

USERS = {"camera": 1001, "plc": 1002, "root": 0}
GROUPS = {"vision": 501, "line": 502}
OWN = frozenset((0, 990))
NOBODY = 65534


def number(names: dict[str, int], name: str) -> int | None:
    return int(name) if name.isdigit() else names.get(name)


def policy(
    *rules: RuleConfig, admins: tuple[int, ...] = (), has_admin_door: bool = False
) -> Policy:
    built = [
        build_rule(
            rule, f"access.rules[{i}]", lambda n: number(USERS, n), lambda n: number(GROUPS, n)
        )
        for i, rule in enumerate(rules)
    ]
    return Policy(tuple(built), OWN, frozenset(admins), has_admin_door)


def peer(uid: int | None = 1001, *gids: int, door: str = "native", certificate: str = "") -> Peer:
    return Peer(door, uid, frozenset(gids), certificate)


CAMERA = RuleConfig(users=("camera",), models=("cam-*", "gate"), allow=("infer", "metadata"))
LINE = RuleConfig(groups=("line",), allow=("infer", "status"))
BOTH = policy(CAMERA, LINE)


@pytest.mark.parametrize(
    ("who", "verb", "model", "is_allowed"),
    [
        (peer(), "infer", "cam-7", True),
        (peer(), "infer", "cam-", True),
        (peer(), "metadata", "gate", True),
        (peer(), "infer", "cam", False),
        (peer(), "infer", "xcam-7", False),
        (peer(), "infer", "gate\n", False),
        (peer(), "infer", "Gate", False),
        (peer(), "infer", "gate2", False),
        (peer(), "infer", "", False),
        (peer(), "infer", "secret", False),
        (peer(), "status", "", False),
        (peer(), "metrics", "", False),
        (peer(), "INFER", "gate", False),
        (peer(), "infer ", "gate", False),
        (peer(), "", "gate", False),
        (peer(1002), "infer", "gate", False),
        (peer(1002, 502), "infer", "anything", True),
        (peer(1002, 7, 502), "status", "", True),
        (peer(1002, 502), "metadata", "gate", False),
        (peer(1002, 501), "infer", "gate", False),
        (peer(NOBODY, 1001), "infer", "gate", False),  # a group's number is no user's
        (peer(None), "infer", "gate", False),
        (peer(None, certificate="camera"), "infer", "gate", False),
        (peer(door="admin"), "infer", "secret", False),
        (peer(0), "infer", "secret", True),
        (peer(990), "metrics", "", True),
    ],
)
def test_a_rule_allows_what_it_says_and_nothing_else(
    who: Peer, verb: str, model: str, is_allowed: bool
):
    assert BOTH.decide(who, verb, model).is_allowed is is_allowed


def test_the_deciding_rule_is_named():
    assert BOTH.decide(peer(), "infer", "gate").by == "access.rules[0]"
    assert BOTH.decide(peer(1001, 502), "infer", "other").by == "access.rules[1]"
    assert "no rule" in BOTH.decide(peer(), "infer", "other").by


def test_a_decision_does_not_depend_on_what_there_is():
    """Nothing but names goes in: one that is denied reads the same for every model."""
    one, two = (BOTH.decide(peer(), "infer", name) for name in ("secret", "no-such-model"))
    assert one == two


@pytest.mark.parametrize("verb", OPEN_VERBS)
@pytest.mark.hostile("R30 an empty or missing policy denies")
def test_rules_that_are_written_and_empty_deny_all_but_the_owners(verb: str):
    assert not policy().decide(peer(), verb, "m").is_allowed
    assert not policy().decide(peer(None), verb, "m").is_allowed
    assert policy().decide(peer(0), verb, "m").is_allowed


@pytest.mark.parametrize("verb", OPEN_VERBS)
def test_without_rules_whoever_connects_may_ask(verb: str):
    for who in (peer(), peer(None, door="http"), peer(NOBODY, door="admin")):
        assert Policy().decide(who, verb, "m").is_allowed


@pytest.mark.parametrize("verb", ADMIN_VERBS)
def test_administrators_verbs_are_denied_unless_somebody_is_one(verb: str):
    open_, closed = Policy(None, OWN), Policy(None, OWN, frozenset((501,)), has_admin_door=True)
    assert not open_.decide(peer(), verb, "m").is_allowed
    assert not open_.decide(peer(None, door="http"), verb, "m").is_allowed
    assert not open_.decide(peer(0, door="http"), verb, "m").is_allowed
    assert open_.decide(peer(0), verb, "m").is_allowed
    # With a socket of their own they are taken there and nowhere else, whoever asks.
    assert not closed.decide(peer(0), verb, "m").is_allowed
    assert not closed.decide(peer(1001, 501), verb, "m").is_allowed
    assert closed.decide(peer(0, door="admin"), verb, "m").is_allowed
    assert closed.decide(peer(1001, 501, door="admin"), verb, "m").is_allowed
    assert not closed.decide(peer(1001, 502, door="admin"), verb, "m").is_allowed


def test_a_rule_gives_administrators_verbs_on_their_socket_alone():
    rule = RuleConfig(users=("plc",), models=("cam-*",), allow=("load",))
    everything = RuleConfig(users=("camera",), allow=("admin",))
    here = policy(rule, everything, has_admin_door=True)
    assert here.decide(peer(1002, door="admin"), "load", "cam-1").is_allowed
    assert not here.decide(peer(1002, door="admin"), "load", "gate").is_allowed
    assert not here.decide(peer(1002, door="admin"), "unload", "cam-1").is_allowed
    assert not here.decide(peer(1002), "load", "cam-1").is_allowed
    assert all(here.decide(peer(1001, door="admin"), verb, "x").is_allowed for verb in ADMIN_VERBS)
    assert not here.decide(peer(1001, door="admin"), "infer", "x").is_allowed
    without = policy(everything)
    assert not without.decide(peer(1001), "reload").is_allowed, "no socket, so no such right"


def test_everybody_of_this_device_is_nobody_over_tcp():
    rule = policy(RuleConfig(users=("*",), allow=("infer",)))
    assert rule.decide(peer(NOBODY), "infer", "m").is_allowed
    assert not rule.decide(peer(None, door="http"), "infer", "m").is_allowed
    tcp = policy(RuleConfig(tcp=True, allow=("infer",)))
    assert tcp.decide(peer(None, door="http"), "infer", "m").is_allowed
    assert not tcp.decide(peer(), "infer", "m").is_allowed
    assert not tcp.decide(peer(None, certificate="x"), "infer", "m").is_allowed
    named = policy(RuleConfig(certificates=("x",), allow=("infer",)))
    assert named.decide(peer(None, certificate="x"), "infer", "m").is_allowed
    assert not named.decide(peer(None, certificate="X"), "infer", "m").is_allowed
    assert not named.decide(peer(None), "infer", "m").is_allowed


def test_a_name_that_the_system_does_not_know_means_nobody():
    rule = policy(RuleConfig(users=("gone",), groups=("gone",), allow=("infer",)))
    assert not rule.decide(peer(NOBODY, NOBODY), "infer", "m").is_allowed


def test_every_verb_is_of_one_kind():
    assert not set(OPEN_VERBS) & set(ADMIN_VERBS)
    assert set(MODEL_VERBS) <= {*OPEN_VERBS, *ADMIN_VERBS}


def test_a_dot_in_a_pattern_is_a_dot():
    rule = policy(RuleConfig(users=("*",), models=("a.b",), allow=("infer",)))
    assert rule.decide(peer(), "infer", "a.b").is_allowed
    assert not rule.decide(peer(), "infer", "axb").is_allowed
