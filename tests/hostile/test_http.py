"""Part B of the catalogue against a daemon in a process of its own, a neighbour beside it."""

from __future__ import annotations

import gzip
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.web import Visitor, raw
from tests.hostile.baseline import bounded_peak, undisturbed
from tests.models import double

INFER = "/v2/models/m/infer"
TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
GOOD = json.dumps({"inputs": [{**TENSOR, "data": [1, 2, 3, 4]}]}).encode()


class WebDaemon(DaemonProcess):
    @property
    def web(self) -> Path:
        return self.directory / "h"

    def head(self) -> str:
        return super().head().replace("listen: {", f"listen: {{http: {{path: {self.web}}}, ")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDaemon]:
    folder = tmp_path_factory.mktemp("web")
    make_bundle(folder / "m.edgb", double(), name="m")
    made = WebDaemon(folder)
    made.write(
        "trust: {require_signatures: false}\nlimits: {frame_timeout: 300ms, max_request: 4MiB}\n"
        "models: {m: {bundle: m.edgb}}\n"
    )
    try:
        yield made.start()
    finally:
        made.stop()


def head(headers: str = "", first: str = f"POST {INFER} HTTP/1.1") -> bytes:
    return f"{first}\r\nHost: a\r\n{headers}\r\n".encode()


def post(body: bytes, headers: str = "") -> bytes:
    return head(f"{headers}Content-Length: {len(body)}\r\n") + body


def deep(count: int) -> bytes:
    nested = "[" * count + "]" * count
    return f'{{"inputs":[{{"name":"x","shape":[1,4],"datatype":"FP32","data":{nested}}}]}}'.encode()


ATTACKS = {
    "tiny chunks": (head("Transfer-Encoding: chunked\r\n") + b"1\r\na\r\n" * 200_000, 400),
    "two lengths": (head("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n", 400),
    "deep": (post(deep(100_000)), 400),
    "not a number": (post(GOOD.replace(b"4]}", b"NaN]}")), 400),
    "out of range": (post(GOOD.replace(b"4]}", b"1e999]}")), 400),
    "growing": (post(GOOD.replace(b"[1, 4]", b"[1, 9000000]").replace(b"FP32", b"FP64")), 413),
    "length": (post(GOOD, "Inference-Header-Content-Length: 99999\r\n"), 400),
    "bomb": (post(gzip.compress(bytes(100_000_000)), "Content-Encoding: gzip\r\n"), 413),
    "long name": (head(first=f"POST /v2/models/{'x' * 1500}/infer HTTP/1.1"), 404),
    "dots": (head(first="POST /v2/models/..%2f..%2fetc%2fpasswd/infer HTTP/1.1"), 400),
    "unknown input": (post(GOOD.replace(b'"x"', b'"z"')), 400),
    "too few": (post(GOOD.replace(b", 4]}", b"]}")), 400),
    "long header": (head("A: " + "x" * 1_000_000 + "\r\n"), 431),
    "many headers": (head("A: b\r\n" * 10_000), 431),
    "unload": (head(first="POST /v2/repository/models/m/unload HTTP/1.1"), 403),
    "silence": (head("Expect: 100-continue\r\nContent-Length: 9\r\n"), 100),
    "trickle": (b"POST /v2/mod", 408),
    "delete": (head(first="DELETE /v2/models/m HTTP/1.1"), 405),
    "not HTTP": (os.urandom(64).replace(b"\r", b"") + b"\r\n\r\n", 400),
}  # fmt: skip


@pytest.mark.slow
def test_every_hostile_request(daemon: WebDaemon) -> None:
    """Each is refused with its status, memory stays, and an honest client is served after it."""
    last = head("Connection: close\r\n", "GET /v2 HTTP/1.1")
    with undisturbed(daemon), bounded_peak(daemon, 96):
        for name, (data, status) in ATTACKS.items():
            # What is answered and kept open ends with the request after it.
            ends = b"" if name in ("silence", "trickle") else last
            answer = raw(daemon.web, data + ends)
            assert answer[9:12] == str(status).encode(), f"{name}: {answer[:200]!r}"
            visitor = Visitor(daemon.web)
            code, document = visitor.ask("POST", INFER, GOOD)
            visitor.close()
            assert code == 200, name
            assert document["outputs"][0]["data"] == [2, 4, 6, 8], name
    assert [one["ready"] for one in daemon.status()["models"]] == [True]


@pytest.mark.slow
def test_clients_that_go_away_at_every_point(daemon: WebDaemon) -> None:
    request = post(GOOD)
    with undisturbed(daemon):
        for at in range(0, len(request) + 1, 3):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(daemon.web))
                sock.sendall(request[:at])
        for _ in range(300):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(daemon.web))
                sock.sendall(request * 20)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
def test_idle_connections_are_refused_at_the_cap(daemon: WebDaemon) -> None:
    with undisturbed(daemon):
        held = []
        try:
            for _ in range(400):
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(str(daemon.web))
                sock.settimeout(20)
                held.append(sock)
            answers = [sock.recv(4096)[9:12] for sock in held[300:]]
            assert set(answers) == {b"503"}
            held[0].sendall(head("Connection: close\r\n", "GET /v2/health/live HTTP/1.1"))
            assert held[0].recv(4096)[9:12] == b"200"
        finally:
            for sock in held:
                sock.close()
        wait_for(
            lambda: (
                raw(daemon.web, head("Connection: close\r\n", "GET /v2 HTTP/1.1"))[9:12] == b"200"
            )
        )
