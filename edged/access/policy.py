"""Which peer may do what with which model. Pure: numbers and names in, one decision out.

Rules only allow; what none allows is denied, so a group that could not be read or a name that the
system does not know takes rights away and never gives any. A decision depends on the name that was
asked for, never on whether there is such a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from edged.config.access import ADMIN_VERBS, RuleConfig

_ADMIN = frozenset(ADMIN_VERBS)

NAMELESS: Final = "\0"
"""In the place of a certificate's name where it has none: no rule can name it, and it is not TCP
without a certificate either."""

Client = int | str | None
"""Whose bounds hold: a user, a certificate by its name, or whoever comes over TCP without one."""

Number = Callable[[str], "int | None"]
"""A user's or group's number by its name; None for one that the system does not know."""


class Peer(NamedTuple):
    """Who is at the other end of a connection, as the kernel or TLS said when it was made.

    Args:
        door: where it came in: ``native``, ``http``, ``grpc`` or ``admin``.
        uid: of a Unix socket; None over TCP.
        gids: its primary and supplementary groups.
        certificate: name of a client certificate that was verified, see
            ``transports.tls.certificate_name``; empty for no certificate.
    """

    door: str
    uid: int | None = None
    gids: frozenset[int] = frozenset()
    certificate: str = ""

    @property
    def client(self) -> Client:
        """Who is counted as one, over however many connections."""
        return self.uid if self.uid is not None else self.certificate or None

    @property
    def words(self) -> str:
        """For a person."""
        if self.uid is not None:
            return f"uid {self.uid}"
        if self.certificate == NAMELESS:
            return "a certificate without a name"
        return f'the certificate "{self.certificate[:256]}"' if self.certificate else "TCP"


class Decision(NamedTuple):
    """What was decided, and by what: a rule's place in the configuration, or a sentence."""

    is_allowed: bool
    by: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with its names resolved."""

    place: str
    uids: frozenset[int]
    is_any_user: bool
    gids: frozenset[int]
    has_tcp: bool
    certificates: frozenset[str]
    models: re.Pattern[str]
    verbs: frozenset[str]

    def means(self, peer: Peer) -> bool:
        """Whether it speaks of this peer."""
        if peer.uid is not None:
            is_named = self.is_any_user or peer.uid in self.uids
            return is_named or not self.gids.isdisjoint(peer.gids)
        if peer.certificate:
            return peer.certificate in self.certificates
        return self.has_tcp

    def allows(self, peer: Peer, verb: str, model: str) -> bool:
        """Whether it allows that."""
        return (
            verb in self.verbs
            and self.means(peer)
            # Of the whole daemon: only a rule for all models allows that, see ``access_check``.
            and self.models.fullmatch(model) is not None
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules.

    Args:
        rules: None where none are written: then whoever may connect may ask.
        owners: users who may do everything: root, and the daemon's own.
        admins: groups whose members are administrators, on the administrators' socket.
        has_admin_door: whether there is such a socket.
    """

    rules: tuple[Rule, ...] | None = None
    owners: frozenset[int] = frozenset()
    admins: frozenset[int] = frozenset()
    has_admin_door: bool = False

    def owned_by(self, uid: int) -> Policy:
        """The same for a daemon that runs as another user."""
        return replace(self, owners=frozenset((0, uid)))

    def decide(self, peer: Peer, verb: str, model: str = "") -> Decision:
        """Whether a peer may do that, and who says so.

        Args:
            peer: who asks.
            verb: one of ``config.access.Verb``; any other is denied.
            model: whose; empty for what is about the whole daemon.
        """
        if verb in _ADMIN:
            home = "admin" if self.has_admin_door else "native"
            if peer.door != home:
                return Decision(False, "administrators' verbs are taken on listen.admin only")
            if peer.uid in self.owners:
                return Decision(True, "root and the daemon's own user may do everything")
            if self.has_admin_door and not self.admins.isdisjoint(peer.gids):
                return Decision(True, "a member of listen.admin.group")
            if not self.has_admin_door:
                return Decision(False, "without listen.admin, root and the daemon's user only")
        elif peer.uid in self.owners:
            return Decision(True, "root and the daemon's own user may do everything")
        elif self.rules is None:
            return Decision(True, "no access.rules are written: whoever may connect may ask")
        for rule in self.rules or ():
            if rule.allows(peer, verb, model):
                return Decision(True, rule.place)
        return Decision(False, "no rule of access.rules allows it")


def build_rule(config: RuleConfig, place: str, user: Number, group: Number) -> Rule:
    """A rule with its names resolved; a name that the system does not know means nobody."""
    verbs = {
        verb for word in config.allow for verb in (ADMIN_VERBS if word == "admin" else (word,))
    }
    users = [user(name) for name in config.users if name != "*"]
    groups = [group(name) for name in config.groups]
    return Rule(
        place,
        frozenset(uid for uid in users if uid is not None),
        "*" in config.users,
        frozenset(gid for gid in groups if gid is not None),
        config.tcp,
        frozenset(config.certificates),
        _pattern(config.models),
        frozenset(verbs),
    )


def _pattern(models: tuple[str, ...]) -> re.Pattern[str]:
    """Names that any of these texts stands for; ``*`` is any text, also none."""
    one = (".*".join(re.escape(part) for part in text.split("*")) for text in models)
    return re.compile("|".join(f"(?:{text})" for text in one), re.DOTALL)
