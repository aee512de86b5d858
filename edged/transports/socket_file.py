"""The socket as a file: made with the right permissions, never in the place of something else."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from edged.config.access_check import group_number
from edged.config.listen import SocketConfig
from edged.errors import ApplyError

BACKLOG = 128
"""Connections the kernel holds while the loop is busy; as in the socket unit."""


def bind_socket(config: SocketConfig, field: str = "listen.socket") -> socket.socket:
    """Make a listening Unix socket with the right permissions from its first moment.

    Args:
        config: where, and who may connect.
        field: where ``config`` stands, for errors.

    Raises:
        ApplyError: the path is taken by something that is not a stale socket, or cannot be made.
    """
    path = config.path
    clear_stale(path, field)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The kernel gives the file the mode of the socket: nobody connects before it is set, and
        # the umask, which threads share, is left alone.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(path)
        set_access(config, field)
        sock.listen(BACKLOG)
    except (OSError, ApplyError) as exc:
        sock.close()
        if isinstance(exc, ApplyError):
            remove_socket(path)
            raise
        raise ApplyError(
            f"{field}.path: cannot listen on {path}: {exc.strerror or exc}; the folder must "
            "exist and be writable by the daemon, and the path shorter than 108 bytes"
        ) from exc
    return sock


def set_access(config: SocketConfig, field: str = "listen.socket") -> None:
    """Set group and mode of the socket file: of that file, whatever has its name meanwhile."""
    try:
        # A name could by now be a link to somebody's file; what was opened stays what it is.
        number = os.open(config.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                raise ApplyError(f"{field}.path: {config.path} is not a socket any more")
            opened = f"/proc/self/fd/{number}"
            if config.group is not None:
                os.chown(opened, -1, _group(config.group))
            Path(opened).chmod(int(config.mode, 8))
        finally:
            os.close(number)
    except (KeyError, OSError) as exc:
        raise ApplyError(
            f'{field}: group "{config.group}" and mode {config.mode} cannot be set on '
            f"{config.path}: {exc}"
        ) from exc


def _group(name: str) -> int:
    gid = group_number(name)
    if gid is None:
        raise KeyError(f"no group is named {name!r}")
    return gid


def remove_socket(path: str) -> None:
    """Remove a socket file, and nothing else."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            Path(path).unlink()


def clear_stale(path: str, field: str) -> None:
    """Remove a socket that nobody listens on; raises ApplyError for anything else there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as exc:
        # ValueError: a zero byte, which no path has.
        reason = getattr(exc, "strerror", None) or exc
        raise ApplyError(f"{field}.path: {path!r}: {reason}") from exc
    if not stat.S_ISSOCK(mode):
        raise ApplyError(
            f"{field}.path: {path} is there and is not a socket; remove it or choose another"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except OSError as exc:
            raise ApplyError(f"{field}.path: {path}: {exc.strerror or exc}") from exc
    raise ApplyError(f"{field}.path: another process listens on {path}")
