"""HTTP requests as clients, and those who mean harm, send them."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.protocol.http_get import RefusedError
from edged.protocol.http_reader import HEAD_CAP_BYTES, HEADERS_CAP, HttpReader

HOST = b"Host: a\r\n"
CAP = 1 << 20


def request(headers: bytes = b"", body: bytes = b"", first: bytes = b"POST /x HTTP/1.1") -> bytes:
    return first + b"\r\n" + HOST + headers + b"\r\n" + body


def with_length(body: bytes, headers: bytes = b"") -> bytes:
    return request(headers + b"Content-Length: %d\r\n" % len(body), body)


def refused(data: bytes, step: int = 0) -> tuple[int, str]:
    reader = HttpReader(CAP)
    for start in range(0, len(data), step or len(data)):
        reader.feed(data[start : start + (step or len(data))])
    assert reader.refusal is not None, "it was taken"
    assert reader.feed(request()) == [], "what follows is not read"
    return reader.refusal.status, reader.refusal.text


def refused_packed(body: bytes) -> int:
    (found,) = HttpReader(CAP).feed(with_length(body, b"Content-Encoding: gzip\r\n"))
    with pytest.raises(RefusedError) as caught:
        found.unpack(CAP)
    return caught.value.status


def chunked(*chunks: bytes) -> bytes:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return request(b"Transfer-Encoding: chunked\r\n", parts + b"0\r\n\r\n")


class TestTaken:
    def test_heads_and_bodies(self) -> None:
        reader = HttpReader(CAP)
        data = request(first=b"GET /v2?x=1 HTTP/1.1") + with_length(b"abc") + chunked(b"de", b"f")
        found = reader.feed(data)
        assert [(one.method, one.target, bytes(one.body)) for one in found] == [
            ("GET", "/v2?x=1", b""),
            ("POST", "/x", b"abc"),
            ("POST", "/x", b"def"),
        ]
        assert reader.refusal is None
        assert reader.is_between_requests

    @pytest.mark.parametrize(
        ("version", "header", "keeps"),
        [
            (b"1.1", b"", True),
            (b"1.1", b"Connection: close\r\n", False),
            (b"1.0", b"", False),
            (b"1.0", b"Connection: keep-alive\r\n", True),
        ],
    )
    def test_who_keeps_the_connection(self, version: bytes, header: bytes, keeps: bool) -> None:
        (found,) = HttpReader(CAP).feed(request(header, first=b"GET / HTTP/" + version))
        assert found.keeps_alive is keeps

    @pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"GZIP"])
    def test_compressed(self, coding: bytes) -> None:
        body = (gzip if coding.lower() == b"gzip" else zlib).compress(b"hello " * 1000)
        (found,) = HttpReader(CAP).feed(with_length(body, b"Content-Encoding: %s\r\n" % coding))
        assert found.body == body, "whoever begins it unpacks it"
        found.unpack(CAP)
        assert found.body == b"hello " * 1000
        assert not found.coding

    def test_only_headers_that_somebody_reads_are_kept(self) -> None:
        headers = b"X-A: 1\r\nINFERENCE-header-Content-Length: 7\r\n"
        (found,) = HttpReader(CAP).feed(request(headers))
        assert found.headers == {"host": "a", "inference-header-content-length": "7"}

    def test_a_body_that_is_held_back(self) -> None:
        reader = HttpReader(CAP)
        data = request(b"Expect: 100-continue\r\nContent-Length: 3\r\n")
        assert reader.feed(data) == []
        assert reader.wants_continue
        assert not reader.is_between_requests
        assert [one.body for one in reader.feed(b"abc")] == [b"abc"]
        assert not reader.wants_continue

    def test_nobody_waits_for_a_body_that_is_empty(self) -> None:
        reader = HttpReader(CAP)
        assert len(reader.feed(request(b"Expect: 100-continue\r\nContent-Length: 0\r\n"))) == 1
        assert not reader.wants_continue

    def test_what_came_before_a_refusal_is_given(self) -> None:
        reader = HttpReader(CAP)
        assert len(reader.feed(with_length(b"abc") + b"nonsense\r\n\r\n")) == 1
        assert reader.refusal is not None

    @given(st.lists(st.integers(1, 40), max_size=60))
    def test_however_it_is_cut(self, sizes: list[int]) -> None:
        data = with_length(b"abcdef") + chunked(b"x" * 30, b"y") + request(first=b"GET / HTTP/1.1")
        reader, found, at = HttpReader(CAP), [], 0
        for size in [*sizes, len(data)]:
            found += reader.feed(data[at : at + size])
            at += size
        assert [bytes(one.body) for one in found] == [b"abcdef", b"x" * 30 + b"y", b""]


class TestRefused:
    @pytest.mark.hostile("B2 both Content-Length and Transfer-Encoding")
    def test_two_lengths(self) -> None:
        both = b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"
        assert refused(request(b"".join(both), b"0\r\n\r\n"))[0] == 400
        assert refused(request(b"".join(both[::-1]), b"0\r\n\r\n"))[0] == 400

    @pytest.mark.parametrize(
        "headers",
        [
            b"Content-Length: 3\r\nContent-Length: 3\r\n",
            b"Content-Length: 3\r\nContent-Length: 4\r\n",
            b"Content-Length: -3\r\n",
            b"Content-Length: +3\r\n",
            b"Content-Length: 3, 3\r\n",
            b"Content-Length: 99999999999999999999999\r\n",
            b"Content-Length : 3\r\n",
            b"A: b\r\n c\r\n",
            b"Host: b\r\n",
            b"A b: c\r\n",
            b"A\x00: c\r\n",
            b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
            b"Inference-Header-Content-Length: 3\r\nInference-Header-Content-Length: 4\r\n",
        ],
    )
    def test_heads_that_could_be_read_in_two_ways(self, headers: bytes) -> None:
        assert refused(request(headers, b"abc"))[0] == 400

    @pytest.mark.parametrize("coding", [b"gzip, chunked", b"xchunked"])
    def test_another_coding_of_the_transfer(self, coding: bytes) -> None:
        assert refused(request(b"Transfer-Encoding: %s\r\n" % coding, b"0\r\n\r\n"))[0] == 501

    @pytest.mark.parametrize(
        ("first", "status"),
        [
            (b"GET /", 505),
            (b"\x16\x03\x01", 400),
            (b"GET /\x00 HTTP/1.1", 400),
            (b"GET / HTTP/3.7", 400),
            (b"CONNECT a:1 HTTP/1.1", 405),
            (b"GET /" + b"x" * 3000 + b" HTTP/1.1", 414),
        ],
    )
    def test_first_lines(self, first: bytes, status: int) -> None:
        assert refused(request(first=first))[0] == status

    def test_the_beginning_of_http_2(self) -> None:
        assert refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")[0] == 505

    def test_no_host(self) -> None:
        assert refused(b"GET / HTTP/1.1\r\n\r\n") == (400, "no Host header")

    @pytest.mark.hostile("B11 a megabyte of headers, or ten thousand lines of them")
    @pytest.mark.parametrize("step", [0, 4096])
    def test_endless_heads(self, step: int) -> None:
        assert refused(request(b"A: " + b"x" * (1 << 20)), step)[0] == 431
        assert refused(request(b"A: b\r\n" * 10_000), step)[0] == 431
        assert refused(request(b"A: b\r\n" * (HEADERS_CAP + 1)), step)[0] == 431

    def test_a_head_at_its_cap(self) -> None:
        value = b"x" * (HEAD_CAP_BYTES - 100)
        assert len(HttpReader(CAP).feed(request(b"A: %s\r\n" % value))) == 1

    @pytest.mark.hostile("B1 a body in a million chunks of one byte")
    @pytest.mark.parametrize("step", [0, 6, 4096])
    def test_tiny_chunks(self, step: int) -> None:
        data = request(b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n" * 5000)
        status, text = refused(data, step)
        assert status == 400
        assert "too small" in text

    def test_as_many_chunks_as_somebody_may_send(self) -> None:
        (found,) = HttpReader(CAP).feed(chunked(*[b"x" * 100] * 5000))
        assert len(found.body) == 500_000

    def test_chunks_that_say_more_than_they_hold(self) -> None:
        long = b"3;" + b"x" * 8000 + b"\r\nabc\r\n"
        data = request(b"Transfer-Encoding: chunked\r\n", long * 20)
        assert refused(data, 4096)[0] == 400

    def test_endless_trailers(self) -> None:
        data = chunked(b"abc")[:-2]
        assert refused(data + b"T: x\r\n" * 3000, 4096)[0] == 431
        assert refused(data + b"T: " + b"x" * (1 << 20), 4096)[0] == 400

    def test_a_trailer_is_no_header(self) -> None:
        data = chunked(b"abc")[:-2] + b"Inference-Header-Content-Length: 1\r\n\r\n"
        (found,) = HttpReader(CAP).feed(data)
        assert found.headers == {"host": "a"}

    def test_bodies_over_the_cap(self) -> None:
        status, text = refused(request(b"Content-Length: %d\r\n" % (CAP + 1)))
        assert status == 413
        assert "limits.max_request" in text
        assert refused(chunked(*[b"x" * 60_000] * 20), 65_536)[0] == 413
        assert len(HttpReader(CAP).feed(with_length(b"x" * CAP))) == 1

    @pytest.mark.hostile("B7 a gzip body of 97 kB that holds 100 MB")
    def test_a_bomb(self) -> None:
        bomb = gzip.compress(bytes(100_000_000))
        assert refused_packed(bomb) == 413

    @pytest.mark.parametrize(
        "body",
        [b"", b"not gzip", gzip.compress(b"a")[:-3], gzip.compress(b"a") + b"more"],
        ids=["nothing", "something else", "cut off", "followed"],
    )
    def test_bad_compression(self, body: bytes) -> None:
        assert refused_packed(body) == 400

    def test_unknown_compression(self) -> None:
        assert refused(with_length(b"a", b"Content-Encoding: br\r\n"))[0] == 415

    def test_another_expectation(self) -> None:
        assert refused(with_length(b"a", b"Expect: a-pony\r\n"))[0] == 417
