"""Who is at the other end."""

from __future__ import annotations

import os
import socket

from edged.transports.credentials import peer_credentials


def test_it_is_us() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_credentials(ours) == (os.getpid(), os.getuid(), os.getgid())
