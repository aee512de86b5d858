"""HTTP under TLS on a real port: who is let in, who is not, and that nothing else changes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from edged.access.gate import build_access
from edged.config.access import AccessConfig, RuleConfig
from edged.config.listen import HttpConfig
from edged.config.schema import Config
from edged.specs import Duration
from edged.transports import tls_peer
from edged.transports.http import peer as http_peer
from tests.compat.stand import free_port
from tests.fakes.certificates import Authority, Pair
from tests.fakes.house import LOOPS, eventually
from tests.fakes.web import INFER, Web, drained
from tests.protocol.test_http_repeat import X, post
from tests.transports.http.test_repeats import ask

PATH = "/v2/models/m/infer"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def camera(authority: Authority) -> Pair:
    return authority.signs("camera")


class TlsWeb(Web):
    """On a port, under TLS."""

    port = 0

    def start_tls(self, authority: Authority, minimum: str = "1.2", **limits: Any) -> TlsWeb:
        self.port = self.port or free_port()
        tls = authority.listens(minimum=minimum)
        self.start(http=HttpConfig(port=self.port, tls=tls), **limits)
        return self

    def plain(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        return context.wrap_socket(self.plain(), server_hostname="localhost")


@pytest.fixture(params=LOOPS)
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TlsWeb]:
    made = TlsWeb(tmp_path / "h", LOOPS[request.param])
    yield made
    made.stop()
    assert made.trouble == []


def infer(web: TlsWeb, context: ssl.SSLContext, count: int = 1) -> None:
    client = http.client.HTTPSConnection("localhost", web.port, timeout=10, context=context)
    for _ in range(count):
        client.request("POST", PATH, INFER)
        answer = client.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["outputs"][0]["data"] == [1, 2]
    client.close()


def answered(web: TlsWeb, context: ssl.SSLContext) -> bytes:
    """TLS 1.3 tells a client that it is not let in only when it reads."""
    with web.connect(context) as sock:
        sock.sendall(post(X))
        return sock.recv(1) or b"nothing"


class TestLetIn:
    def test_one_connection_for_many(self, web: TlsWeb, authority: Authority, camera: Pair) -> None:
        web.start_tls(authority)
        infer(web, authority.context(camera), 20)
        assert (web.server.accepted, web.server.requests) == (1, 20)
        assert web.door.requests[0].origin == "http:camera"
        eventually(lambda: not web.server.connections)
        assert not web.server.tls.handshakes

    @pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
    def test_versions(self, web: TlsWeb, authority: Authority, camera: Pair, version: str) -> None:
        web.start_tls(authority)
        context = authority.context(camera)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        infer(web, context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with web.connect(context) as sock:
            assert sock.selected_alpn_protocol() == "http/1.1"
            assert sock.compression() is None

    def test_large_and_repeated(self, web: TlsWeb, authority: Authority, camera: Pair) -> None:
        web.start_tls(authority)
        web.door.is_quiet = True
        blob = bytes(range(256)) * (1 << 12)
        x = {"name": "x", "shape": [1 << 20], "datatype": "UINT8",
             "parameters": {"binary_data_size": 1 << 20}}  # fmt: skip
        text = json.dumps({"inputs": [x], "parameters": {"binary_data_output": True}}).encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: a\r\nInference-Header-Content-Length: {len(text)}\r\n"
            f"Content-Length: {len(text) + len(blob)}\r\n\r\n"
        ).encode()
        with web.connect(authority.context(camera)) as sock:
            for number in range(1, 12):
                assert ask(sock, post(X * number)).endswith((X * number).tobytes())
            assert ask(sock, head + text + blob).endswith(blob)
            assert ask(sock, post(X)).endswith(X.tobytes())
        assert web.door.lone

    def test_byte_by_byte(self, web: TlsWeb, authority: Authority, camera: Pair) -> None:
        """The handshake and the request in the smallest pieces that there are."""
        web.start_tls(authority)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = authority.context(camera).wrap_bio(incoming, outgoing, server_hostname="localhost")
        with web.plain() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def flush() -> None:
                for byte in outgoing.read():
                    sock.sendall(bytes([byte]))

            def until(step: Callable[[], Any]) -> Any:
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        flush()
                        incoming.write(sock.recv(65536))

            until(client.do_handshake)
            flush()
            client.write(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            flush()
            assert until(lambda: client.read(65536)).startswith(b"HTTP/1.1 200")

    def test_who_does_not_read_is_closed(
        self, web: TlsWeb, authority: Authority, camera: Pair
    ) -> None:
        web.start_tls(authority, stream_wait=Duration(50_000_000))
        asking = b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n" * 1000
        with web.connect(authority.context(camera)) as sock:
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    sock.sendall(asking)
            eventually(lambda: not web.server.connections)

    def test_a_request_that_is_refused_is_told_why(
        self, web: TlsWeb, authority: Authority, camera: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_peer, "_LINGER_S", 0.05)
        web.start_tls(authority)
        with web.connect(authority.context(camera)) as sock:
            sock.sendall(b"nonsense\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 400")
            assert sock.recv(1) == b""


class TestNotLetIn:
    @pytest.mark.hostile("S1 HTTP without TLS to a port that speaks it")
    def test_plain(self, web: TlsWeb, authority: Authority, camera: Pair) -> None:
        web.start_tls(authority)
        with web.plain() as sock:
            sock.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = drained(sock)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"this port speaks TLS" in answer
        infer(web, authority.context(camera))

    @pytest.mark.hostile("S2 no certificate, one of another authority, or one out of date")
    @pytest.mark.parametrize("who", ["nobody", "stranger", "expired", "early"])
    def test_certificates(
        self, web: TlsWeb, authority: Authority, camera: Pair, who: str, tmp_path: Path
    ) -> None:
        web.start_tls(authority)
        pairs = {
            "nobody": lambda: None,
            "stranger": lambda: Authority(tmp_path, "elsewhere").signs("camera"),
            "expired": lambda: authority.signs("old", -9, -1),
            "early": lambda: authority.signs("early", 2, 9),
        }
        context = authority.context(pairs[who]())
        with pytest.raises((ssl.SSLError, ConnectionError)):
            answered(web, context)
        eventually(lambda: web.server.tls.failed == 1)
        assert web.server.accepted == web.server.requests == 0
        infer(web, authority.context(camera))

    @pytest.mark.hostile("S3 a handshake that stops in its middle")
    @pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01", b"\x16"])
    def test_a_handshake_that_never_ends(
        self, web: TlsWeb, authority: Authority, data: bytes
    ) -> None:
        web.start_tls(authority, frame_timeout=Duration(100_000_000))
        with web.plain() as sock:
            sock.sendall(data)
            assert drained(sock) == b""
        eventually(lambda: not web.server.tls.handshakes)
        assert web.server.tls.failed == 1

    @pytest.mark.hostile("S4 hundreds of connections that begin no handshake")
    def test_a_flood(
        self, web: TlsWeb, authority: Authority, camera: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tls_peer, "HANDSHAKES", 8)
        web.start_tls(authority, frame_timeout=Duration(10_000_000_000))
        held = [web.plain() for _ in range(40)]
        try:
            eventually(lambda: web.server.tls.refused == 32)
            assert len(web.server.tls.handshakes) == 8
        finally:
            for sock in held:
                sock.close()
        eventually(lambda: not web.server.tls.handshakes)
        infer(web, authority.context(camera))

    @pytest.mark.hostile("S5 an older version of TLS, a weak cipher, or noise")
    def test_old_and_weak(self, web: TlsWeb, authority: Authority, camera: Pair) -> None:
        web.start_tls(authority, minimum="1.3")
        context = authority.context(camera)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            web.connect(context)
        web.start_tls(authority)
        context.set_ciphers("AES128-SHA")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            web.connect(context)
        for _ in range(20):
            with web.plain() as sock:
                sock.sendall(os.urandom(300))
                sock.shutdown(socket.SHUT_WR)
                drained(sock)
        eventually(lambda: not web.server.tls.handshakes)
        assert web.server.requests == 0
        infer(web, authority.context(camera))

    def test_noise_after_the_handshake(
        self, web: TlsWeb, authority: Authority, camera: Pair
    ) -> None:
        web.start_tls(authority)
        with web.connect(authority.context(camera)) as sock:
            eventually(lambda: web.server.connections)
            os.write(sock.fileno(), os.urandom(300))
            eventually(lambda: not web.server.connections)


class TestRules:
    """A client is known to the rules by its common name, and without one by another name."""

    @pytest.mark.parametrize(
        ("others", "is_allowed"),
        [
            ((x509.DNSName("ops"), x509.UniformResourceIdentifier("spiffe://plant/ops")), True),
            ((x509.DNSName("hall-2.plant"),), True),
            ((x509.DNSName("camera"),), False),  # a host of that name is not who is called so
            ((x509.UniformResourceIdentifier("spiffe://plant/else"),), False),
            ((x509.RFC822Name("a@b"),), False),
            (None, True),
        ],
    )
    def test_who_may_ask(
        self,
        web: TlsWeb,
        authority: Authority,
        others: tuple[x509.GeneralName, ...] | None,
        is_allowed: bool,
    ) -> None:
        names = ("camera", "URI:spiffe://plant/ops", "DNS:hall-2.plant")
        rule = RuleConfig(certificates=names, allow=("infer",))
        # Whoever comes without a certificate may ask: one without a name is not that.
        tcp = RuleConfig(tcp=True, allow=("infer",))
        access = AccessConfig(rules=(rule, tcp))
        web.start_tls(authority)
        web.call(web.server.gate.follow, build_access(Config(access=access)))
        pair = authority.signs("camera", others=others)
        with web.connect(authority.context(pair)) as sock:
            sock.sendall(post(X))
            status = sock.recv(65536).split(b" ")[1]
        assert status == (b"200" if is_allowed else b"403")


class TestReload:
    def test_certificates_are_exchanged_under_open_connections(
        self, web: TlsWeb, camera: Pair, authority: Authority, tmp_path: Path
    ) -> None:
        web.start_tls(authority)
        old = web.connect(authority.context(camera))
        ask(old, post(X))
        other = Authority(tmp_path, "other")
        web.start_tls(other)
        infer(web, other.context(other.signs("camera")))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            infer(web, authority.context(camera))
        assert ask(old, post(X * 2)).endswith((X * 2).tobytes())
        old.close()

    def test_who_came_without_a_certificate_has_to_go(
        self, web: TlsWeb, authority: Authority, camera: Pair
    ) -> None:
        web.port = free_port()
        web.start(http=HttpConfig(port=web.port, insecure=True, trusted_network=True))
        with web.plain() as sock:
            assert ask(sock, post(X)).endswith(X.tobytes())
            web.start_tls(authority)
            assert drained(sock) == b""
        infer(web, authority.context(camera))

    def test_the_end(self, web: TlsWeb, authority: Authority, camera: Pair) -> None:
        web.start_tls(authority)
        with web.connect(authority.context(camera)) as sock, web.plain() as pending:
            ask(sock, post(X))
            eventually(lambda: web.server.tls.handshakes)
            web.call(web.server.close)
            assert sock.recv(1) == b""  # and not as if it had been cut off
            assert drained(pending) == b""
