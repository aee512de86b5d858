"""Places to listen that cannot work, or that let in more than somebody may have meant."""

from __future__ import annotations

from typing import Any

import pytest

from edged.config.listen import (
    GrpcConfig,
    HttpConfig,
    ListenConfig,
    ListenTlsConfig,
    MetricsConfig,
    SharedMemoryConfig,
    SocketConfig,
)
from edged.config.listen_check import listen_problems, user_number

TLS = ListenTlsConfig(cert="c", key="k", client_ca="a")


def problems(
    http: HttpConfig | None = None,
    metrics: MetricsConfig | None = None,
    grpc: GrpcConfig | None = None,
) -> list[str]:
    socket = SocketConfig(path="/run/edged.sock")
    listen = ListenConfig(socket=socket, http=http, metrics=metrics, grpc=grpc)
    return [path for path, _ in listen_problems(listen)]


@pytest.mark.parametrize(
    "http",
    [
        None,
        HttpConfig(path="/run/http.sock"),
        HttpConfig(port=8000, insecure=True),
        HttpConfig(port=8000, insecure=True, host="::1"),
        HttpConfig(port=8000, insecure=True, host="localhost"),
        HttpConfig(port=8443, tls=TLS),
        HttpConfig(port=8443, tls=TLS, host="0.0.0.0"),
        HttpConfig(port=8000, insecure=True, trusted_network=True, host="0.0.0.0"),
    ],
)
def test_http_that_can_work(http: HttpConfig | None) -> None:
    assert problems(http, MetricsConfig(port=9464)) == []


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "listen.http"),
        ({"path": "/run/a", "port": 1, "insecure": True}, "listen.http"),
        ({"path": "/run/edged.sock"}, "listen.http.path"),
        ({"port": 8000}, "listen.http.port"),
        ({"port": 8000, "insecure": True, "host": "0.0.0.0"}, "listen.http.host"),
        ({"port": 8000, "insecure": True, "host": "192.168.1.4"}, "listen.http.host"),
        ({"port": 8000, "insecure": True, "host": "box"}, "listen.http.host"),
        ({"port": 8000, "host": "0.0.0.0"}, "listen.http.host"),
        ({"port": 8443, "tls": TLS, "host": "box"}, "listen.http.host"),
        ({"port": 8443, "tls": TLS, "insecure": True}, "listen.http.insecure"),
        ({"port": 8443, "tls": TLS, "trusted_network": True}, "listen.http.trusted_network"),
        ({"path": "/run/a", "tls": TLS}, "listen.http.tls"),
    ],
)
def test_http_that_cannot(fields: dict[str, Any], path: str) -> None:
    assert problems(HttpConfig(**fields)) == [path]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "listen.grpc"),
        ({"path": "/run/edged.sock"}, "listen.grpc.path"),
        ({"path": "/run/http.sock"}, "listen.grpc.path"),
        ({"port": 8001}, "listen.grpc.port"),
        ({"port": 8001, "insecure": True, "host": "0.0.0.0"}, "listen.grpc.host"),
        ({"port": 8001, "host": "0.0.0.0"}, "listen.grpc.host"),
        ({"port": 8001, "tls": TLS, "host": "box"}, "listen.grpc.host"),
        ({"port": 8001, "tls": TLS, "insecure": True}, "listen.grpc.insecure"),
        ({"port": 8001, "tls": TLS, "trusted_network": True}, "listen.grpc.trusted_network"),
        ({"path": "/run/a", "tls": TLS}, "listen.grpc.tls"),
    ],
)
def test_grpc_that_cannot(fields: dict[str, Any], path: str) -> None:
    assert problems(HttpConfig(path="/run/http.sock"), grpc=GrpcConfig(**fields)) == [path]


def test_grpc_that_can_work() -> None:
    assert problems(grpc=GrpcConfig(path="/run/grpc.sock")) == []
    assert problems(grpc=GrpcConfig(port=8001, insecure=True)) == []
    assert problems(grpc=GrpcConfig(port=8001, tls=TLS, host="0.0.0.0")) == []
    pod = GrpcConfig(port=8001, insecure=True, trusted_network=True, host="0.0.0.0")
    assert problems(grpc=pod) == []


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "listen.metrics"),
        ({"path": "/run/edged.sock"}, "listen.metrics.path"),
        ({"port": 1, "host": "0.0.0.0"}, "listen.metrics.host"),
        ({"port": 1, "host": "box"}, "listen.metrics.host"),
    ],
)
def test_metrics_that_cannot(fields: dict[str, Any], path: str) -> None:
    assert problems(metrics=MetricsConfig(**fields)) == [path]


def test_others_may_read_figures_where_that_is_allowed() -> None:
    assert problems(metrics=MetricsConfig(port=1, host="0.0.0.0", allow_remote=True)) == []


def test_two_at_one_place() -> None:
    http = HttpConfig(port=8000, insecure=True)
    assert problems(http, MetricsConfig(port=8000)) == ["listen.metrics.port"]
    assert problems(HttpConfig(path="/a"), MetricsConfig(path="/a")) == ["listen.metrics.path"]


def test_users_whose_memory_may_be_named_over_tcp() -> None:
    shared = SharedMemoryConfig(tcp_users=("0", "root", "nobody-has-this-name"))
    (found,) = listen_problems(ListenConfig(shared_memory=shared))
    assert found[0] == "listen.shared_memory.tcp_users.2"
    assert user_number("root") == user_number("0") == 0
