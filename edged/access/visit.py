"""One connection's rights: each decided once, kept until the rules change."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edged.access.policy import Peer
from edged.access.quotas import Account
from edged.errors import DeniedError, QuotaError

if TYPE_CHECKING:
    from edged.access.gate import Gate

log = logging.getLogger("edged.access")

_KEPT = 1024
"""Decisions of one connection; a client has a few models, who tries names has no end of them."""
_TOLD = 8
"""Denials of one connection that are logged; more would let a peer fill the disk."""


class Visit:
    """See above.

    Args:
        gate: the rules.
        peer: who it is.
        account: what its client has, over all connections.
        on_change: called when its rights may have changed, after they have.
    """

    __slots__ = ("_gate", "_known", "_on_change", "_told", "account", "peer", "stamp")

    def __init__(
        self, gate: Gate, peer: Peer, account: Account, on_change: Callable[[], None]
    ) -> None:
        self._gate = gate
        self.peer = peer
        self.account = account
        self._on_change = on_change
        self._known: dict[tuple[str, str], bool] = {}
        self.stamp = 0
        """Another number after each change of what it may do."""
        self._told = 0

    @property
    def is_guarded(self) -> bool:
        """Whether anything it asks for inference could be refused here: rules, or its bounds."""
        quota = self.account.quota
        has_bounds = quota.rate is not None or quota.in_flight is not None
        return has_bounds or self._gate.access.policy.rules is not None

    @property
    def sees_all(self) -> bool:
        """Whether no model has to be hidden from it."""
        return self._gate.access.policy.rules is None

    def allows(self, verb: str, model: str = "") -> bool:
        """Whether it may do that."""
        is_allowed = self._known.get((verb, model))
        return self._decide(verb, model) if is_allowed is None else is_allowed

    def require(self, verb: str, model: str = "") -> None:
        """Go on if it may do that.

        Raises:
            DeniedError: it may not; in the same words whether there is such a model or not.
        """
        if not self.allows(verb, model):
            raise self.denied(verb, model)

    def denied(self, verb: str, model: str = "") -> DeniedError:
        """What it is told; counted."""
        self._gate.refusals["rule"] += 1
        what = f'{verb} of model "{model[:64]}"' if model else verb
        return DeniedError(f"{what} is not allowed for {self.peer.words} on this socket")

    def require_early(self, verb: str, model: str) -> None:
        """As ``require``, for what is counted later where it is allowed; a denial is counted here.

        Raises:
            DeniedError: it may not.
            QuotaError: it may not, and asks too fast.
        """
        if not self.allows(verb, model):
            self.ask()
            raise self.denied(verb, model)

    def ask(self) -> None:
        """Count one request; before it is asked for its right, for a denied one counts, too.

        Raises:
            QuotaError: they come too fast.
        """
        bucket = self.account.bucket
        if bucket is not None:
            wait_ns = bucket.take(time.monotonic_ns())
            if wait_ns:
                raise self.too_fast(wait_ns)

    def too_fast(self, wait_ns: int) -> QuotaError:
        """What it is told; counted."""
        self._gate.refusals["rate"] += 1
        quota = self.account.quota
        return QuotaError(
            f"more than {quota.rate} requests a second of {self.peer.words} "
            f"({quota.place}.requests_per_second)",
            retry_after_ns=wait_ns,
        )

    def too_much(self, size: int, wait_ns: int) -> QuotaError:
        """What it is told; counted."""
        self._gate.refusals["in_flight"] += 1
        quota, has = self.account.quota, self.account.in_flight
        return QuotaError(
            f"{size} bytes more than the {has} in flight of {self.peer.words}; {quota.in_flight} "
            f"are allowed ({quota.place}.in_flight)",
            retry_after_ns=wait_ns,
        )

    def check_region(self) -> None:
        """Go on if the client may pass one region of memory more.

        Raises:
            QuotaError: it has as many as it may.
        """
        account = self.account
        most = account.quota.regions
        if most is not None and account.regions >= most:
            self._gate.refusals["regions"] += 1
            raise QuotaError(
                f"{account.regions} regions of {self.peer.words} are open; {most} are allowed "
                f"({account.quota.place}.regions)"
            )

    def take_region(self) -> Callable[[], None]:
        """Count one region of passed memory.

        Returns:
            What is called once when it is unmapped, from any thread; it outlives the connection.

        Raises:
            QuotaError: the client has as many as it may.
        """
        self.check_region()
        self.account.take_region()
        return self.account.drop_region

    def renew(self) -> None:
        """The rules have changed."""
        self.stamp += 1
        self._known.clear()
        self._on_change()

    def leave(self) -> None:
        """The connection is gone; what it still has in flight gives itself back."""
        self._gate.leave(self)

    def _decide(self, verb: str, model: str) -> bool:
        is_allowed, by = self._gate.access.policy.decide(self.peer, verb, model)
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[verb, model] = is_allowed
        if not is_allowed and self._told < _TOLD:
            self._told += 1
            what = f"{verb} of {model[:64]!r}" if model else verb
            log.warning("denied to %s (%s): %s: %s", self.peer.words, self.peer.door, what, by)
        return is_allowed
