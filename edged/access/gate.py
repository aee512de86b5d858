"""What all listeners share: the rules and bounds in force, and every connection that they hold for.

A changed configuration reaches every open connection in the same turn of the loop: what it may do
is decided anew, what waits and is not allowed any more is withdrawn.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edged.access.policy import Client, Peer, Policy, build_rule
from edged.access.quotas import NOTHING, Account, Quota, build_quota
from edged.access.visit import Visit
from edged.config.access_check import group_number, user_number
from edged.config.schema import Config
from edged.errors import QuotaError

log = logging.getLogger("edged.access")

_MOST_ACCOUNTS = 4096
"""Clients that are remembered while they have no connection, for the requests they have made."""

REASONS = ("rule", "connections", "in_flight", "rate", "regions")
"""Why something was refused."""


@dataclass(frozen=True, slots=True)
class Access:
    """Rules and bounds with their names resolved."""

    policy: Policy = field(default_factory=Policy)
    quotas: tuple[Quota, ...] = ()


def build_access(config: Config) -> Access:
    """Resolve what a configuration says; asks the system for names, so not on the loop."""
    access, admin = config.access, config.listen.admin
    rules = None
    if access.rules is not None:
        rules = tuple(
            build_rule(rule, f"access.rules[{index}]", user_number, group_number)
            for index, rule in enumerate(access.rules)
        )
    gid = group_number(admin.group) if admin is not None and admin.group is not None else None
    policy = Policy(
        rules,
        frozenset((0, os.geteuid())),
        frozenset(() if gid is None else (gid,)),
        admin is not None,
    )
    quotas = tuple(
        build_quota(quota, f"access.quotas[{index}]", _uids(quota.users))
        for index, quota in enumerate(access.quotas)
    )
    return Access(policy, quotas)


def _uids(names: tuple[str, ...]) -> frozenset[int]:
    found = (user_number(name) for name in names if name != "*")
    return frozenset(uid for uid in found if uid is not None)


class Gate:
    """Knows every connection; used from the event loop only."""

    def __init__(self, access: Access | None = None) -> None:
        self.access = access or Access()
        self.refusals: dict[str, int] = dict.fromkeys(REASONS, 0)
        self._visits: set[Visit] = set()
        self._accounts: dict[Client, Account] = {}

    def enter(self, peer: Peer, on_change: Callable[[], None]) -> Visit:
        """Take a connection.

        Args:
            peer: who it is.
            on_change: called when its rights may have changed.

        Returns:
            What it asks through; ``leave`` gives it back.

        Raises:
            QuotaError: the client has as many connections as it may.
        """
        account = self._accounts.get(peer.client)
        if account is None:
            self._forget()
            account = Account()
            account.follow(self._quota_of(peer.client), time.monotonic_ns())
        most = account.quota.connections
        if most is not None and account.connections >= most:
            self.refusals["connections"] += 1
            raise QuotaError(
                f"{most} connections of {peer.words} are open, the most allowed "
                f"({account.quota.place}.connections)",
                retry_after_ns=1_000_000_000,
            )
        account.connections += 1
        self._accounts.setdefault(peer.client, account)
        visit = Visit(self, peer, account, on_change)
        self._visits.add(visit)
        return visit

    def leave(self, visit: Visit) -> None:
        """A connection is gone."""
        if visit not in self._visits:
            return
        self._visits.remove(visit)
        account = visit.account
        account.connections -= 1
        # Kept while it limits how soon requests come: who connects again is no new client.
        if account.is_idle and account.bucket is None:
            self._accounts.pop(visit.peer.client, None)

    def follow(self, access: Access) -> None:
        """Other rules and bounds hold from now on, for open connections too."""
        if access == self.access:
            return
        self.access = access
        now_ns = time.monotonic_ns()
        for client, account in list(self._accounts.items()):
            account.follow(self._quota_of(client), now_ns)
            if account.is_idle and account.bucket is None:
                del self._accounts[client]
        for visit in list(self._visits):
            try:
                visit.renew()
            except Exception:
                # One connection must not keep another one's rights alive.
                log.exception("a connection of %s could not follow the rules", visit.peer.words)

    def _forget(self) -> None:
        """Make room: those who are gone longest come first."""
        if len(self._accounts) > _MOST_ACCOUNTS:
            idle = [client for client, one in self._accounts.items() if one.is_idle]
            for client in idle[: len(idle) // 2 + 1]:
                del self._accounts[client]

    def _quota_of(self, client: Client) -> Quota:
        return next((quota for quota in self.access.quotas if quota.means(client)), NOTHING)
