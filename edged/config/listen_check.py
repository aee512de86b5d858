"""What is wrong with the places where a configuration listens."""

from __future__ import annotations

import ipaddress
import pwd
from collections.abc import Iterator

from edged.config.listen import ListenConfig, MetricsConfig, WebConfig
from edged.config.problems import quote

Found = tuple[str, str]
"""A field path, and what is wrong there."""


def listen_problems(listen: ListenConfig) -> Iterator[Found]:
    """Field paths, and what is wrong with them."""
    taken = {listen.socket.path: "listen.socket"}
    if listen.admin is not None:
        if listen.admin.path in taken:
            yield "listen.admin.path", "is the path of listen.socket; use another"
        taken[listen.admin.path] = "listen.admin"
    if listen.http is not None:
        yield from _place("listen.http", listen.http, 8000, taken)
        yield from _web("listen.http", listen.http)
    if listen.grpc is not None:
        yield from _place("listen.grpc", listen.grpc, 8001, taken)
        yield from _web("listen.grpc", listen.grpc)
    if listen.metrics is not None:
        yield from _place("listen.metrics", listen.metrics, 9464, taken)
        yield from _metrics(listen.metrics)
    if listen.shared_memory is not None:
        for index, user in enumerate(listen.shared_memory.tcp_users):
            if user_number(user) is None:
                yield (
                    f"listen.shared_memory.tcp_users.{index}",
                    f"{quote(user)} is no user of this device; expected a name or a number",
                )


def user_number(user: str) -> int | None:
    """The number of a user; None for a name that nobody has here."""
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _place(
    field: str, place: WebConfig | MetricsConfig, usual: int, taken: dict[str, str]
) -> Iterator[Found]:
    if (place.port is None) == (place.path is None):
        yield field, f"needs exactly one of port: NUMBER ({usual} is usual) and path: PATH"
    where = place.path if place.path is not None else f"{place.host}:{place.port}"
    if (other := taken.setdefault(where, field)) != field:
        what = "path" if place.path is not None else "port"
        yield f"{field}.{what}", f"is the {what} of {other}; use another"
    if place.path is None and _is_local(place.host) is None:
        text = f"{quote(place.host)} is no address; expected 127.0.0.1 or ::1"
        yield f"{field}.host", text


def _web(field: str, web: WebConfig) -> Iterator[Found]:
    is_open = web.insecure and web.trusted_network
    if web.trusted_network and not web.insecure:
        yield f"{field}.trusted_network", "says something with `insecure: true` only"
    if web.tls is not None and web.insecure:
        yield f"{field}.insecure", "contradicts tls; leave one of them out"
    if web.path is not None:
        if web.tls is not None:
            yield f"{field}.tls", "is for a port; a path is guarded by mode and group"
    elif _is_local(web.host) is False and web.tls is None and not is_open:
        text = "can be reached from other machines; use 127.0.0.1 or ::1, or give `tls`"
        yield f"{field}.host", text
    elif web.port is not None and not web.insecure and web.tls is None:
        text = "lets every process of this device ask, whoever runs it"
        yield f"{field}.port", f"{text}; use a path, give `tls`, or write `insecure: true`"


def _metrics(metrics: MetricsConfig) -> Iterator[Found]:
    if metrics.path is None and _is_local(metrics.host) is False and not metrics.allow_remote:
        text = "can be reached from other machines, and nobody is asked for a password there"
        yield "listen.metrics.host", f"{text}; use 127.0.0.1, or write `allow_remote: true`"


def _is_local(host: str) -> bool | None:
    """Whether only this machine reaches it; None for what is no address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
