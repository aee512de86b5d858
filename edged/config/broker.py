"""What an operator says about brokers: how we log in, and what waits for one that is away.

Words, and the checks that need no other section.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from edged.config.section import Path, Section
from edged.specs import Duration, Size

SecretName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
ClientId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
Host = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        description="name or address of the broker, or /path of its Unix socket",
    ),
]
WhenFull = Literal["block", "drop_oldest", "latest_only"]
Durability = Literal["fsync", "async"]
_LEAST_BYTES = 1 << 20
"""The outbox works in files of a sixteenth of its size."""
_LEAST_PACKET, _MOST = 1 << 10, 256 << 20
_LONGEST_NS = 3650 * 24 * 3600 * 10**9


class Secret(Section, frozen=True, kw_only=True):
    """A secret by reference; the value itself never stands in the configuration."""

    secret: Annotated[
        SecretName | None,
        Meta(description="name of a file in $CREDENTIALS_DIRECTORY (systemd LoadCredential)"),
    ] = None
    file: Annotated[Path | None, Meta(description="path of a file that holds the value")] = None


class TlsConfig(Section, frozen=True, kw_only=True):
    """TLS to the broker."""

    ca: Annotated[Path | None, Meta(description="CA file; default: the system's")] = None
    cert: Annotated[
        Path | None, Meta(description="our certificate (PEM), where the broker asks for one")
    ] = None
    key: Annotated[Path | None, Meta(description="private key (PEM) of cert")] = None
    alpn: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[!-~]{1,255}\Z")], ...],
        Meta(
            max_length=8, description="names for ALPN, where a broker shares its port with others"
        ),
    ] = ()


class BrokerConfig(Section, frozen=True, kw_only=True):
    """Where a broker is, and how we log in; what every broker is told."""

    host: Host = "localhost"
    port: Annotated[int, Meta(ge=1, le=65535, description="8883 is usual with tls")] = 1883
    protocol: Annotated[
        Literal["auto", "5", "3.1.1"], Meta(description="auto = 5, then 3.1.1 if refused")
    ] = "auto"
    username: Annotated[str | None, Meta(description="name to log in with; default: anonymous")] = (
        None
    )
    password: Secret | None = None
    tls: TlsConfig | None = None
    websocket: Annotated[
        Annotated[str, Meta(pattern=r"^/[!-~]{0,255}\Z")] | None,
        Meta(description="path of the broker's WebSocket, as /mqtt; default: MQTT without it"),
    ] = None
    keepalive: Annotated[
        Duration, Meta(description="silence after which broker and we ask for a sign of life")
    ] = Duration(30_000_000_000)
    longest_pause: Annotated[
        Duration, Meta(description="most between two attempts at a broker that is away")
    ] = Duration(60_000_000_000)
    max_inflight: Annotated[
        int,
        Meta(
            ge=1,
            le=65535,
            description="QoS 1 messages taken, and on their way, at a time, at most; bounds memory",
        ),
    ] = 64
    max_packet_size: Annotated[
        Size | None,
        Meta(description="the longest packet that it takes, where it does not say so itself"),
    ] = None


class ResultsConfig(BrokerConfig, frozen=True, kw_only=True):
    """Another broker, to which the results of all bindings go; they are kept on disk until then."""

    host: Host
    client_id: Annotated[
        ClientId | None, Meta(description="default: that of mqtt, and -results")
    ] = None


class OutboxConfig(Section, frozen=True, kw_only=True):
    """What is kept on disk for a broker that is away."""

    max_bytes: Annotated[
        Size, Meta(description="most bytes on disk; what happens then is each binding's when_full")
    ] = Size(256 << 20)
    max_age: Annotated[
        Duration, Meta(description="older results are dropped, and counted; 0 = never")
    ] = Duration(7 * 24 * 3600 * 1_000_000_000)
    replay_rate: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="results a second after an outage; 0 = no limit"),
    ] = 5000


def login_problems(broker: BrokerConfig, path: str) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them.

    Args:
        broker: a section that says how to log in.
        path: where it stands.
    """
    if not 10**9 <= broker.keepalive <= 65_535 * 10**9:
        # Two bytes of seconds in CONNECT; 0 would switch off the detection of a dead broker.
        yield f"{path}.keepalive", "is outside what MQTT can say; expected 1s to 65535s"
    if not 10**9 <= broker.longest_pause <= 3600 * 10**9:
        yield f"{path}.longest_pause", "is no time to wait for a broker; expected 1s to 1h"
    if broker.max_packet_size is not None and not _LEAST_PACKET <= broker.max_packet_size <= _MOST:
        yield f"{path}.max_packet_size", "is outside what MQTT can say; expected 1KiB to 256MiB"
    if broker.password is not None:
        if (broker.password.secret is None) == (broker.password.file is None):
            yield f"{path}.password", "needs exactly one of secret: NAME and file: PATH"
        if broker.username is None:
            yield f"{path}.password", f"is of no use without {path}.username; add it"
    host, is_socket = broker.host, broker.host.startswith("/")
    if not is_socket and ("/" in host or host.count(":") == 1 or host.split() != [host]):
        text = "expected a name or address alone; `port` and `tls: {}` stand beside it"
        yield f"{path}.host", text
    tls = broker.tls
    if tls is not None and broker.host.startswith("/"):
        yield f"{path}.tls", f"is of no use on a Unix socket, which {path}.host names; remove it"
    if broker.websocket is not None and broker.host.startswith("/"):
        yield f"{path}.websocket", f"is not for a Unix socket, which {path}.host names; remove it"
    if tls is not None and tls.cert is not None and tls.key is None:
        yield f"{path}.tls.cert", "needs its private key; add `key: PATH`"
    if tls is not None and tls.key is not None and tls.cert is None:
        yield f"{path}.tls.key", "needs its certificate; add `cert: PATH`"


def broker_files(broker: BrokerConfig, path: str) -> Iterator[tuple[str, Path]]:
    """Field paths, and the files that they name."""
    if broker.password is not None and broker.password.file is not None:
        yield f"{path}.password.file", broker.password.file
    for name in ("ca", "cert", "key"):
        file = getattr(broker.tls, name, None)
        if file is not None:
            yield f"{path}.tls.{name}", file


def outbox_problems(outbox: OutboxConfig) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them."""
    if outbox.max_bytes < _LEAST_BYTES:
        yield "mqtt.outbox.max_bytes", "would hold next to nothing; expected at least 1MiB"
    if outbox.max_age and not 10**9 <= outbox.max_age <= _LONGEST_NS:
        yield "mqtt.outbox.max_age", "is outside what can work; expected 1s to 87600h, or 0"
