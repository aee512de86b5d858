"""Who is at the other end of a Unix socket, as the kernel says."""

from __future__ import annotations

import logging
import socket
import struct

from edged.access.policy import Peer

log = logging.getLogger("edged.access")

_SO_PEERGROUPS = 59
"""Of asm-generic/socket.h, as on x86-64 and aarch64; Python has no name for it."""
_MOST_BYTES = 1024
"""Python asks the kernel for no more, which is 256 groups."""


def peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """Process, user and group of the other end, as the kernel knows them."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    pid, uid, gid = struct.unpack("iII", data)
    return pid, uid, gid


def peer_groups(sock: socket.socket) -> frozenset[int]:
    """Supplementary groups of the other end when it connected; none where they cannot be told.

    Rules only allow, so a group that is not seen gives nobody a right.
    """
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    except OSError as exc:
        log.warning("the groups of a peer cannot be told, its first one alone counts: %s", exc)
        return frozenset()
    return frozenset(struct.unpack(f"{len(data) // 4}I", data))


def peer_of(sock: socket.socket, door: str) -> Peer:
    """Who is at the other end of any socket; over TCP nobody knows.

    Args:
        sock: that was accepted.
        door: what it was accepted by, see ``Peer``.
    """
    if sock.family != socket.AF_UNIX:
        return Peer(door)
    _, uid, gid = peer_credentials(sock)
    return Peer(door, uid, peer_groups(sock) | {gid})
