"""gRPC under TLS on a real port, asked by grpcio: who is let in, as whom, and what a change does."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc")

from edged.access.gate import build_access  # noqa: E402
from edged.config.access import AccessConfig, QuotaConfig, RuleConfig  # noqa: E402
from edged.config.listen import GrpcConfig  # noqa: E402
from edged.config.schema import Config  # noqa: E402
from edged.errors import ApplyError  # noqa: E402
from tests.compat.stand import free_port  # noqa: E402
from tests.fakes.calls import OIP  # noqa: E402
from tests.fakes.certificates import Authority, Pair  # noqa: E402
from tests.fakes.house import eventually  # noqa: E402
from tests.fakes.rpc import Rpc, config  # noqa: E402
from tests.transports.grpc.test_endpoint import message  # noqa: E402

WAIT_S = 30
OK, DENIED = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def camera(authority: Authority) -> Pair:
    return authority.signs("camera")


class Site:
    """gRPC on a port, which speaks TLS where an authority says so."""

    def __init__(self) -> None:
        self.rpc, self.port = Rpc(), free_port()

    def serve(self, authority: Authority | None, **fields: Any) -> None:
        tls = None if authority is None else authority.listens(**fields)
        place = GrpcConfig(port=self.port, tls=tls, insecure=tls is None)
        self.rpc.apply(config(place))

    @contextlib.contextmanager
    def channel(self, authority: Authority, client: Pair | None = None) -> Iterator[Any]:
        shown = (client.key.read_bytes(), client.cert.read_bytes()) if client else (None, None)
        credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes(), *shown)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"localhost:{self.port}", credentials, options) as made:
            yield made

    def rules(self, *rules: RuleConfig, quotas: tuple[QuotaConfig, ...] = ()) -> None:
        access = AccessConfig(rules=rules or None, quotas=quotas)
        self.rpc.call(self.rpc.server.gate.follow, build_access(Config(access=access)))


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.rpc.stop()
    assert made.rpc.trouble == []


def code(channel: Any, data: bytes = b"") -> Any:
    try:
        channel.unary_unary(OIP + "ModelInfer")(data or message(), timeout=WAIT_S)
    except grpc.RpcError as exc:
        return exc.code()
    return OK


def test_who_shows_a_certificate_is_let_in(site: Site, authority: Authority, camera: Pair) -> None:
    site.serve(authority)
    with site.channel(authority, camera) as made:
        assert {code(made) for _ in range(20)} == {OK}
        big = {"name": "x", "datatype": "UINT8", "shape": [3 << 20]}
        assert code(made, message(inputs=[big], raw_input_contents=[bytes(3 << 20)])) is OK
    assert {request.origin for request in site.rpc.door.requests} == {"grpc:camera"}
    assert site.rpc.server.accepted == 1


@pytest.mark.parametrize("shown", ["nothing", "another authority's", "one out of date"])
def test_who_shows_none_is_not(
    site: Site, authority: Authority, tmp_path: Path, shown: str
) -> None:
    site.serve(authority)
    client = {
        "nothing": lambda: None,
        "another authority's": lambda: Authority(tmp_path, "other").signs("camera"),
        "one out of date": lambda: authority.signs("old", -10, -1),
    }[shown]()
    with site.channel(authority, client) as made:
        assert code(made) is UNAVAILABLE
    eventually(lambda: site.rpc.server.tls.failed)
    assert (site.rpc.server.accepted, site.rpc.door.requests) == (0, [])


def test_who_speaks_plain_is_not(site: Site, authority: Authority) -> None:
    site.serve(authority)
    with grpc.insecure_channel(f"127.0.0.1:{site.port}") as made:
        assert code(made) is UNAVAILABLE
    assert site.rpc.server.accepted == 0


def test_what_is_spoken_is_agreed_upon(site: Site, authority: Authority, camera: Pair) -> None:
    site.serve(authority, minimum="1.3")
    context = authority.context(camera)
    context.set_alpn_protocols(["http/1.1", "h2"])
    with (
        socket.create_connection(("127.0.0.1", site.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert (sock.selected_alpn_protocol(), sock.version()) == ("h2", "TLSv1.3")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", site.port), 10) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_rules_name_certificates(site: Site, authority: Authority, camera: Pair) -> None:
    site.serve(authority)
    other = authority.signs("other")
    site.rules(
        RuleConfig(certificates=("camera",), models=("m",), allow=("infer",)),
        RuleConfig(tcp=True, allow=("infer",)),
    )
    with site.channel(authority, camera) as hers, site.channel(authority, other) as his:
        assert {code(hers) for _ in range(6)} == {OK}
        assert code(hers, message(model_name="secret")) is DENIED
        assert code(his) is DENIED
        site.rules(RuleConfig(certificates=("other",), allow=("infer",)))
        assert code(hers) is DENIED
        assert code(his) is OK
        assert site.rpc.server.accepted == 2


def test_bounds_of_all_who_come_over_tcp(site: Site, authority: Authority, camera: Pair) -> None:
    site.serve(authority)
    site.rules(quotas=(QuotaConfig(tcp=True, connections=1),))
    with site.channel(authority, camera) as one, site.channel(authority, camera) as more:
        assert code(one) is OK
        assert code(more) is EXHAUSTED


def test_certificates_are_exchanged_under_open_connections(
    site: Site, authority: Authority, camera: Pair, tmp_path: Path
) -> None:
    site.serve(authority)
    with site.channel(authority, camera) as old:
        assert code(old) is OK
        other = Authority(tmp_path, "other")
        site.serve(other)
        with site.channel(other, other.signs("camera")) as new:
            assert code(new) is OK
        with site.channel(authority, camera) as late:
            assert code(late) is UNAVAILABLE
        assert code(old) is OK


def test_files_that_are_read_again(site: Site, tmp_path: Path) -> None:
    own = Authority(tmp_path, "own")
    pair = own.signs("server")
    tls = own.listens(pair)
    wanted = config(GrpcConfig(port=site.port, tls=tls))
    site.rpc.apply(wanted)
    server = site.rpc.server
    before = server.tls.context
    site.rpc.call(server.refresh, wanted)
    assert server.tls.context is not before
    kept = server.tls.context
    pair.key.write_text("torn")
    with pytest.raises(ApplyError, match=r"listen\.grpc\.tls"):
        site.rpc.call(server.refresh, wanted)
    with pytest.raises(ApplyError, match=r"listen\.grpc\.tls"):
        site.rpc.call(server.prepare, wanted)
    assert server.tls.context is kept
    with site.channel(own, own.signs("camera")) as made:
        assert code(made) is OK


def test_who_came_without_a_certificate_has_to_go(
    site: Site, authority: Authority, camera: Pair
) -> None:
    site.serve(None)
    with grpc.insecure_channel(f"127.0.0.1:{site.port}") as plain:
        assert code(plain) is OK
        site.serve(authority)
        eventually(lambda: not site.rpc.server.connections)
        assert code(plain) is UNAVAILABLE
    with site.channel(authority, camera) as made:
        assert code(made) is OK


def test_the_end(site: Site, authority: Authority, camera: Pair) -> None:
    site.serve(authority)
    server = site.rpc.server
    with (
        socket.create_connection(("127.0.0.1", site.port), 10) as pending,
        site.channel(authority, camera) as made,
    ):
        assert code(made) is OK
        eventually(lambda: server.tls.handshakes)
        site.rpc.call(server.close)
        with contextlib.suppress(ConnectionResetError):
            assert pending.recv(1) == b""
        eventually(lambda: not server.connections)
