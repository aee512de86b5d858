"""Where to listen by default: only on the native socket."""

from __future__ import annotations

from edged.config.listen import GrpcConfig, HttpConfig, ListenConfig, MetricsConfig


def test_nothing_but_the_native_socket_is_on() -> None:
    listen = ListenConfig()
    assert listen.socket.path == "/run/edged/edged.sock"
    assert listen.socket.mode == "0660"
    assert listen.http is None
    assert listen.grpc is None
    assert listen.metrics is None


def test_nothing_is_reached_from_outside_by_default() -> None:
    assert HttpConfig(port=8000).host == MetricsConfig(port=9464).host == "127.0.0.1"
    assert not HttpConfig().insecure
    assert GrpcConfig(port=8001).host == "127.0.0.1"
    assert not GrpcConfig().insecure
    assert not MetricsConfig().allow_remote
