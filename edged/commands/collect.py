"""``edged bundle gc``: the store's releases that nothing needs are taken out of it.

Asks the daemon, which alone knows what is in use, and removes nothing itself.
"""

from __future__ import annotations

import os
from typing import Any

from edged.client import Client
from edged.commands.rendering import table
from edged.commands.words import ADMIN_SOCKET
from edged.errors import DisconnectedError


def collect(socket: str | None, *, dry_run: bool) -> dict[str, Any]:
    """Have the daemon remove what nothing needs; what goes and what stays.

    Raises:
        EdgedError: it does not answer administrators, or the disk did not take it.
    """
    path = socket or os.environ.get("EDGED_ADMIN_SOCKET") or ADMIN_SOCKET
    try:
        with Client(path) as client:
            document: dict[str, Any] = client.call("collect", dry_run=dry_run)
    except DisconnectedError as exc:
        raise DisconnectedError(
            f"{exc.message} This asks the daemon on its socket for administrators (listen.admin); "
            "at each start and after each change it removes by itself what nothing needs"
        ) from exc
    return document


def render(document: dict[str, Any], *, dry_run: bool) -> str:
    """Lines for a person."""
    going = document["going"]
    rows = [
        (one["model"] or "(damaged)", one["release"], one["digest"][:12], one["size"])
        for one in going
    ]
    verb = "would go" if dry_run else "are gone"
    size = sum(one["size"] for one in going)
    line = (
        f"{len(going)} releases ({size} bytes) {verb}, {document['staying']} "
        f"({document['staying_bytes']} bytes) stay"
    )
    return f"{table(('model', 'release', 'digest', 'bytes'), rows)}\n{line}" if rows else line
