"""The client's shortest way: what it answers, when it is not gone, and what becomes of the rest."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from edged.client import Client, Prepared
from edged.clients.lane import Lane
from edged.clients.link import Link
from edged.errors import (
    DeadlineExceededError,
    DisconnectedError,
    InvalidRequestError,
    RuntimeFailureError,
    TensorMismatchError,
)
from tests.fakes.house import House, eventually
from tests.fakes.wire import answer

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call of a lane whether it was the way that was gone."""
    seen: list[bool] = []
    ask = Lane.ask

    def noted(self: Lane, tensors: dict, seconds: float | None, key: str | None = None) -> object:
        result = ask(self, tensors, seconds, key)
        seen.append(result is not None)
        return result

    monkeypatch.setattr(Lane, "ask", noted)
    return seen


def prepare(client: Client) -> Prepared:
    """A call that has been made once: then there is a lane."""
    call = client.prepare("m", x=((None, 4), "float32"))
    call(X)
    return call


def test_the_same_answers(house: House, taken: list[bool]):
    house.start()
    house.door.is_quiet = True
    with Client(house.path) as client:
        call = prepare(client)
        for rows in (1, 2, 64, 1):
            x = np.random.default_rng(rows).random((rows, 4), np.float32)
            for result in (call(x), call.infer({"x": x}), call.infer(x=x)):
                np.testing.assert_array_equal(result["x"], x)
                assert list(result) == ["x"]
                assert (result.model, result.release, result.generation) == ("m", 7, 3)
    assert taken == [True] * 12
    assert house.door.lone, "the daemon took its short way as well"
    assert len(house.door.requests) + len(house.door.lone) == 13


def test_an_answer_is_kept(house: House):
    """Its memory is its own, not what the next one is read into."""
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        results = [call(X * n) for n in range(5)]
        for n, result in enumerate(results):
            np.testing.assert_array_equal(result["x"], X * n)


def test_a_strided_array_and_the_other_byte_order(house: House, taken: list[bool]):
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        wide = np.arange(32, dtype=np.float32).reshape(4, 8)
        np.testing.assert_array_equal(call(wide[::2, ::2])["x"], wide[::2, ::2])
        np.testing.assert_array_equal(call(X.astype(">f4"))["x"], X)
    assert taken == [True, False]


def test_what_does_not_fit_is_refused_in_words(house: House, taken: list[bool]):
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        for wrong in (X.astype(float), X[:, :3], X[0], X[:0], np.float32(3)):
            with pytest.raises(TensorMismatchError, match="prepared for"):
                call(wrong)
        with pytest.raises(TensorMismatchError):
            call.infer(y=X)
        with pytest.raises(InvalidRequestError, match="expected a NumPy array"):
            call.infer(x=[1, 2])
        with pytest.raises(InvalidRequestError, match="timeout"):
            call.infer(x=X, timeout=float("nan"))
        np.testing.assert_array_equal(call(X)["x"], X)
    assert taken[-1] is True
    assert not any(taken[:-1])


def test_a_large_question_goes_the_usual_way(house: House, taken: list[bool]):
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        large = np.random.default_rng(0).random((5000, 4), np.float32)
        np.testing.assert_array_equal(call(large)["x"], large)
    assert taken == [False]


def test_an_error_of_the_daemon(house: House, taken: list[bool]):
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        house.door.error = RuntimeFailureError("the model broke")
        with pytest.raises(RuntimeFailureError, match="the model broke"):
            call(X)
        np.testing.assert_array_equal(call(X)["x"], X)
    assert taken == [True]


def test_other_threads_are_answered_meanwhile(house: House):
    """Answers in another order than the questions: each thread gets its own."""
    house.start()
    with Client(house.path, timeout=60) as client:
        call = prepare(client)
        house.door.is_holding = True
        got: dict[int, float] = {}

        def ask(number: int) -> None:
            got[number] = float(call(X * number)["x"][0, 1])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 6)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(house.door.held) == 5)
        house.door.is_holding = False
        for one in reversed(house.door.held):
            house.call(answer, *one)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert got == {number: float(number) for number in range(1, 6)}


