"""One client's requests: their order, their time, and how connections end."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.protocol import http_reader
from edged.specs import Duration, Size
from tests.fakes.house import LOOPS, eventually
from tests.fakes.web import INFER, Visitor, Web, drained, raw

PATH = "/v2/models/m/infer"


@pytest.fixture(params=LOOPS)
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path / "h", LOOPS[request.param])
    yield made
    made.stop()
    assert made.trouble == []


def post(body: bytes = INFER, headers: str = "") -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def packed(body: bytes) -> bytes:
    return post(gzip.compress(body), "Content-Encoding: gzip\r\n")


def noise(size: int) -> bytes:
    """White space of which a gzip makes little less."""
    return bytes(random.Random(1).choices(b" \t\r\n", k=size * 4))


def connected(web: Web) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(web.path))
    sock.settimeout(10)
    return sock


LAST = b"GET /v2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def statuses(data: bytes) -> list[int]:
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


class TestOrder:
    def test_one_connection_for_many(self, web: Web) -> None:
        web.start()
        visitor = Visitor(web.path)
        for _ in range(50):
            assert visitor.ask("POST", PATH, INFER)[0] == 200
        visitor.close()
        assert (web.server.accepted, web.server.requests) == (1, 50)

    def test_a_small_answer_is_one_write(self, web: Web) -> None:
        web.start()
        with connected(web) as sock:
            sock.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert sock.recv(65536).endswith(b'{"live":true}')

    @pytest.mark.parametrize("step", [1, 7, 10_000])
    def test_requests_in_a_row(self, web: Web, step: int) -> None:
        web.start()
        data = post() + b"GET /nope HTTP/1.1\r\nHost: a\r\n\r\n" + post() + LAST
        answer = raw(web.path, *(data[at : at + step] for at in range(0, len(data), step)))
        assert statuses(answer) == [200, 404, 200, 200]

    def test_the_second_waits_for_the_first(self, web: Web) -> None:
        web.start()
        web.door.is_holding = True
        with connected(web) as sock:
            sock.sendall(post() + LAST)
            eventually(lambda: len(web.door.held) == 1)
            assert web.server.requests == 1
            web.call(web.door.release_all)
            assert statuses(drained(sock)) == [200, 200]

    def test_a_page_that_takes_its_time(self, web: Web) -> None:
        web.start()
        web.pages.gate = asyncio.Event()
        with connected(web) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" + LAST)
            eventually(lambda: web.server.requests == 1)
            web.call(web.pages.gate.set)
            assert statuses(drained(sock)) == [200, 200]

    def test_who_stops_writing_is_gone(self, web: Web) -> None:
        web.start()
        web.door.is_holding = True
        with connected(web) as sock:
            sock.sendall(post())
            eventually(lambda: web.door.held)
            sock.shutdown(socket.SHUT_WR)
            assert drained(sock) == b""
        assert web.door.cancelled == 1

    def test_large_tensors(self, web: Web) -> None:
        web.start(max_unread=Size(1 << 20))
        head = {
            "inputs": [
                {"name": "x", "shape": [1 << 22], "datatype": "UINT8",
                 "parameters": {"binary_data_size": 1 << 22}}
            ],
            "parameters": {"binary_data_output": True},
        }  # fmt: skip
        text, blob = json.dumps(head).encode(), bytes(range(256)) * (1 << 14)
        visitor = Visitor(web.path)
        length = str(len(text))
        for _ in range(3):
            status, data = visitor.ask(
                "POST", PATH, text + blob, Inference_Header_Content_Length=length
            )
            assert status == 200
            assert data.endswith(blob)
        visitor.close()

    def test_old_clients(self, web: Web) -> None:
        web.start()
        assert statuses(raw(web.path, b"GET /v2 HTTP/1.0\r\n\r\n")) == [200]


class TestRefused:
    def test_what_came_before_is_answered(self, web: Web) -> None:
        web.start()
        assert statuses(raw(web.path, post() + b"nonsense\r\n\r\n" + post())) == [200, 400]

    def test_what_came_before_is_waited_for(self, web: Web) -> None:
        web.start()
        web.door.is_holding = True
        with connected(web) as sock:
            sock.sendall(post() + b"nonsense\r\n\r\n")
            eventually(lambda: web.door.held)
            web.call(web.door.release_all)
            assert statuses(drained(sock)) == [200, 400]

    def test_too_large(self, web: Web) -> None:
        web.start(max_request=Size(1024))
        assert statuses(raw(web.path, post(bytes(1025)))) == [413]

    def test_too_many(self, web: Web) -> None:
        web.start(max_connections=2)
        with connected(web) as one, connected(web):
            eventually(lambda: web.server.accepted == 2)
            answer = raw(web.path)
            assert statuses(answer) == [503]
            assert b"Retry-After: 1" in answer
            one.sendall(LAST)
            assert statuses(drained(one)) == [200]
        assert web.server.refused == 1


class TestCompressed:
    def test_what_waits_in_line_is_not_unpacked(
        self, web: Web, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Three in a row of 64 kB each became 192 MB before the first was begun."""
        unpacked: list[str] = []
        whole = http_reader.inflated

        def inflated(data: bytes | bytearray, coding: str, cap: int) -> bytes:
            unpacked.append(threading.current_thread().name)
            return whole(data, coding, cap)

        monkeypatch.setattr(http_reader, "inflated", inflated)
        web.start()
        web.door.is_holding = True
        short, long = packed(INFER), packed(INFER + b" " * 9000 + noise(2000))
        with connected(web) as sock:
            sock.sendall(short * 2 + long * 2 + LAST)
            eventually(lambda: web.door.held)
            assert unpacked == ["web"]
            web.call(setattr, web.door, "is_holding", False)
            web.call(web.door.release_all)
            assert statuses(drained(sock)) == [200] * 5
        assert unpacked[1] == "web"
        assert len(unpacked) == 4
        assert "web" not in unpacked[2:], "a long one is not unpacked on the loop"

    @pytest.mark.parametrize("size", [0, 2000])
    def test_what_follows_a_bad_one_is_not_read(self, web: Web, size: int) -> None:
        web.start(max_request=Size(1 << 20))
        bad = packed(bytes(2 << 20) + noise(size))
        cut = post(gzip.compress(INFER + noise(size))[:-3], "Content-Encoding: gzip\r\n")
        assert statuses(raw(web.path, post() + bad + post() * 3)) == [200, 413]
        assert statuses(raw(web.path, post() + cut + b"nonsense\r\n\r\n")) == [200, 400]

    def test_no_memory_is_said(self, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
        def inflated(*_: object) -> bytes:
            raise MemoryError

        monkeypatch.setattr(http_reader, "inflated", inflated)
        web.start()
        assert statuses(raw(web.path, packed(INFER + noise(2000)) + LAST)) == [503]

    def test_clients_that_go_meanwhile(self, web: Web) -> None:
        web.start()
        for _ in range(20):
            with connected(web) as sock:
                sock.sendall(packed(bytes(1 << 20) + noise(2000)) * 3)
        eventually(lambda: not web.server.connections)


class TestTime:
    def test_a_body_is_asked_for(self, web: Web) -> None:
        web.start()
        with connected(web) as sock:
            head, body = post(headers="Expect: 100-continue\r\n").split(b"\r\n\r\n", 1)
            sock.sendall(head + b"\r\n\r\n")
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(body[:5])
            sock.sendall(body[5:] + LAST)
            assert statuses(drained(sock)) == [200, 200]

    @pytest.mark.hostile("B13 Expect: 100-continue, and then silence")
    def test_a_body_that_never_comes(self, web: Web) -> None:
        web.start(frame_timeout=Duration(50_000_000))
        head = post(headers="Expect: 100-continue\r\n").split(b"\r\n\r\n")[0] + b"\r\n\r\n"
        assert statuses(raw(web.path, head)) == [100, 408]
        eventually(lambda: not web.server.connections)

    @pytest.mark.parametrize("data", [b"G", post()[:40], post()[:-1]])
    def test_a_request_that_never_ends(self, web: Web, data: bytes) -> None:
        web.start(frame_timeout=Duration(50_000_000))
        assert statuses(raw(web.path, post(), data)) == [200, 408]

    def test_a_model_may_take_longer_than_a_request(self, web: Web) -> None:
        web.start(frame_timeout=Duration(20_000_000))
        web.door.is_holding = True
        with connected(web) as sock:
            sock.sendall(post(headers="Connection: close\r\n"))
            eventually(lambda: web.door.held)
            sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.settimeout(10)
            web.call(web.door.release_all)
            assert statuses(drained(sock)) == [200]

    def test_who_does_not_read_is_closed(self, web: Web) -> None:
        web.start(stream_wait=Duration(50_000_000))
        asking = b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n" * 100_000
        with connected(web) as sock:
            with pytest.raises(OSError, match=r"pipe|reset"):
                sock.sendall(asking)
            eventually(lambda: not web.server.connections)

    def test_who_reads_all_but_the_end_is_closed(self, web: Web) -> None:
        """Nothing more is to be written then, and nobody would look at the connection again."""
        web.start(stream_wait=Duration(300_000_000))
        web.door.is_holding = True
        head = {
            "inputs": [
                {"name": "x", "shape": [1 << 22], "datatype": "UINT8",
                 "parameters": {"binary_data_size": 1 << 22}}
            ],
            "parameters": {"binary_data_output": True},
        }  # fmt: skip
        text = json.dumps(head).encode()
        words = f"Inference-Header-Content-Length: {len(text)}\r\nConnection: close\r\n"
        with connected(web) as sock:
            sock.sendall(post(text + bytes(1 << 22), words))
            eventually(lambda: web.door.held)
            (connection,) = web.server.connections
            transport = connection._transport
            web.call(transport.set_write_buffer_limits, 2 << 20, 1 << 20)
            web.call(web.door.release_all)
            # asyncio's writelines forgets to pause whom it writes for, in Python 3.12.1 and 3.13.0.
            web.call(getattr(transport, "_maybe_pause_protocol", int))
            eventually(lambda: connection._is_stuck)
            while connection._is_stuck:
                assert sock.recv(4096)
            eventually(lambda: not web.server.connections)


class TestEnd:
    def test_idle_connections_end_at_once(self, web: Web) -> None:
        web.start()
        with connected(web) as sock:
            eventually(lambda: web.server.connections)
            web.call(web.server.close)
            assert drained(sock) == b""
        web.run(web.server.closed(5))
        assert not web.path.exists()

    def test_what_is_under_way_is_answered(self, web: Web) -> None:
        web.start()
        web.door.is_holding = True
        with connected(web) as sock:
            sock.sendall(post() + post())
            eventually(lambda: web.door.held)
            web.call(web.server.close)
            web.call(web.door.release_all)
            assert statuses(drained(sock)) == [200]
        web.run(web.server.closed(5))
        assert not web.server.connections


def test_who_is_refused_while_sending_can_read_why(web: Web) -> None:
    """And is not waited for much longer."""
    web.start(max_request=Size(1024))
    with connected(web) as sock:
        sock.sendall(post(bytes(1 << 20))[:100])
        assert sock.recv(4096)[9:12] == b"413"
        assert sock.recv(4096) == b""
        for _ in range(64):
            sock.sendall(bytes(1024))
        eventually(lambda: not web.server.connections)
