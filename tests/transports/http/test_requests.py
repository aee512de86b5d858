"""What is asked for over HTTP, and what is answered."""

from __future__ import annotations

import gzip
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.access.gate import Access
from edged.access.policy import Policy, build_rule
from edged.config.access import RuleConfig
from edged.config.listen import HttpConfig, SharedMemoryConfig
from edged.errors import QueueFullError, RunError
from edged.messages import InferResponse, SequencedRequest
from tests.fakes.house import LOOPS, eventually
from tests.fakes.web import INFER, Visitor, Web


@pytest.fixture(params=LOOPS)
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path / "h", LOOPS[request.param])
    yield made.start()
    made.stop()
    assert made.trouble == []


@pytest.fixture
def visitor(web: Web) -> Iterator[Visitor]:
    made = Visitor(web.path)
    yield made
    made.close()


PATH = "/v2/models/m/infer"


class TestPages:
    @pytest.mark.parametrize(
        ("path", "document"),
        [
            ("/v2", {"name": "fake", "extensions": ["generate"]}),
            ("/v2/health/live", {"live": True}),
            ("/v2/health/ready", {"live": True, "ready": True}),
            ("/v2/models/m/versions/3", {"model": "m", "version": "3"}),
            ("/v2/models/m/ready", {"ready": "m", "version": None}),
            ("/v2/models/m/config", {"config": "m", "version": None}),
            ("/v2/models/stats", {"stats": None, "version": None}),
            ("/v2/models/m/stats", {"stats": "m", "version": None}),
        ],
    )
    def test_each(self, visitor: Visitor, path: str, document: Any) -> None:
        assert visitor.ask("GET", path) == (200, document)

    def test_index(self, visitor: Visitor) -> None:
        assert visitor.ask("POST", "/v2/repository/index") == (200, [{"ready": False}])
        body = b'{"ready":true,"more":1}'
        assert visitor.ask("POST", "/v2/repository/index", body) == (200, [{"ready": True}])
        assert visitor.ask("POST", "/v2/repository/index", b'{"ready":3}')[0] == 400

    def test_figures(self, visitor: Visitor) -> None:
        assert visitor.ask("GET", "/metrics", Accept="a") == (200, b"figures for a")

    def test_not_ready(self, web: Web, visitor: Visitor) -> None:
        web.pages.reasons = {"m": "it is loading"}
        status, document = visitor.ask("GET", "/v2/health/ready")
        assert status == 503
        assert document == {"live": True, "ready": False, "not_ready": {"m": "it is loading"}}

    def test_errors(self, visitor: Visitor) -> None:
        status, document = visitor.ask("GET", "/v2/models/nope")
        assert status == 404
        assert document["error"].startswith("Request for unknown model")
        assert visitor.ask("GET", "/nope") == (404, {"error": "Not Found"})

    def test_what_breaks_is_told_without_its_words(self, web: Web, visitor: Visitor) -> None:
        web.pages.trouble = ZeroDivisionError("/secret/path")
        status, document = visitor.ask("GET", "/v2")
        assert status == 500
        assert "secret" not in document["error"]
        web.pages.trouble = None
        assert visitor.ask("GET", "/v2")[0] == 200

    @pytest.mark.hostile("B14 PUT, DELETE, TRACE and CONNECT everywhere")
    @pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "PATCH", "HEAD", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/v2", PATH, "/v2/repository/index", "/metrics"])
    def test_other_methods(self, web: Web, visitor: Visitor, method: str, path: str) -> None:
        visitor.request(method, path)
        response = visitor.getresponse()
        assert response.status == 405
        assert response.headers["Allow"] in ("GET", "POST")
        assert web.door.requests == []

    @pytest.mark.hostile("B12 load and unload through the inference socket")
    @pytest.mark.parametrize(
        "path",
        ["/v2/repository/models/m/load", "/v2/repository/models/m/unload", "/v2/logging"],
    )
    def test_what_only_administrators_may(self, visitor: Visitor, path: str) -> None:
        status, document = visitor.ask("POST", path, b"{}")
        assert status == 403
        assert "not allowed" in document["error"]

    def test_shared_memory_is_off(self, visitor: Visitor) -> None:
        for method, path in (
            ("POST", "/v2/systemsharedmemory/region/r/register"),
            ("POST", "/v2/systemsharedmemory/unregister"),
            ("GET", "/v2/systemsharedmemory/status"),
        ):
            status, document = visitor.ask(method, path, b'{"key":"/etc/passwd","byte_size":1}')
            assert status == 403
            assert "listen.shared_memory" in document["error"]
        asked = {"name": "x", "shape": [1], "datatype": "FP32"}
        asked["parameters"] = {"shared_memory_region": "r", "shared_memory_byte_size": 4}
        status, document = visitor.ask("POST", PATH, json.dumps({"inputs": [asked]}).encode())
        assert status == 403
        assert "listen.shared_memory" in document["error"]
        assert visitor.ask("POST", "/v2/cudasharedmemory/region/r/register", b"{}")[0] == 501
        assert "system_shared_memory" not in visitor.ask("GET", "/v2")[1].get("extensions", ())

    def test_memory_by_name_needs_a_right_of_its_own(self, web: Web, visitor: Visitor) -> None:
        path, body = (
            "/v2/systemsharedmemory/region/r/register",
            b'{"key":"edged-none","byte_size":1}',
        )
        web.call(web.server.memory.allow, SharedMemoryConfig())
        assert visitor.ask("POST", path, body)[0] == 400, "there is none, but it may be asked for"
        for verbs, status in ((("infer",), 403), (("infer", "shared_memory"), 400)):
            rule = RuleConfig(users=(str(os.getuid()),), allow=verbs)
            policy = Policy((build_rule(rule, "rules[0]", int, int),))
            web.call(web.server.gate.follow, Access(policy))
            assert visitor.ask("POST", path, body)[0] == status
            assert visitor.ask("GET", "/v2/systemsharedmemory/status") == (200, [])

    def test_a_page_in_a_browser(self, web: Web, visitor: Visitor) -> None:
        assert visitor.ask("POST", PATH, INFER, Origin="https://evil.example")[0] == 403
        assert web.door.requests == []


