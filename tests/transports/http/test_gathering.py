"""Several connections in one turn of the loop: one run, each its own answer; and who asks apart."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edged.access import guard, visit
from edged.access.gate import Access
from edged.access.policy import Policy, build_rule
from edged.access.quotas import Quota
from edged.config.access import RuleConfig
from edged.errors import RunError
from tests.fakes.house import LOOPS, eventually
from tests.fakes.web import Web
from tests.fakes.wire import EchoCall
from tests.protocol.test_http_repeat import X, post
from tests.transports.http.test_repeats import answered, answers, ask

COUNT = 5


@pytest.fixture(params=LOOPS)
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path / "h", LOOPS[request.param])
    made.door.gathers = 8
    made.start()
    yield made
    made.stop()
    assert made.trouble == []


@pytest.fixture
def socks(web: Web) -> Iterator[list[socket.socket]]:
    """Connections whose requests are known."""
    with ExitStack() as stack:
        made = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(COUNT)]
        for sock in made:
            sock.settimeout(10)
            sock.connect(str(web.path))
            answers(sock, 1, 2, 3)
        web.door.together.clear()
        web.door.requests.clear()
        yield made


def at_once(web: Web, socks: list[socket.socket], *requests: bytes) -> None:
    """Send while the loop stands still: it finds all of them in one turn."""
    stands, go_on = threading.Event(), threading.Event()

    def stand() -> None:
        stands.set()
        go_on.wait(10)

    web.loop.call_soon_threadsafe(stand)
    assert stands.wait(10)
    for sock, data in zip(socks, requests, strict=True):
        sock.sendall(data)
    go_on.set()


def all_answered(web: Web, socks: list[socket.socket], first: int = 1) -> None:
    numbers = range(first, first + len(socks))
    at_once(web, socks, *[post(X * number) for number in numbers])
    for sock, number in zip(socks, numbers, strict=True):
        assert answered(sock).endswith((X * number).tobytes())


def test_each_with_an_id_of_its_own(web: Web, socks: list[socket.socket]) -> None:
    numbers = range(1, COUNT + 1)
    for sock in socks:
        for number in numbers:
            assert b'"id":"%03d"' % number in ask(sock, post(X, id=f"{number:03}"))
    web.door.together.clear()
    at_once(web, socks, *[post(X * number, id=f"{number:03}") for number in numbers])
    for sock, number in zip(socks, numbers, strict=True):
        answer = answered(sock)
        assert answer.endswith((X * number).tobytes())
        assert b'"id":"%03d"' % number in answer
    assert web.door.together == [COUNT]


def test_one_run_for_all(web: Web, socks: list[socket.socket]) -> None:
    before = web.server.requests
    all_answered(web, socks)
    all_answered(web, socks, 30)
    assert (web.door.together, web.door.requests) == ([COUNT, COUNT], [])
    assert web.server.requests == before + 2 * COUNT


def test_no_more_than_may_run_together(web: Web, socks: list[socket.socket]) -> None:
    for sock in socks:
        sock.close()
    eventually(lambda: not web.server.connections)
    web.door.gathers = 2
    with ExitStack() as stack:
        made = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(COUNT)]
        for sock in made:
            sock.settimeout(10)
            sock.connect(str(web.path))
            answers(sock, 1, 2, 3)
        web.door.together.clear()
        all_answered(web, made)
        assert web.door.together == [2, 2, 1]


def test_one_alone_is_answered_too(web: Web, socks: list[socket.socket]) -> None:
    all_answered(web, socks)
    answers(socks[0], 4, 5, 6)
    assert web.door.together == [COUNT, 1, 1, 1]


def test_a_run_that_fails_is_repeated_one_by_one(web: Web, socks: list[socket.socket]) -> None:
    all_answered(web, socks)
    web.door.error = RunError("m r7: it cannot add")
    at_once(web, socks, *[post(X)] * COUNT)
    found = [answered(sock) for sock in socks]
    assert [b"it cannot add" in one for one in found].count(True) == 1
    assert [one.endswith(X.tobytes()) for one in found].count(True) == COUNT - 1
    all_answered(web, socks)


def test_what_was_swapped_is_looked_up_anew(web: Web, socks: list[socket.socket]) -> None:
    all_answered(web, socks)
    web.door.is_swapped = True
    all_answered(web, socks)
    assert len(web.door.requests) == COUNT
    web.door.is_swapped = False
    for sock in socks:
        answers(sock, 1, 2, 3)
    web.door.together.clear()
    all_answered(web, socks)
    assert web.door.together == [COUNT]


def test_who_leaves_meanwhile_is_not_waited_for(web: Web, socks: list[socket.socket]) -> None:
    all_answered(web, socks)
    web.door.is_holding = True  # what is asked together is asked one by one, and waits
    at_once(web, socks, *[post(X)] * COUNT)
    eventually(lambda: len(web.door.held) == COUNT)
    socks.pop().close()
    eventually(lambda: web.door.cancelled == 1)
    web.door.is_holding = False
    web.call(web.door.release_all)
    for sock in socks:
        assert answered(sock).endswith(X.tobytes())


def test_what_a_client_may_is_looked_at_again(
    web: Web, socks: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights that change while requests wait for their run are those that hold for it.

    Limits are those that their connections were made with.
    """
    all_answered(web, socks)
    web.server.max_request_bytes = 64  # room for its tensors, not for all of it

    def review() -> None:
        for connection in web.server.connections:
            connection._requests.review()

    before_the_run(monkeypatch, review)
    at_once(web, socks, *[post(X)] * COUNT)
    for sock in socks:
        assert answered(sock).endswith(X.tobytes())
    assert web.door.together == [COUNT]  # nobody is known any more, so all asked anew
    assert len(web.door.requests) == COUNT


