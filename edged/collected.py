"""``edged bundle gc``, and whether the store will have room for a bundle that is installed.

Asks the daemon, which alone knows what is in use, and removes nothing itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edged.client import Client
from edged.config.snapshot import Snapshot
from edged.errors import ApplyError, DisconnectedError, EdgedError, IncompatibleError
from edged.history import History
from edged.manifest import Manifest
from edged.record import HISTORY
from edged.rendering import table
from edged.rolling import ADMIN_SOCKET
from edged.store.stored import open_release


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
        raise ApplyError(
            f"{exc.message}; this asks the daemon on its socket for administrators (listen.admin); "
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


def check_quota(state_dir: Path, snapshot: Snapshot, manifest: Manifest) -> None:
    """Refuse to install what the store could not take, whatever left it before.

    Raises:
        IncompatibleError: what is needed and this bundle are more than store.max_bytes.
    """
    cap = snapshot.config.store.max_bytes
    if cap is None:
        return
    needed = 0
    try:
        pinned = frozenset[str]().union(*History(state_dir / HISTORY).pinned().values())
    except OSError:
        return  # not ours to read; the daemon looks again before it takes it in
    for digest in pinned:
        try:
            stored = open_release(state_dir / "store", digest).manifest
        except (EdgedError, OSError):
            continue
        needed += sum(member.size for member in stored.members)
    size = sum(member.size for member in manifest.members)
    if needed + size > cap:
        raise IncompatibleError(
            f"release {manifest.release} of {manifest.name} has {_mib(size)}, and what the store "
            f"has to keep {_mib(needed)}: together more than store.max_bytes, {_mib(cap)}; raise "
            "it, or keep fewer configurations to go back to (store.generations)"
        )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
