"""Requests to web servers that are slow, wrong or hostile; each a real one on a loopback address."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

pytest.importorskip("urllib3")

from edged.errors import BundleError, DeniedError, EdgedError, NotFoundError, SourceError
from edged.sources.web import MOST_REDIRECTS, Web, pause_s
from tests.fakes.certificates import Authority
from tests.sources.server import Request, Server, web_server

LOGIN = "Basic dTpw"
CAP = 1 << 20


def server_pair(authority: Authority) -> tuple[Path, Path]:
    pair = authority.signs("server")
    return pair.cert, pair.key


def ask(server: Server, path: str = "/x", **more: object):
    web = Web(server.url, **{"timeout_s": 5.0, **more})  # type: ignore[arg-type]
    return web.document(server.url + path, "application/json", CAP)


def test_an_answer_as_a_whole(server: Server):
    server.answer = lambda request: request.reply(200, b"{}", etag='"1"')
    answer = ask(server, authorization=LOGIN)
    assert (answer.data, answer.headers["etag"]) == (b"{}", '"1"')
    sent = server.asked[0].headers
    assert sent["authorization"] == LOGIN
    assert sent["accept-encoding"] == "identity"
    assert sent["accept"] == "application/json"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, DeniedError), (403, DeniedError), (404, NotFoundError), (410, NotFoundError),
        (400, BundleError), (418, BundleError), (304, BundleError), (206, BundleError),
        (204, BundleError), (429, SourceError), (500, SourceError), (503, SourceError),
        (599, SourceError), (302, BundleError),
    ],
)  # fmt: skip
def test_what_a_status_means(server: Server, status: int, error: type[EdgedError]):
    server.answer = lambda request: request.reply(status)
    with pytest.raises(error, match="127") as refused:
        ask(server)
    assert type(refused.value) is error
    assert len(server.asked) == 1, "nothing is tried again here"


@pytest.mark.hostile("X8 a status that asks for a pause")
def test_a_pause_that_is_asked_for(server: Server):
    server.answer = lambda request: request.reply(429, retry_after="120")
    with pytest.raises(SourceError, match="to be asked again in 120 s") as refused:
        ask(server)
    assert refused.value.retry_after_ns == 120 * 10**9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0), (" 7 ", 7.0), ("99999999999", 86400.0), ("", 0.0), ("-1", 0.0), ("soon", 0.0),
        ("9" * 5000, 0.0), ("1e9", 0.0), ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("Fri, 99 Foo 2099 99:99:99 GMT", 0.0),
    ],
)  # fmt: skip
def test_pauses_as_they_are_written(text: str, seconds: float):
    assert pause_s(text, 10.0) == seconds


class TestSize:
    @pytest.mark.hostile("X2 a body without end, or longer than stated")
    def test_a_body_without_end(self, server: Server):
        def answer(request: Request) -> None:
            request.reply(200, content_length=None)
            for _ in range(200):
                request.send(b"x" * 65536)

        server.answer = answer
        with pytest.raises(BundleError, match="more than 1048576 bytes"):
            ask(server)

    def test_a_length_that_is_stated(self, server: Server):
        server.answer = lambda request: request.reply(200, content_length=5 << 30)
        with pytest.raises(BundleError, match="a document of 5368709120 bytes"):
            ask(server)

    def test_a_body_that_breaks_off(self, server: Server):
        server.answer = lambda request: request.reply(200, b"{", content_length=100)
        with pytest.raises(SourceError):
            ask(server)

    @pytest.mark.hostile("X6 a gzip body that was not asked for")
    def test_a_bomb_in_the_coding(self, server: Server):
        body = gzip.compress(bytes(100 << 20))
        server.answer = lambda request: request.reply(200, body, content_encoding="gzip")
        with pytest.raises(BundleError, match="compressed"):
            ask(server)

    def test_headers_without_end(self, server: Server):
        def answer(request: Request) -> None:
            request.send(b"HTTP/1.1 200 OK\r\n")
            for number in range(10_000):
                request.send(b"x-%d: y\r\n" % number)

        server.answer = answer
        with pytest.raises(SourceError):
            ask(server)

    @pytest.mark.parametrize(
        "junk", [b"", b"\x16\x03\x01" * 9, b"HTTP/1.1 x\r\n\r\n", b"x" * 99999]
    )
    def test_no_http(self, server: Server, junk: bytes):
        server.answer = lambda request: request.send(junk)
        with pytest.raises(SourceError):
            ask(server)


class TestTime:
    @pytest.mark.hostile("X3 an answer that drips")
    @pytest.mark.parametrize(
        "head", [b"HTT", b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\n\r\n"]
    )
    def test_an_answer_that_drips(self, server: Server, head: bytes):
        def answer(request: Request) -> None:
            request.send(head)
            server.drip(request, b"x" * 10_000)

        server.answer = answer
        began = time.monotonic()
        with pytest.raises(SourceError, match="not within"):
            ask(server, timeout_s=0.3)
        assert time.monotonic() - began < 60

    def test_silence(self, server: Server):
        server.answer = lambda _request: server.stopped.wait(20)
        with pytest.raises(SourceError):
            ask(server, timeout_s=0.2)

    def test_nobody_is_there(self):
        with web_server() as server:
            pass
        with pytest.raises(SourceError, match=r"127.0.0.1:.*refused"):
            ask(server)


class TestRedirects:
    """Where the login goes is what matters."""

    def test_to_the_same_place(self, server: Server):
        def answer(request: Request) -> None:
            if request.path == "/x":
                request.reply(307, location="/y")
            else:
                request.reply(200, b"{}")

        server.answer = answer
        assert ask(server, authorization=LOGIN).url == server.url + "/y"
        assert [one.headers["authorization"] for one in server.asked] == [LOGIN, LOGIN]

    @pytest.mark.hostile("X5 redirects in a circle, out of TLS, or to a host that nobody named")
    def test_in_a_circle(self, server: Server):
        server.answer = lambda request: request.reply(302, location=request.path)
        with pytest.raises(BundleError, match="a circle"):
            ask(server)
        assert len(server.asked) == MOST_REDIRECTS + 1

    @pytest.mark.hostile("X5 redirects in a circle, out of TLS, or to a host that nobody named")
    def test_to_somebody_else(self, server: Server):
        with web_server() as other:
            other.answer = lambda request: request.reply(200, b"{}")
            server.answer = lambda request: request.reply(302, location=other.url + "/stolen")
            for hosts in ((), ("127.0.0.1",)):
                with pytest.raises(BundleError, match="without TLS"):
                    ask(server, authorization=LOGIN, hosts=hosts)
            assert other.asked == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


class TestTls:
    def test_its_certificate_is_verified(self, authority: Authority):
        with web_server(server_pair(authority)) as server:
            server.answer = lambda request: request.reply(200, b"{}")
            assert ask(server, ca=str(authority.ca)).data == b"{}"
            with pytest.raises(SourceError, match=r"(?i)certificate"):
                ask(server)  # not of an authority that this system knows
            named = server.url.replace("127.0.0.1", "127.0.0.2")
            server.url = named
            with pytest.raises(SourceError):
                ask(server, ca=str(authority.ca))

    @pytest.mark.hostile("X7 a login that another host would be shown")
    def test_another_host_is_not_shown_the_login(self, authority: Authority):
        pair = server_pair(authority)
        with web_server(pair) as home, web_server(pair) as other:
            other.answer = lambda request: request.reply(200, b"{}")
            target = other.url.replace("127.0.0.1", "localhost") + "/x"
            home.answer = lambda request: request.reply(302, location=target)
            with pytest.raises(BundleError, match="does not name"):
                ask(home, authorization=LOGIN, ca=str(authority.ca))
            assert other.asked == []
            assert ask(home, authorization=LOGIN, ca=str(authority.ca), hosts=("localhost",)).data
            # Another port of the same host may be somebody else's too.
            home.answer = lambda request: request.reply(302, location=other.url + "/x")
            assert ask(home, authorization=LOGIN, ca=str(authority.ca)).data
            assert [one.headers.get("authorization") for one in other.asked] == [None, None]
            assert home.asked[0].headers["authorization"] == LOGIN

    def test_out_of_tls(self, authority: Authority, server: Server):
        with web_server(server_pair(authority)) as home:
            home.answer = lambda request: request.reply(302, location=server.url)
            with pytest.raises(BundleError, match="only https is followed"):
                ask(home, ca=str(authority.ca), hosts=("127.0.0.1",))
        assert server.asked == []


class TestDemands:
    def test_one_is_met_once(self, server: Server):
        def answer(request: Request) -> None:
            if request.headers.get("authorization") == "Bearer t":
                request.reply(200, b"{}")
            else:
                request.reply(401, www_authenticate='Bearer realm="x"')

        server.answer = answer
        web = Web(server.url, timeout_s=5.0, challenge=lambda demand: f"Bearer {demand[-2]}")
        with pytest.raises(DeniedError):
            web.document(server.url + "/x", "*/*", CAP)
        assert len(server.asked) == 2
        web.challenge = lambda _demand: "Bearer t"
        assert web.document(server.url + "/x", "*/*", CAP).data == b"{}"
        assert web.document(server.url + "/x", "*/*", CAP).data == b"{}"
        assert len(server.asked) == 5, "the token is kept"


def test_proxies_of_the_environment_are_not_asked(server: Server, monkeypatch: pytest.MonkeyPatch):
    server.answer = lambda request: request.reply(200, b"{}")
    with web_server() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert ask(server).data == b"{}"
        assert proxy.asked == []


def test_cookies_are_not_kept(server: Server):
    server.answer = lambda request: request.reply(200, b"{}", set_cookie="a=b")
    ask(server)
    ask(server)
    assert all("cookie" not in one.headers for one in server.asked)


def test_a_ca_that_is_none(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(EdgedError, match=r"ca\.pem"):
        Web("https://r.example", ca=str(tmp_path / "ca.pem"))
