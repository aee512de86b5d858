"""What is written of rights: nothing by default, so that a new daemon answers who may connect."""

from __future__ import annotations

from edged.config.access import AccessConfig, QuotaConfig, RuleConfig
from edged.config.listen import AdminConfig, ListenConfig


def test_nothing_is_written_by_default() -> None:
    assert AccessConfig().rules is None
    assert AccessConfig().quotas == ()
    assert ListenConfig().admin is None
    assert AdminConfig().mode == "0660"


def test_a_rule_is_for_all_models_and_nobody_unless_it_says_so() -> None:
    rule = RuleConfig(allow=("infer",))
    assert rule.models == ("*",)
    assert (rule.users, rule.groups, rule.tcp, rule.certificates) == ((), (), False, ())


def test_bounds_are_of_each_user_and_off() -> None:
    quota = QuotaConfig()
    assert quota.users == ("*",)
    numbers = (quota.connections, quota.in_flight, quota.requests_per_second, quota.regions)
    assert numbers == (None,) * 4