class TestInference:
    def test_json(self, web: Web, visitor: Visitor) -> None:
        status, document = visitor.ask("POST", "/v2/models/m/versions/4/infer", INFER)
        assert status == 200
        assert document["model_version"] == "7"
        assert document["outputs"][0]["data"] == [1, 2]
        (request,) = web.door.requests
        assert (request.model, request.release, request.deadline_ns) == ("m", 4, None)
        assert request.origin.startswith("http:")

    def test_binary(self, visitor: Visitor) -> None:
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
        head = {
            "inputs": [{**tensor, "parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
        text, blob = json.dumps(head).encode(), np.float32([1, 2]).tobytes()
        length = str(len(text))
        status, data = visitor.ask(
            "POST", PATH, text + blob, Inference_Header_Content_Length=length
        )
        assert status == 200
        count = int(visitor.headers["Inference-Header-Content-Length"])
        assert data[count:] == blob
        assert json.loads(data[:count])["outputs"][0]["parameters"] == {"binary_data_size": 8}

    def test_nothing_but_a_tensor(self, visitor: Visitor) -> None:
        blob = np.float32([[1, 2], [3, 4]]).tobytes()
        status, data = visitor.ask("POST", PATH, blob, Inference_Header_Content_Length="0")
        assert status == 200
        assert data.endswith(blob)

    @pytest.mark.hostile("B6 a length of the JSON that is too large, negative or text")
    @pytest.mark.parametrize("length", ["999999", "-1", "x", "1e3", "+5", " "])
    def test_wrong_lengths(self, web: Web, visitor: Visitor, length: str) -> None:
        status, document = visitor.ask("POST", PATH, INFER, Inference_Header_Content_Length=length)
        assert status == 400
        assert "Inference-Header-Content-Length" in document["error"]
        assert web.door.requests == []

    def test_parameters(self, web: Web, visitor: Visitor) -> None:
        before_ns = time.monotonic_ns()
        body = json.loads(INFER) | {"parameters": {"timeout": 5_000_000, "sequence_id": "s"}}
        assert visitor.ask("POST", PATH, json.dumps(body).encode())[0] == 200
        (request,) = web.door.requests
        assert request.deadline_ns is not None
        assert 5e9 <= request.deadline_ns - before_ns <= 15e9
        assert isinstance(request, SequencedRequest)
        assert request.sequence.id == "s"

    def test_classes(self, visitor: Visitor) -> None:
        wanted = [{"name": "x", "parameters": {"classification": 1}}]
        body = json.dumps(json.loads(INFER) | {"outputs": wanted}).encode()
        status, document = visitor.ask("POST", PATH, body)
        assert status == 200
        assert document["outputs"][0]["data"] == ["2.000000:1:b"]

    def test_errors_of_the_model(self, web: Web, visitor: Visitor) -> None:
        web.door.is_holding = True
        visitor.request("POST", PATH, INFER)
        eventually(lambda: web.door.held)
        (_, on_response), web.door.held = web.door.held[0], []
        error = QueueFullError("full", retry_after_ns=2_000_000_000)
        web.call(on_response, InferResponse("m", 0, 1, error=error), True)
        response = visitor.getresponse()
        assert response.status == 503
        assert response.headers["Retry-After"] == "2"
        assert "Exceeds maximum queue size" in json.loads(response.read())["error"]

    def test_an_answer_that_cannot_be_said(self, web: Web, visitor: Visitor) -> None:
        web.door.is_holding = True
        visitor.request("POST", PATH, INFER)
        eventually(lambda: web.door.held)
        (_, on_response), web.door.held = web.door.held[0], []
        strange = InferResponse("m", 1, 1, {"x": np.array(["text"])})
        web.call(on_response, strange, True)
        assert visitor.getresponse().status == 500

    def test_a_part_is_no_answer(self, web: Web, visitor: Visitor) -> None:
        web.door.is_holding = True
        visitor.request("POST", PATH, INFER)
        eventually(lambda: web.door.held)
        (_, on_response), web.door.held = web.door.held[0], []
        web.call(on_response, InferResponse("m", 1, 1, {"x": np.float32([1])}), False)
        web.call(on_response, InferResponse("m", 1, 1, error=RunError("broke")), True)
        response = visitor.getresponse()
        assert (response.status, json.loads(response.read())) == (500, {"error": "broke"})

    def test_who_goes_withdraws_what_waits(self, web: Web) -> None:
        web.door.is_holding = True
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(web.path))
            head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(INFER)}\r\n\r\n"
            sock.sendall(head.encode() + INFER)
            eventually(lambda: web.door.held)
        eventually(lambda: web.door.cancelled == 1)
        eventually(lambda: not web.server.connections)


class TestCompressed:
    @pytest.fixture
    def slow_link(self, web: Web) -> Web:
        return web.start(http=HttpConfig(path=str(web.path), compress=True))

    def test_large_answers_for_who_takes_it(self, slow_link: Web) -> None:
        x = {"name": "x", "shape": [1000], "datatype": "FP32", "data": [1.5] * 1000}
        body = json.dumps({"inputs": [x]}).encode()
        plain = Visitor(slow_link.path)
        status, expected = plain.ask("POST", PATH, body)
        assert status == 200
        for _ in range(3):
            status, data = answer_to(plain, body)
            assert (status, plain.headers["Vary"]) == (200, "Accept-Encoding")
            assert plain.headers["Content-Encoding"] == "gzip"
            assert json.loads(gzip.decompress(data)) == expected
        assert answer_to(plain, INFER)[0] == 200  # small
        assert plain.headers["Content-Encoding"] is None
        plain.close()

    def test_the_length_of_the_json_is_that_of_before(self, slow_link: Web) -> None:
        x = {"name": "x", "shape": [1000], "datatype": "FP32", "data": [1.5] * 1000}
        asked = {"inputs": [x], "parameters": {"binary_data_output": True}}
        visitor = Visitor(slow_link.path)
        data = gzip.decompress(answer_to(visitor, json.dumps(asked).encode())[1])
        length = int(visitor.headers["Inference-Header-Content-Length"])
        assert json.loads(data[:length])["outputs"][0]["parameters"]["binary_data_size"] == 4000
        assert len(data) == length + 4000
        visitor.close()

    def test_not_unless_the_operator_says_so(self, web: Web) -> None:
        x = {"name": "x", "shape": [1000], "datatype": "FP32", "data": [1.5] * 1000}
        visitor = Visitor(web.path)
        answer_to(visitor, json.dumps({"inputs": [x]}).encode())
        assert visitor.headers["Content-Encoding"] is None
        visitor.close()


def answer_to(visitor: Visitor, body: bytes) -> tuple[int, bytes]:
    """As it came."""
    visitor.request("POST", PATH, body, {"Accept-Encoding": "deflate;q=0.5, gzip"})
    response = visitor.getresponse()
    visitor.headers = response.headers
    return response.status, response.read()
