"""Rules that could not do what they say."""

from __future__ import annotations

from typing import Any

import pytest

from edged.config.access import AccessConfig, QuotaConfig, RuleConfig
from edged.config.access_check import access_problems, group_number, name_problems, user_number
from edged.config.listen import AdminConfig, ListenConfig
from edged.config.schema import Config
from edged.specs import Size
from tests.config.conftest import Site


def of(rule: RuleConfig | None = None, quota: QuotaConfig | None = None) -> list[tuple[str, str]]:
    rules = None if rule is None else (rule,)
    quotas = () if quota is None else (quota,)
    return list(access_problems(Config(access=AccessConfig(rules=rules, quotas=quotas))))


@pytest.mark.parametrize(
    ("rule", "path", "words"),
    [
        ({"allow": ("infer",)}, "access.rules[0]", "names nobody"),
        ({"users": ("*",), "allow": ()}, "access.rules[0].allow", "lists no verb"),
        (
            {"users": ("*",), "allow": ("infer",), "models": ()},
            "access.rules[0].models",
            "no model",
        ),
        (
            {"users": ("*",), "allow": ("infer", "status"), "models": ("a",)},
            "access.rules[0].allow",
            "status: about every model",
        ),
        (
            {"users": ("*",), "allow": ("admin",), "models": ("a*",)},
            "access.rules[0].allow",
            "reload, logging, trace, engines",
        ),
        (
            {"users": ("4294967295",), "allow": ("infer",)},
            "access.rules[0].users[0]",
            "highest is 4294967294",
        ),
    ],
)
def test_a_rule_that_cannot_do_what_it_says(rule: dict[str, Any], path: str, words: str) -> None:
    ((found, text),) = of(RuleConfig(**rule))
    assert found == path
    assert words in text


def test_good_ones() -> None:
    assert not of()
    assert not of(RuleConfig(tcp=True, models=("a", "*"), allow=("infer", "status", "admin")))
    assert not of(RuleConfig(users=("0",), models=("a*",), allow=("infer", "load")))
    assert not of(None, QuotaConfig(requests_per_second=1, burst=2))


def test_bounds() -> None:
    assert of(None, QuotaConfig(users=()))[0][0] == "access.quotas[0]"
    assert of(None, QuotaConfig(burst=2))[0][0] == "access.quotas[0].burst"
    assert of(None, QuotaConfig(in_flight=Size(1)))[0][0] == "access.quotas[0].in_flight"


def test_names_of_this_device() -> None:
    assert user_number("root") == group_number("root") == 0
    assert user_number("12345") == group_number("12345") == 12345
    assert user_number("no-such-user-here") is group_number("no-such-user-here") is None
    rules = (RuleConfig(users=("root", "gone", "*"), groups=("gone",), allow=("infer",)),)
    config = Config(
        listen=ListenConfig(admin=AdminConfig(group="gone")),
        access=AccessConfig(rules=rules, quotas=(QuotaConfig(users=("gone",)),)),
    )
    assert [path for path, _ in name_problems(config)] == [
        "access.rules[0].users[1]",
        "access.quotas[0].users[0]",
        "access.rules[0].groups[0]",
        "listen.admin.group",
    ]


def test_said_with_file_and_line(site: Site) -> None:
    site.write("node: n\naccess:\n  rules:\n    - users: [camera]\n      allow: [infr]\n")
    problem = site.problem()
    assert (problem.line, problem.path) == (5, "access.rules[0].allow[0]")
    assert 'did you mean "infer"' in str(problem)
    site.write("node: n\naccess:\n  rules:\n    - users: ['a b']\n      allow: [infer]\n")
    assert site.problem().path == "access.rules[0].users[0]"


def test_written_and_empty_is_not_the_same_as_not_written(site: Site) -> None:
    site.write("node: n\naccess: {rules: []}\n")
    assert site.load().config.access.rules == ()
    site.write("node: n\naccess: {}\n")
    assert site.load().config.access.rules is None