def test_more_behind_a_request(web: Web, socks: list[socket.socket]) -> None:
    """What follows before the answer waits, whole or in pieces."""
    all_answered(web, socks)
    at_once(web, socks, *[post(X)] * COUNT)
    second = post(X * 9)
    for sock in socks:
        sock.sendall(second[:60])
    for sock in socks:
        assert answered(sock).endswith(X.tobytes())
        sock.sendall(second[60:])
        assert answered(sock).endswith((X * 9).tobytes())


def test_the_end_of_the_server(
    web: Web, socks: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before the end is answered, and then it is over."""
    all_answered(web, socks)
    before_the_run(monkeypatch, web.server.close)
    at_once(web, socks, *[post(X)] * COUNT)
    for sock in socks:
        assert answered(sock).endswith(X.tobytes())
        assert sock.recv(1) == b""


def before_the_run(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Have this done when requests have been gathered and are not run yet."""

    def enlist(_: EchoCall, runs: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(work)
        loop.call_soon(runs.pump)

    monkeypatch.setattr(EchoCall, "enlist", enlist)


def test_rules_and_bounds_hold(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks too much is told so among others too, and keeps nobody from being answered."""
    user, now_ns = os.getuid(), time.monotonic_ns() + 10**10
    stands = SimpleNamespace(monotonic_ns=lambda: now_ns)  # nothing comes back with time
    for module in (guard, visit):
        monkeypatch.setattr(module, "time", stands)
    rule = RuleConfig(users=(str(user),), models=("m",), allow=("infer",))
    quota = Quota("quotas[0]", frozenset({user}), rate=1, burst=3 * COUNT + 3)
    access = Access(Policy((build_rule(rule, "r", int, int),)), (quota,))
    web.call(web.server.gate.follow, access)
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(COUNT)]
        for sock in socks:
            sock.settimeout(10)
            sock.connect(str(web.path))
            answers(sock, 1, 2, 3)
        web.door.together.clear()
        at_once(web, socks, *[post(X)] * COUNT)
        found = [answered(sock) for sock in socks]
        assert sum(b" 429 " in one for one in found) == COUNT - 3
        assert sum(one.endswith(X.tobytes()) for one in found) == 3
        assert web.door.together == [3]
        web.call(web.server.gate.follow, Access(Policy(())))
        at_once(web, socks, *[post(X)] * COUNT)
        assert all(b" 403 " in answered(sock) for sock in socks)