def test_no_answer_in_time(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edged.protocol.asking.GRACE_S", 0.01)
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        house.door.is_holding = True
        began = time.monotonic()
        with pytest.raises(DeadlineExceededError, match="no answer came in time"):
            call.infer(x=X, timeout=0.05)
        assert time.monotonic() - began >= 0.05
        eventually(lambda: house.door.cancelled == 1)
        house.door.is_holding = False
        np.testing.assert_array_equal(call(X * 5)["x"], X * 5)


def test_each_thread_has_its_own_time(house: House, monkeypatch: pytest.MonkeyPatch):
    """Who asks while another waits, with more time, does not lengthen that wait."""
    monkeypatch.setattr("edged.protocol.asking.GRACE_S", 0.01)
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        house.door.is_holding = True
        failed: list[BaseException] = []

        def ask(seconds: float) -> None:
            try:
                call.infer(x=X, timeout=seconds)
            except (DeadlineExceededError, DisconnectedError) as exc:
                failed.append(exc)

        hasty = threading.Thread(target=ask, args=(0.3,))
        patient = threading.Thread(target=ask, args=(30.0,))
        hasty.start()
        eventually(lambda: len(house.door.held) == 1)
        patient.start()
        eventually(lambda: len(house.door.held) == 2)
        hasty.join(5)
        assert [type(error) for error in failed] == [DeadlineExceededError]
        client.close()
        patient.join(10)
        assert len(failed) == 2


class Interrupted:
    """A socket during whose next ``send`` Ctrl-C is pressed."""

    def __init__(self, link: Link) -> None:
        self._link, self._sock = link, link.sock

    def send(self, data: bytes, flags: int) -> int:
        self._link.sock = self._sock
        self._sock.send(data, flags)
        raise KeyboardInterrupt


def test_ctrl_c_while_it_is_sent(house: House):
    """The answer that comes all the same is not taken for that of the next request."""
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        client.link.sock = Interrupted(client.link)
        with pytest.raises(KeyboardInterrupt):
            call(X)
        np.testing.assert_array_equal(call(X * 5)["x"], X * 5)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a stay needs two cores")
@pytest.mark.parametrize("when", ["begun", "over"])
def test_ctrl_c_leaves_nobody_on_a_core(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, when: str
):
    """Python raises as soon as the call that changed the mask returns, or before the next one."""
    house.start()
    house.door.is_quiet = True
    before, change = os.sched_getaffinity(0), os.sched_setaffinity
    request.addfinalizer(lambda: change(0, before))  # for the tests behind one that fails
    is_pressed = False

    def changed(process: int, cores: set[int]) -> None:
        nonlocal is_pressed
        is_now = not is_pressed and (len(cores) == 1) is (when == "begun")
        is_pressed |= is_now
        if is_now and when == "over":
            raise KeyboardInterrupt
        change(process, cores)
        if is_now:
            raise KeyboardInterrupt

    with Client(house.path) as client:
        call = client.prepare("m", x=((None, 1 << 17), "float32"))
        with call.place(1) as memory:
            memory.run()
            client.link.nearby._worth.is_wanted = True
            monkeypatch.setattr(os, "sched_setaffinity", changed)
            with pytest.raises(KeyboardInterrupt):
                memory.run()
            assert os.sched_getaffinity(0) == before
            memory.run()
            assert os.sched_getaffinity(0) == before


def test_nobody_waits_to_send_while_only_he_may_read(house: House):
    """Who sends may have to read before he can end; the two would wait for each other."""
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        link = client.link
        with link.send_lock:
            thread = threading.Thread(target=call, args=(X,))
            thread.start()
            time.sleep(0.05)
            is_free = link.read_lock.acquire(timeout=2)
            if is_free:
                link.read_lock.release()
        thread.join(10)
        assert is_free


def test_the_daemon_goes_meanwhile(house: House):
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        house.door.is_holding = True
        failed: list[BaseException] = []

        def ask() -> None:
            try:
                call(X)
            except DisconnectedError as exc:
                failed.append(exc)

        thread = threading.Thread(target=ask)
        thread.start()
        eventually(lambda: house.door.held)
        house.call(lambda: [c._transport.abort() for c in list(house.server.connections)])
        thread.join(10)
        assert failed
        house.door.is_holding = False
        np.testing.assert_array_equal(call(X)["x"], X)


def test_a_client_that_is_closed_by_another_thread(house: House):
    house.start()
    client = Client(house.path)
    call = prepare(client)
    house.door.is_holding = True
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            call(X)
        except DisconnectedError as exc:
            failed.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: house.door.held)
    client.close()
    thread.join(10)
    assert "the client was closed" in str(failed[0])


def test_forgotten_and_prepared_again(house: House, taken: list[bool]):
    house.start()
    with Client(house.path) as client:
        call = prepare(client)
        call(X)
        call.close()
        call(X)
        call(X)
        call(X)
    assert taken.count(True) >= 2
    assert house.door.prepared == 2


def test_a_worker_that_takes_its_time(house: House, taken: list[bool]):
    """The daemon answers later, when the run is over; the memory of the next one is another."""
    house.start()
    house.door.is_quiet = True
    with Client(house.path) as client:
        call = prepare(client)
        for late in (True, False, True, True, False):
            house.door.is_late = late
            x = np.random.default_rng(late).random((2, 4), np.float32)
            np.testing.assert_array_equal(call(x)["x"], x)
    assert house.door.adopted == 3
    assert taken == [True] * 5


def test_requests_that_lie_in_memory(house: House, taken: list[bool]):
    house.start()
    house.door.is_quiet = True
    wide = np.ones((1, 1 << 15), np.float32)
    with Client(house.path) as client:
        call = client.prepare("m", x=((None, 1 << 15), "float32"))
        with call.place(1) as memory:
            for number in (1, 2, 3):
                memory.inputs["x"][:] = number
                np.testing.assert_array_equal(memory.run()["x"], wide * number)
            assert taken == [True] * 3
            house.door.error = RuntimeFailureError("no")
            with pytest.raises(RuntimeFailureError, match="no"):
                memory.run()
            memory.run(timeout=None)
        assert len(house.door.lone) == 4
        client.timeout = None
        call.place(1).run()
