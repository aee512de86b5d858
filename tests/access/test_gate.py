"""All connections of all listeners, and a configuration that changes under them."""

from __future__ import annotations

import os

import pytest

from edged.access.gate import Access, Gate, build_access
from edged.access.policy import NAMELESS, Peer, Policy
from edged.access.quotas import Quota
from edged.access.visit import Visit
from edged.config.access import AccessConfig, QuotaConfig, RuleConfig
from edged.config.listen import AdminConfig, ListenConfig
from edged.config.schema import Config
from edged.errors import DeniedError, QuotaError

HER = Peer("native", 4001, frozenset((5001,)))
HIM = Peer("http", 4002)


def access(
    *rules: RuleConfig, quotas: tuple[QuotaConfig, ...] = (), admin: AdminConfig | None = None
):
    config = Config(
        listen=ListenConfig(admin=admin), access=AccessConfig(rules=rules or None, quotas=quotas)
    )
    return build_access(config)


def test_connections_of_a_client_are_counted_over_all_sockets():
    gate = Gate(Access(quotas=(Quota("access.quotas[0]", is_any_user=True, connections=2),)))
    first = gate.enter(HER, lambda: None)
    gate.enter(HER._replace(door="http"), lambda: None)
    with pytest.raises(
        QuotaError, match=r"2 connections of uid 4001 .*access\.quotas\[0\]"
    ) as caught:
        gate.enter(HER._replace(door="admin"), lambda: None)
    assert caught.value.retry_after_ns > 0
    gate.enter(HIM, lambda: None)
    first.leave()
    first.leave()  # as a connection that is lost twice
    again = gate.enter(HER, lambda: None)
    with pytest.raises(QuotaError):
        gate.enter(HER, lambda: None)
    assert gate.refusals["connections"] == 2
    again.leave()


def test_who_was_connected_before_counts_when_bounds_come():
    gate = Gate()
    seen = [gate.enter(HER, lambda: None) for _ in range(3)]
    gate.follow(access(quotas=(QuotaConfig(connections=3),)))
    with pytest.raises(QuotaError):
        gate.enter(HER, lambda: None)
    seen[0].leave()
    gate.enter(HER, lambda: None)


def test_a_client_that_comes_again_is_no_new_one():
    gate = Gate(access(quotas=(QuotaConfig(requests_per_second=1, burst=1),)))
    visit = gate.enter(HER, lambda: None)
    visit.ask()
    visit.leave()
    with pytest.raises(QuotaError, match="more than 1 requests a second"):
        gate.enter(HER, lambda: None).ask()
    assert gate.refusals["rate"] == 1


def test_nothing_is_kept_of_clients_that_are_gone():
    gate = Gate()
    for uid in range(5000):
        gate.enter(Peer("native", uid), lambda: None).leave()
    assert not gate._accounts
    assert not gate._visits
    gate.follow(access(quotas=(QuotaConfig(requests_per_second=1),)))
    for uid in range(5000):
        gate.enter(Peer("native", uid), lambda: None).leave()
    assert len(gate._accounts) <= 4097


def test_a_change_reaches_every_connection_and_one_that_fails_stops_none():
    gate = Gate()
    told: list[str] = []

    def fails() -> None:
        told.append("fails")
        raise ZeroDivisionError

    visits: list[Visit] = [gate.enter(HER, fails), gate.enter(HIM, lambda: told.append("him"))]
    assert all(visit.allows("infer", "m") for visit in visits)
    gate.follow(access(RuleConfig(users=("4001",), allow=("infer",))))
    assert sorted(told) == ["fails", "him"]
    assert [visit.allows("infer", "m") for visit in visits] == [True, False]
    gate.follow(access(RuleConfig(users=("4001",), allow=("infer",))))
    assert len(told) == 2, "the same rules again are no change"
    gate.follow(Access())
    assert all(visit.allows("infer", "m") for visit in visits)


def test_what_a_configuration_says():
    found = access(
        RuleConfig(users=("root", "77"), groups=("0",), allow=("admin",)),
        quotas=(QuotaConfig(users=("root",), regions=3),),
        admin=AdminConfig(group="0"),
    )
    assert found.policy.owners == {0, os.geteuid()}
    assert found.policy.admins == {0}
    assert found.policy.has_admin_door
    assert found.policy.rules is not None
    assert found.policy.rules[0].uids == {0, 77}
    assert found.quotas[0].uids == {0}
    assert build_access(Config()) == Access(Policy(None, frozenset((0, os.geteuid()))))


def test_regions_are_counted_for_whoever_takes_them():
    gate = Gate(access(quotas=(QuotaConfig(regions=1),)))
    one, two = gate.enter(HER, lambda: None), gate.enter(HER, lambda: None)
    drop = one.take_region()
    with pytest.raises(QuotaError, match="regions"):
        two.take_region()
    with pytest.raises(QuotaError, match="regions"):
        two.check_region()
    drop()
    two.take_region()
    assert gate.refusals["regions"] == 2


def test_a_region_that_is_still_read_counts_after_its_connection():
    gate = Gate(access(quotas=(QuotaConfig(regions=1),)))
    one = gate.enter(HER, lambda: None)
    drop = one.take_region()
    one.leave()
    two = gate.enter(HER, lambda: None)
    with pytest.raises(QuotaError, match="regions"):
        two.take_region()
    drop()
    two.take_region()


def test_denied_in_the_same_words_whatever_there_is():
    gate = Gate(access(RuleConfig(users=("9",), allow=("infer",))))
    visit = gate.enter(HER, lambda: None)
    with pytest.raises(DeniedError) as caught:
        visit.require("infer", "m")
    assert caught.value.message == 'infer of model "m" is not allowed for uid 4001 on this socket'
    assert gate.refusals["rule"] == 1


def certified(name: str) -> Peer:
    return Peer("grpc", certificate=name)


def test_each_certificate_is_a_client_of_its_own():
    gate = Gate(access(quotas=(QuotaConfig(users=(), tcp=True, connections=1),)))
    first = gate.enter(certified("CN=a"), lambda: None)
    gate.enter(certified("CN=b"), lambda: None)
    gate.enter(Peer("http"), lambda: None)
    gate.enter(certified(NAMELESS), lambda: None)
    for again in (certified("CN=a"), certified("CN=b"), Peer("grpc"), certified(NAMELESS)):
        with pytest.raises(QuotaError, match="1 connections of"):
            gate.enter(again, lambda: None)
    gate.leave(first)
    assert first.peer.client not in gate._accounts
    gate.enter(certified("CN=a"), lambda: None)


def test_bounds_of_one_certificate():
    quotas = QuotaConfig(users=(), certificates=("a",), connections=1), QuotaConfig(connections=2)
    gate = Gate(access(quotas=quotas))
    gate.enter(certified("a"), lambda: None)
    with pytest.raises(QuotaError, match=r'the certificate "a" .*quotas\[0\]'):
        gate.enter(certified("a"), lambda: None)
    for _ in range(3):  # no entry speaks of these
        gate.enter(certified("b"), lambda: None)
        gate.enter(Peer("http"), lambda: None)
    # A name that looks like a number of a user is not that user.
    assert not Quota("", uids=frozenset((7,))).means("7")
    assert not Quota("", certificates=frozenset(("7",))).means(7)
