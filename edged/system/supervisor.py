"""The service manager's side: readiness, watchdog and passed sockets (sd_notify, LISTEN_FDS).

Speaks the systemd protocols directly; without their environment variables everything here does
nothing. Never decides whether the daemon is healthy, only says so.
Source: sd_notify(3), sd_listen_fds(3).
"""

from __future__ import annotations

import logging
import os
import socket
import time

from edged.errors import ConfigError

log = logging.getLogger("edged.supervisor")

_FIRST_FD = 3


class Supervisor:
    """Tells the service manager how the process is doing."""

    def __init__(self, address: str, watchdog_ns: int) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_ns = watchdog_ns

    @classmethod
    def from_environment(cls) -> Supervisor:
        """Read and remove NOTIFY_SOCKET and WATCHDOG_*, so that children do not inherit them."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        watchdog_us = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        is_ours = not pid or pid == str(os.getpid())
        usable = watchdog_us.isdecimal() and is_ours
        return cls(address, int(watchdog_us) * 1000 if usable else 0)

    def ready(self, status: str) -> None:
        """The last good configuration is being served."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; ``ready`` ends it. Newer systemd needs the monotonic time with it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The process drains and will end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.connect(self._address)
                sock.sendall(message.replace("\0", "").encode())
        except OSError as exc:
            log.warning("the service manager could not be told: %s", exc)


def passed_sockets() -> list[socket.socket]:
    """Take over the sockets of LISTEN_FDS.

    Raises:
        ConfigError: a passed descriptor is not a listening Unix stream socket.
    """
    count = os.environ.pop("LISTEN_FDS", "")
    pid = os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", "")
    if not count or pid != str(os.getpid()):
        return []
    if not count.isdecimal() or int(count) > 16:
        raise ConfigError(f"LISTEN_FDS={count[:16]}: expected a number of sockets, at most 16")
    sockets: list[socket.socket] = []
    try:
        sockets.extend(_take(fd) for fd in range(_FIRST_FD, _FIRST_FD + int(count)))
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _take(fd: int) -> socket.socket:
    expected = "expected a listening Unix stream socket (ListenStream=/run/edged/edged.sock)"
    try:
        sock = socket.socket(fileno=fd)
    except OSError as exc:
        raise ConfigError(f"descriptor {fd} from the service manager: {exc}; {expected}") from exc
    is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    is_stream = sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM
    if not is_stream or not is_listening:
        sock.close()
        raise ConfigError(f"descriptor {fd} from the service manager: {expected}")
    os.set_inheritable(fd, False)
    return sock
