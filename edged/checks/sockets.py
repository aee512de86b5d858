"""Whether the Unix sockets that a configuration names can be made here; ``edged check``.

Looks at names alone and makes nothing. The daemon finds out by itself when it listens; a device
whose second door cannot be had serves all the same, so none of this keeps one from starting.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edged.config.access_check import group_number
from edged.config.listen import ListenConfig
from edged.config.problems import Problem, quote
from edged.config.snapshot import Snapshot

_DOORS = ("socket", "admin", "http", "grpc", "metrics")
_MADE_AT_START = Path("/run")
"""Below it are folders that a unit makes with the daemon (RuntimeDirectory)."""
_MOST_BYTES = 107
"""Of a Unix socket's path; the kernel's field has one more for its end."""


def socket_problems(
    snapshot: Snapshot, state_dir: Path, before: ListenConfig | None = None
) -> Iterator[Problem]:
    """What the daemon could not listen on, and groups that are not there.

    Args:
        snapshot: the configuration.
        state_dir: of the device; the daemon makes it, and those that it lies in.
        before: what a running daemon follows; a reload is not refused for what is as it was there.
    """
    written = snapshot.config.listen
    whole = snapshot.with_absolute_socket().config.listen
    for door in _DOORS:
        place = getattr(whole, door)
        if place is None or place.path is None:
            continue
        if before is not None and getattr(written, door) == getattr(before, door):
            continue
        at = f"listen.{door}"
        if at == "listen.socket" and at not in snapshot.marks:
            continue  # nobody wrote it: the unit's own
        wrong = _path_problem(place.path, getattr(written, door).path, state_dir)
        if wrong:
            yield snapshot.problem(f"{at}.path", wrong)
        # The administrators' group is one of the names that rules go by, and is said with them.
        if door != "admin" and place.group is not None and group_number(place.group) is None:
            text = f"no group is named {quote(place.group)} on this device"
            yield snapshot.problem(f"{at}.group", text)


def _path_problem(path: str, written: str, state_dir: Path) -> str:
    size = len(os.fsencode(path))
    if size > _MOST_BYTES:
        shown = "" if path == written else f" ({path})"
        return f"has {size} bytes{shown}; a Unix socket's path has {_MOST_BYTES} at most"
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return _folder_problem(Path(path).parent, Path(os.path.realpath(state_dir)))
    except NotADirectoryError:
        return f"{path}: what stands before the last / is a file; expected a folder"
    except OSError:
        return ""  # this user may not look there; the daemon's may
    if stat.S_ISSOCK(mode):
        return ""
    if stat.S_ISDIR(mode):
        return f"{path} is a folder; name the socket in it, as {path}/edged.sock"
    return f"{path} is there and is not a socket; remove it or choose another path"


def _folder_problem(folder: Path, state_dir: Path) -> str:
    found = Path(os.path.realpath(folder))  # /var/run is a link to /run
    if _MADE_AT_START in found.parents or found in (state_dir, *state_dir.parents):
        return ""
    try:
        os.stat(folder)  # noqa: PTH116 - as lstat above; a link to nothing is no folder
    except FileNotFoundError:
        return f"there is no folder {folder}, and the daemon makes none; make it: mkdir -p {folder}"
    except OSError:
        pass
    return ""
