"""Where the daemon listens: the native socket, the Open Inference Protocol, figures and health."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edged.config.section import Path, Section
from edged.specs import Size

_Mode = Annotated[str, Meta(pattern=r"^0[0-7]{3}\Z", examples=["0660"])]


class SocketConfig(Section, frozen=True, kw_only=True):
    """The Unix socket of the native protocol."""

    path: Annotated[Path, Meta(description="where the socket is made")] = "/run/edged/edged.sock"
    mode: Annotated[_Mode, Meta(description="octal permissions; group may connect")] = "0660"
    group: Annotated[str | None, Meta(description="group that owns the socket")] = None


class MetricsConfig(Section, frozen=True, kw_only=True):
    """Figures and health over HTTP, for Prometheus and probes; read only, without a password."""

    host: Annotated[
        str, Meta(min_length=1, max_length=64, description="address to listen on, with port")
    ] = "127.0.0.1"
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None,
        Meta(description="TCP port; either this or path"),
    ] = None
    allow_remote: Annotated[
        bool, Meta(description="host may be one that other machines reach; anybody there can read")
    ] = False
    path: Annotated[Path | None, Meta(description="Unix socket to listen on instead")] = None
    mode: Annotated[_Mode, Meta(description="octal permissions of path")] = "0660"
    group: Annotated[str | None, Meta(description="group that owns path")] = None


class ListenTlsConfig(Section, frozen=True, kw_only=True):
    """TLS with client certificates: who cannot show one of a known authority is not let in."""

    cert: Annotated[Path, Meta(description="our certificate and those up to its root, PEM")]
    key: Annotated[Path, Meta(description="its private key, PEM without a password, mode 0640")]
    client_ca: Annotated[Path, Meta(description="whose certificates clients have to show, PEM")]
    minimum: Annotated[
        Literal["1.2", "1.3"], Meta(description="oldest version of TLS that is spoken")
    ] = "1.2"


class WebConfig(Section, frozen=True, kw_only=True):
    """Where the Open Inference Protocol is asked for, and who may come there."""

    path: Annotated[
        Path | None, Meta(description="Unix socket to listen on; either this or port")
    ] = None
    mode: Annotated[_Mode, Meta(description="octal permissions of path")] = "0660"
    group: Annotated[str | None, Meta(description="group that owns path")] = None
    host: Annotated[
        str, Meta(min_length=1, max_length=64, description="with port; loopback, or any with tls")
    ] = "127.0.0.1"
    port: Annotated[Annotated[int, Meta(ge=1, le=65535)] | None, Meta(description="TCP port")] = (
        None
    )
    insecure: Annotated[
        bool,
        Meta(description="without tls: every process of this device may ask, whoever runs it"),
    ] = False
    trusted_network: Annotated[
        bool,
        Meta(
            description="with insecure: host may be any address, for a network namespace where "
            "only trusted processes are, as a pod's"
        ),
    ] = False
    tls: ListenTlsConfig | None = None
    server_name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z", description="some clients insist on triton"),
    ] = "edged"


class HttpConfig(WebConfig, frozen=True, kw_only=True):
    """The Open Inference Protocol over HTTP, for Triton's and KServe's clients and for curl."""

    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None,
        Meta(description="TCP port; 8000 is what Triton's clients expect"),
    ] = None
    compress: Annotated[
        bool,
        Meta(
            description="answers of 1 KiB and more to clients that offer gzip or deflate, for slow "
            "links; on one device it costs time and saves nothing"
        ),
    ] = False


class GrpcConfig(WebConfig, frozen=True, kw_only=True):
    """The Open Inference Protocol over gRPC, for Triton's and KServe's clients."""

    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None,
        Meta(description="TCP port; 8001 is what Triton's clients expect"),
    ] = None


class SharedMemoryConfig(Section, frozen=True, kw_only=True):
    """System shared memory by name, for clients of the Open Inference Protocol."""

    regions: Annotated[
        int, Meta(ge=1, le=4096, description="that one user may register; each is a note")
    ] = 64
    size: Annotated[Size, Meta(description="bytes that they may have together")] = Size(256 << 20)
    tcp_users: Annotated[
        tuple[
            Annotated[str, Meta(pattern=r"^([0-9]{1,9}|[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?)\Z")], ...
        ],
        Meta(description="whose memory clients over TCP may name, as nobody knows who they are"),
    ] = ()


class AdminConfig(SocketConfig, frozen=True, kw_only=True):
    """A socket for administrators; where it is, nothing else takes their verbs."""

    path: Annotated[Path, Meta(description="where the socket is made")] = "/run/edged/admin.sock"
    group: Annotated[
        str | None,
        Meta(description="owns the socket; its members may do what administrators may"),
    ] = None


class ListenConfig(Section, frozen=True, kw_only=True):
    """Where local applications connect."""

    socket: SocketConfig = SocketConfig()
    admin: AdminConfig | None = None
    http: HttpConfig | None = None
    grpc: GrpcConfig | None = None
    metrics: MetricsConfig | None = None
    shared_memory: Annotated[
        SharedMemoryConfig | None, Meta(description="null: off; {}: as it is below")
    ] = None
    max_connections: Annotated[
        int, Meta(ge=1, le=100_000, description="more are refused; each costs a descriptor")
    ] = 256
