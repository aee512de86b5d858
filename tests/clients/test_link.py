"""The connection that threads share: nobody waits for another's answer, and nothing is sent twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.client import Client
from edged.clients.link import Link, NothingSentError, Waiter, _below
from edged.errors import DisconnectedError
from edged.messages import InferRequest
from edged.protocol import native
from tests.fakes.house import House, eventually, houses
from tests.fakes.wire import answer

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    yield from houses("uvloop", tmp_path / "s")


def encode(number: int) -> list:
    return native.encode_infer(number, InferRequest("m", {"x": X}))


def in_thread(work: object) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


class TestThreads:
    def test_an_answer_wakes_its_thread_though_another_reads_on(self, house: House):
        """The thread that reads waits for a slow answer; the quick one of another is not held up."""
        house.start()
        house.door.is_holding = True
        with Client(house.path, timeout=60) as client:
            slow, quick = client.submit("m", x=X), client.submit("m", x=X * 2)
            eventually(lambda: len(house.door.held) == 2)
            reader = in_thread(slow.result)
            eventually(client.link.read_lock.locked)
            sleeper = in_thread(quick.result)
            eventually(lambda: client.link._sleepers)
            house.call(answer, *house.door.held[1])
            sleeper.join(10)
            assert not sleeper.is_alive(), "it waited for the other's answer"
            assert reader.is_alive()
            house.call(answer, *house.door.held[0])
            reader.join(10)
            assert not reader.is_alive()

    def test_who_has_its_answer_leaves_reading_to_another(self, house: House):
        house.start()
        house.door.is_holding = True
        with Client(house.path, timeout=60) as client:
            pending = [client.submit("m", x=X) for _ in range(4)]
            eventually(lambda: len(house.door.held) == 4)
            threads = [in_thread(one.result) for one in pending]
            eventually(lambda: len(client.link._sleepers) == 3)
            for held in list(house.door.held):
                house.call(answer, *held)
                eventually(lambda: any(not thread.is_alive() for thread in threads))
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()

    def test_two_threads_wait_for_one_answer(self, house: House):
        house.start()
        house.door.is_holding = True
        with Client(house.path, timeout=60) as client:
            other, shared = client.submit("m", x=X), client.submit("m", x=X)
            eventually(lambda: len(house.door.held) == 2)
            threads = [in_thread(other.result)]
            eventually(client.link.read_lock.locked)
            threads += [in_thread(shared.result) for _ in range(3)]
            eventually(lambda: len(client.link._sleepers) == 3)
            house.call(answer, *house.door.held[1])
            for thread in threads[1:]:
                thread.join(10)
                assert not thread.is_alive()
            house.call(answer, *house.door.held[0])
            threads[0].join(10)


class TestSending:
    def test_a_connection_that_ended_meanwhile_says_that_nothing_was_sent(self, house: House):
        house.start()
        link = Link(str(house.path), None)
        first = Waiter("m", None)
        link.ask(first, encode)
        link.read_until_done(first)
        for connection in list(house.server.connections):
            house.call(connection.close)
        eventually(lambda: not house.server.connections)
        second = Waiter("m", None)
        with pytest.raises(NothingSentError):
            link.ask(second, encode)
        assert second.error is None
        assert isinstance(link.error, DisconnectedError)
        assert len(house.door.requests) == 1

    def test_the_client_sends_again_what_was_not_sent(self, house: House):
        house.start()
        with Client(house.path) as client:
            for _ in range(5):
                assert client.infer("m", x=X)
                for connection in list(house.server.connections):
                    house.call(connection.close)
                eventually(lambda: not house.server.connections)
        assert len(house.door.requests) == 5

    def test_what_was_sent_is_not_sent_again(self, house: House):
        """It may have run: only the caller knows whether it may run twice."""
        house.start()
        house.door.is_holding = True
        with Client(house.path) as client:
            pending = client.submit("m", x=X)
            eventually(lambda: house.door.held)
            for connection in list(house.server.connections):
                house.call(connection.close)
            with pytest.raises(DisconnectedError):
                pending.result()
        assert len(house.door.requests) == 1

    def test_a_request_that_cannot_be_encoded_leaves_nothing_behind(self, house: House):
        house.start()
        link = Link(str(house.path), None)
        with pytest.raises(ZeroDivisionError):
            link.ask(Waiter("m", None), lambda _: 1 / 0)
        assert not link.waiting
        waiter = Waiter("m", None)
        link.ask(waiter, encode)
        link.read_until_done(waiter)
        assert waiter.infer_result()
        link.drop(DisconnectedError("done"))

    def test_says_who_calls_before_the_first_request(
        self, house: House, caplog: pytest.LogCaptureFixture
    ):
        house.start()
        with caplog.at_level("DEBUG", "edged.uds"), Client(house.path) as client:
            client.infer("m", x=X)
            client.infer("m", x=X)
            assert client.link.server.startswith("edged/")
        assert caplog.text.count("calls itself") == 1


class TestWaiting:
    def test_a_daemon_that_takes_no_connections(self, tmp_path: Path):
        """A stopped daemon: its backlog fills up, and then even connecting waits."""
        path = tmp_path / "full"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(0)
            links: list[Link] = []
            with pytest.raises(DisconnectedError, match="cannot connect"):  # noqa: PT012
                for _ in range(50):
                    links.append(Link(str(path), time.monotonic() + 0.05))
            for link in links:
                link.drop(DisconnectedError("done"))
            assert len(links) < 50

    @pytest.mark.parametrize(
        ("left", "wanted"),
        [(1e-9, 2**-10), (0.03, 2**-6), (1.0, 1.0), (12.0, 8.0), (1e9, 4096.0)],
    )
    def test_a_read_waits_no_longer_than_there_is_time(self, left: float, wanted: float):
        assert _below(left) == wanted

    def test_one_timeout_costs_one_setting(self, house: House):
        house.start()
        link = Link(str(house.path), None)
        for left in (12.0, 11.9, 8.1, 12.0, 31.0):
            link.limit_reads(left)
            assert link._limit_s == 8.0
        link.limit_reads(7.9)
        assert link._limit_s == 4.0
        link.limit_reads(None)
        assert link._limit_s == 0.0
        link.limit_reads(100.0)
        assert link._limit_s == 64.0
        link.drop(DisconnectedError("done"))
