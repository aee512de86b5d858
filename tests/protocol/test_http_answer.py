"""Answers are whole, and small ones are one piece."""

from __future__ import annotations

import http.client
import io

from edged.protocol.http_answer import BINARY, JOIN_BYTES, encode_answer, encode_error


def parsed(data: bytes) -> tuple[int, dict[str, str], bytes]:
    class Wire:
        def makefile(self, *_: object) -> io.BytesIO:
            return io.BytesIO(data)

    response = http.client.HTTPResponse(Wire())  # type: ignore[arg-type]
    response.begin()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()


def test_a_small_answer_is_one_piece() -> None:
    (piece,) = encode_answer([b"ab", memoryview(b"cd")], 200, BINARY, "X-A: 1\r\n")
    status, headers, body = parsed(bytes(piece))
    assert (status, body) == (200, b"abcd")
    assert headers == {"content-type": BINARY, "content-length": "4", "x-a": "1"}


def test_a_large_one_is_not_copied() -> None:
    large = bytes(JOIN_BYTES + 1)
    pieces = encode_answer([large])
    assert pieces[1] is large
    assert parsed(b"".join(pieces))[2] == large


def test_an_error_in_the_form_that_clients_read() -> None:
    (piece,) = encode_error(404, 'no "model"', "Allow: GET\r\n", keeps_alive=False)
    status, headers, body = parsed(bytes(piece))
    assert status == 404
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert body == b'{"error":"no \\"model\\""}'
