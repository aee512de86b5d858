"""A connection that asks the same again: the same answers, the short way; and when it is not taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edged.errors import ModelNotReadyError, RunError
from edged.messages import InferResponse
from edged.specs import Duration
from edged.transports import awake
from edged.transports.http import peer as http_peer
from edged.transports.http import repeats
from edged.transports.http.gathering import Gatherings
from tests.fakes.clock import on_loop, until
from tests.fakes.house import LOOPS, eventually
from tests.fakes.web import Web, drained
from tests.fakes.wire import EchoCall
from tests.protocol.test_http_repeat import X, post, read
from tests.serving.test_rollout import both, canary, house


@pytest.fixture(params=LOOPS)
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path / "h", LOOPS[request.param])
    yield made
    made.stop()
    assert made.trouble == []


@pytest.fixture
def sock(web: Web) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(10)
        yield made


def ask(sock: socket.socket, data: bytes) -> bytes:
    """One whole answer."""
    sock.sendall(data)
    return answered(sock)


def answered(sock: socket.socket) -> bytes:
    """The next whole answer."""
    answer = b""
    while True:
        more = sock.recv(65536)
        assert more, answer
        answer += more
        head, end, body = answer.partition(b"\r\n\r\n")
        if end and len(body) == int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]):
            return answer


def answers(sock: socket.socket, *numbers: int) -> None:
    for number in numbers:
        assert ask(sock, post(X * number)).endswith((X * number).tobytes())


class TestShortWay:
    def test_in_turn_with_others(self, web: Web, sock: socket.socket) -> None:
        web.start()
        sock.connect(str(web.path))
        answers(sock, *range(1, 20))
        assert web.door.prepared == 1
        assert (web.server.requests, web.door.lone) == (19, [])
        # In between anything else, also in pieces and several at once.
        assert b"200 OK" in ask(sock, b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
        answers(sock, 5)
        sock.sendall(post(X)[:50])
        assert ask(sock, post(X)[50:]).endswith(X.tobytes())
        first, second = post(X * 2), post(X * 3, headers="Connection: close\r\n")
        sock.sendall(first + second)
        assert drained(sock).count(b"200 OK") == 2

    @pytest.mark.parametrize("is_quiet", [False, True], ids=["in turn", "alone"])
    def test_each_with_an_id_of_its_own(
        self, web: Web, sock: socket.socket, monkeypatch: pytest.MonkeyPatch, is_quiet: bool
    ) -> None:
        """It is echoed, and says who asks, which may keep it on one side of a rollout."""
        web.start()
        web.door.is_quiet = is_quiet
        askers: list[object] = []
        prepare = web.door.prepare
        monkeypatch.setattr(
            web.door, "prepare", lambda what: [prepare(what), askers.append(what.asker)][0]
        )
        sock.connect(str(web.path))
        ids = [f"{number:04}" for number in range(20)]
        for request_id in ids:
            assert f'"id":"{request_id}"'.encode() in ask(sock, post(X, id=request_id))
        made = [{"id": request_id, "binary_data_output": True} for request_id in ids]
        assert (askers, web.door.keys) == (made[1:2], made[2:])
        assert len(web.door.lone) == (18 if is_quiet else 0)

    def test_alone(self, web: Web, sock: socket.socket) -> None:
        web.start()
        web.door.is_quiet = True
        sock.connect(str(web.path))
        answers(sock, *range(1, 20))
        assert len(web.door.lone) == 17
        assert web.door.bound == 1
        assert web.door.lone[0].startswith("http:")

    def test_what_cannot_be_bound_is_asked_all_the_same(
        self, web: Web, sock: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(EchoCall, "bind", lambda *_: None)
        web.start()
        web.door.is_quiet = True
        sock.connect(str(web.path))
        answers(sock, *range(1, 10))
        assert (web.door.lone, len(web.door.requests)) == ([], 9)

    def test_a_run_that_goes_on_in_a_worker(self, web: Web, sock: socket.socket) -> None:
        web.start()
        web.door.is_quiet = web.door.is_late = True
        sock.connect(str(web.path))
        answers(sock, *range(1, 6))
        assert web.door.adopted == 3

    def test_errors_are_answered(self, web: Web, sock: socket.socket) -> None:
        web.start()
        sock.connect(str(web.path))
        answers(sock, 1, 2, 3)
        web.door.error = RunError("m r7: it cannot add")
        assert b"it cannot add" in ask(sock, post(X))
        answers(sock, 4, 5, 6)

    @pytest.mark.parametrize("part", ["answer_alone", "gathered", "submit"])
    def test_a_fault_of_ours_is_answered_and_the_connection_stays(
        self, web: Web, sock: socket.socket, monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        web.start()
        web.door.is_quiet = part == "answer_alone"
        sock.connect(str(web.path))
        answers(sock, *range(1, 8))

        def breaks(*_: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(repeats.Repeats, part, breaks)
            answer = ask(sock, post(X))
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert b"could not be handled; see the log" in answer
        prepared = web.door.prepared
        answers(sock, *range(1, 4))
        assert web.door.prepared == prepared + 1, "nothing of it is used again"

    def test_what_was_swapped_is_looked_up_anew(self, web: Web, sock: socket.socket) -> None:
        """The first request after a change goes the long way, where it may be refused."""
        web.start()
        web.door.is_quiet = True
        sock.connect(str(web.path))
        answers(sock, *range(1, 6))
        lone = len(web.door.lone)
        web.door.is_swapped = True
        before = len(web.door.requests)
        answers(sock, 6)
        assert (len(web.door.lone), len(web.door.requests)) == (lone, before + 1)

    def test_what_cannot_be_prepared_goes_the_long_way(self, web: Web, sock: socket.socket) -> None:
        web.start()
        web.door.refusal = ModelNotReadyError("m: loading")
        sock.connect(str(web.path))
        answers(sock, *range(1, 6))
        assert (web.door.lone, len(web.door.requests)) == ([], 5)

    def test_a_client_that_goes_while_it_waits(self, web: Web, sock: socket.socket) -> None:
        web.start()
        sock.connect(str(web.path))
        answers(sock, 1, 2, 3)
        web.door.is_holding = True
        sock.sendall(post(X))
        eventually(lambda: web.door.held)
        sock.close()
        eventually(lambda: web.door.cancelled == 1)

    def test_the_second_waits_for_the_first(self, web: Web, sock: socket.socket) -> None:
        web.start()
        sock.connect(str(web.path))
        answers(sock, 1, 2, 3)
        web.door.is_holding = True
        sock.sendall(post(X))
        eventually(lambda: len(web.door.held) == 1)
        sock.sendall(post(X * 2) + post(X * 3, headers="Connection: close\r\n"))
        web.door.is_holding = False
        web.call(web.door.release_all)
        data = drained(sock)
        assert data.count(b"200 OK") == 3
        assert data.index((X * 2).tobytes()) < data.index((X * 3).tobytes())


class TestAwake:
    """As over the native socket: who is alone is waited for awake, and nothing else changes."""

    @pytest.fixture(autouse=True)
    def _on_two_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})

    def test_answers_one_after_another(
        self, web: Web, sock: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads: list[int] = []
        readv = awake.os.readv

        def noted(fd: int, buffers: tuple) -> int:
            reads.append(readv(fd, buffers))
            return reads[-1]

        monkeypatch.setattr(awake.os, "readv", noted)
        monkeypatch.setattr(http_peer, "AWAKE_NS", 10**9)
        web.start(busy_wait=Duration(1_000_000))
        sock.connect(str(web.path))
        answers(sock, *range(1, 200))
        assert reads, "it went to sleep each time"
        answers(sock, 1)
        sock.sendall(post(X)[:50])
        assert ask(sock, post(X)[50:]).endswith(X.tobytes())
        assert ask(sock, post(X * 2, headers="Connection: close\r\n")).endswith((X * 2).tobytes())
        assert sock.recv(1) == b""

    def test_others_have_their_turn(self, web: Web, sock: socket.socket) -> None:
        web.start(busy_wait=Duration(1_000_000))
        with socket.socket(socket.AF_UNIX) as other:
            other.settimeout(10)
            sock.connect(str(web.path))
            other.connect(str(web.path))
            for number in range(1, 40):
                answers(sock, number)
                answers(other, number)

    def test_a_client_that_goes_meanwhile(self, web: Web) -> None:
        web.start(busy_wait=Duration(1_000_000))
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(10)
                one.connect(str(web.path))
                answers(one, 2)
        eventually(lambda: not web.server.connections)

    def test_never_when_the_operator_says_so(
        self, web: Web, sock: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(awake.os, "readv", None)
        web.start(busy_wait=Duration(0))
        sock.connect(str(web.path))
        answers(sock, 2, 3)


def test_the_tensors_are_those_of_this_request(web: Web, sock: socket.socket) -> None:
    """Also when an answer is kept: views of one request are not those of the next."""
    web.start()
    sock.connect(str(web.path))
    answers(sock, *range(1, 5))
    for number, request in enumerate(web.door.requests, 1):
        np.testing.assert_array_equal(request.inputs["x0"], X * number)


@on_loop
async def test_beside_a_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared once; each answer is of the side that its head names, also the short way."""
    plane, _ = house(canary(50), *both())
    known = repeats.Repeats(plane, Gatherings())
    x = np.float32([[1, 2, 3, 4]])

    def data(number: int) -> bytes:
        return post(x * number).replace(b'"x0"', b'"x" ')

    for number in range(2):
        request, asked = read(data(number))
        known.notice(request, asked, "gate", None)
    prepared: list[object] = []
    monkeypatch.setattr(plane, "prepare", prepared.append)
    found: list[tuple[int, bytes]] = []
    short = 0
    for number in range(60):
        assert known.fits(data(number))
        answer = known.answer_alone(data(number), "http:7", found)
        if answer is None:

            def respond(_: object, __: object, response: InferResponse, number: int = number):
                wanted = x * number * (2 if response.release == 1 else 3)
                found.append((response.release, response.outputs["y"].tobytes()))
                assert found[-1][1] == wanted.tobytes()

            known.submit(data(number), "http:7", respond)
            await until(lambda number=number: len(found) == number + 1)
            continue
        short += 1
        version = int(answer.partition(b'"model_version":"')[2].partition(b'"')[0])
        found.append((version, answer[-x.nbytes :]))
        assert found[-1][1] == (x * number * (2 if version == 1 else 3)).tobytes()
    assert {release for release, _ in found} == {1, 2}
    assert (prepared, short > 40) == ([], True)
    # Another table: the long way looks everything up.
    plane.swap(replace(plane.table))
    assert not known.fits(data(1))
