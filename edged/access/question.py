"""What the rules of a configuration say to one question: ``edged explain``."""

from __future__ import annotations

import grp
import os
import pwd

from edged.access.gate import build_access
from edged.access.policy import Decision, Peer
from edged.config.access_check import user_number
from edged.config.schema import Config
from edged.errors import InvalidRequestError


def explain_access(
    config: Config, peer: Peer, verb: str, model: str, service: int | None
) -> Decision:
    """Whether a peer may do that, and who says so.

    Args:
        config: the rules.
        peer: who asks, and at which socket.
        verb: what.
        model: of which model; empty for what is about the whole daemon.
        service: the daemon's own user; None when that is the one who runs this.
    """
    policy = build_access(config).policy
    if service is not None:
        policy = policy.owned_by(service)
    return policy.decide(peer, verb, model)


def peer_by_name(user: str, door: str) -> Peer:
    """A local user as a peer, with the groups that the system has for it now.

    A process that was started before it joined a group does not have it.

    Raises:
        InvalidRequestError: the system knows no such user.
    """
    uid = user_number(user)
    if uid is None:
        raise InvalidRequestError(f'no user is named "{user[:64]}" on this device')
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Peer(door, uid)  # a number alone has no groups that anybody knows
    return Peer(door, uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def group_words(gids: frozenset[int]) -> str:
    """Groups for a person, by name where they have one."""
    names = []
    for gid in sorted(gids):
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            names.append(str(gid))
    return ", ".join(names)
