"""What is wrong with the rules of a configuration, by their values and by the system's names."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterator

from edged.config.access import ADMIN_VERBS, MODEL_VERBS, OPEN_VERBS, AccessConfig, RuleConfig
from edged.config.problems import quote
from edged.config.schema import Config

Found = tuple[str, str]
"""A field path, and what is wrong there."""

_MOST_ID = 2**32 - 2
"""The last number but one: the last stands for no user."""


def access_problems(config: Config) -> Iterator[Found]:
    """Rules that could not do what they say."""
    access = config.access
    for index, rule in enumerate(access.rules or ()):
        yield from _rule(f"access.rules[{index}]", rule)
    for index, quota in enumerate(access.quotas):
        path = f"access.quotas[{index}]"
        if not (quota.users or quota.tcp or quota.certificates):
            yield path, "names no client; write users, certificates or `tcp: true`"
        if quota.burst is not None and quota.requests_per_second is None:
            yield f"{path}.burst", "is of requests_per_second; add it"
        if quota.in_flight is not None and quota.in_flight < 1024:
            yield f"{path}.in_flight", "would refuse nearly every request; expected at least 1KiB"
    yield from _numbers(access)


def _rule(path: str, rule: RuleConfig) -> Iterator[Found]:
    if not (rule.users or rule.groups or rule.tcp or rule.certificates):
        yield path, 'names nobody; write users, groups, certificates or tcp ("*" is every user)'
    if not rule.allow:
        yield f"{path}.allow", f"lists no verb; expected some of {', '.join(OPEN_VERBS)}, admin"
    if not rule.models:
        yield f"{path}.models", 'lists no model; leave it out, or write ["*"], for all'
    if "*" in rule.models:
        return
    verbs = [verb for word in rule.allow for verb in ((word,) if word != "admin" else ADMIN_VERBS)]
    whole = [verb for verb in verbs if verb not in MODEL_VERBS]
    if whole:
        text = f"{', '.join(dict.fromkeys(whole))}: about every model, so not for some models alone"
        yield f"{path}.allow", f"{text}; write a rule without `models` for it"


def _numbers(access: AccessConfig) -> Iterator[Found]:
    for path, name in [*_users(access), *_groups(access)]:
        if name.isdigit() and int(name) > _MOST_ID:
            yield path, f"{name} is no number of a user or group; the highest is {_MOST_ID}"


def name_problems(config: Config) -> Iterator[Found]:
    """Users and groups that this device does not know; asks the system."""
    access = config.access
    inbox = () if config.inbox is None else config.inbox.users
    taken = [(f"inbox.users[{index}]", name) for index, name in enumerate(inbox)]
    for path, name in [*_users(access), *taken]:
        if name != "*" and user_number(name) is None:
            yield path, f"no user is named {quote(name)} on this device"
    groups = [*_groups(access)]
    admin = config.listen.admin
    if admin is not None and admin.group is not None:
        groups.append(("listen.admin.group", admin.group))
    for path, name in groups:
        if group_number(name) is None:
            yield path, f"no group is named {quote(name)} on this device"


def user_number(name: str) -> int | None:
    """A user's number by name or number; None for a name that the system does not know."""
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_number(name: str) -> int | None:
    """A group's number by name or number; None for a name that the system does not know."""
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _users(access: AccessConfig) -> Iterator[Found]:
    entries = [(f"rules[{i}]", one.users) for i, one in enumerate(access.rules or ())]
    entries += [(f"quotas[{i}]", one.users) for i, one in enumerate(access.quotas)]
    for place, users in entries:
        for number, name in enumerate(users):
            yield f"access.{place}.users[{number}]", name


def _groups(access: AccessConfig) -> Iterator[Found]:
    for index, rule in enumerate(access.rules or ()):
        for number, name in enumerate(rule.groups):
            yield f"access.rules[{index}].groups[{number}]", name
