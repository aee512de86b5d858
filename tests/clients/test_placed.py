"""Requests by passed memory against the real server, from one thread and from many."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edged.client import Client
from edged.clients import placed
from edged.errors import DeadlineExceededError, LayoutChangedError, QueueFullError, RunError
from edged.messages import LentInputs
from edged.protocol.prepared import encode_forget
from tests.fakes.house import House, eventually

WIDE = 1 << 15
LAYOUT = ((None, WIDE), "float32")
X = np.arange(WIDE, dtype=np.float32).reshape(1, WIDE)


def is_lent(house: House) -> list[bool]:
    """Of each request that came, whether it came by memory."""
    return [type(request.inputs) is LentInputs for request in house.door.requests]


def mapped() -> int:
    gc.collect()
    return Path("/proc/self/maps").read_text().count("memfd:edged ")


class TestPlaced:
    def test_is_written_and_read_in_place(self, house: House, client: Client):
        house.start()
        with client.prepare("m", x=LAYOUT).place(2) as memory:
            for number in range(1, 5):
                memory.inputs["x"][:] = number
                result = memory.run()
                assert result["x"] is memory.outputs["x"]
                assert (result["x"] == number).all()
                assert (result.release, result.generation) == (7, 3)
        assert is_lent(house) == [True] * 4
        eventually(lambda: not house.server.lent)

    def test_is_lent_anew_on_another_connection(self, house: House, client: Client):
        house.start()
        memory = client.prepare("m", x=LAYOUT).place(1)
        memory.inputs["x"][:] = X
        for _ in range(3):
            np.testing.assert_array_equal(memory.run()["x"], X)
            client.close()
            eventually(lambda: not house.server.connections)
        assert is_lent(house) == [True] * 3
        memory.close()

    def test_is_lent_again_before_the_daemon_knows_that_the_old_connection_ended(
        self, house: House, client: Client
    ):
        """It was refused as lent already, to a program that had done nothing wrong."""
        house.start()
        with client.prepare("m", x=LAYOUT).place(1) as memory:
            memory.inputs["x"][:] = X
            memory.run()
            client.close()
            eventually(lambda: not house.server.lent)
            file = os.fstat(memory._bound.places.descriptor).st_ino
            house.call(house.server.lent.add, file)
            late = threading.Timer(0.02, house.call, (house.server.lent.discard, file))
            late.start()
            np.testing.assert_array_equal(memory.run()["x"], X)
            late.join()

    def test_a_handle_that_another_thread_gave_up(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=LAYOUT)
        client.link.tell(encode_forget(client.opened(call._plan).handle))
        with call.place(1) as memory:
            memory.inputs["x"][:] = X
            np.testing.assert_array_equal(memory.run()["x"], X)
        assert house.door.prepared == 2

    def test_is_prepared_anew(self, house: House, client: Client):
        house.start()
        memory = client.prepare("m", x=LAYOUT).place(1)
        memory.inputs["x"][:] = X
        memory.run()
        house.door.error = LayoutChangedError("another release")
        np.testing.assert_array_equal(memory.run()["x"], X)
        assert house.door.prepared == 2
        memory.close()

    def test_a_daemon_that_takes_no_memory_says_so(self, house: House, client: Client):
        house.start(max_regions=0)
        with pytest.raises(QueueFullError, match=r"limits\.max_regions"):
            client.prepare("m", x=LAYOUT).place(1)

    def test_nothing_is_left_of_it(self, house: House, client: Client):
        house.start()
        before, call = mapped(), client.prepare("m", x=LAYOUT)
        for _ in range(40):  # more than a connection may lend at once
            memory = call.place(1)
            memory.run()
            house.door.requests.clear()
            memory.close()
            del memory
        client.close()
        eventually(lambda: mapped() <= before)

    def test_a_timeout(self, house: House, client: Client):
        house.start()
        memory = client.prepare("m", x=LAYOUT).place(1)
        house.door.is_holding = True
        client.timeout = None
        pending, wait_us = client.make_pending("m", 0.05)
        pending.until = 0.0
        assert memory._bound.ask(pending, wait_us)
        with pytest.raises(DeadlineExceededError):
            pending.result()
        eventually(lambda: house.door.cancelled)
        assert house.door.requests[-1].deadline_ns is not None
        memory.close()


class TestUnasked:
    def test_large_requests_of_a_prepared_call(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=LAYOUT)
        results = [call(X * number) for number in range(4)]
        assert is_lent(house) == [False, True, True, True]
        for number, result in enumerate(results):
            np.testing.assert_array_equal(result["x"], X * number)  # copies: nobody writes to them
        call.close()
        eventually(lambda: not house.server.lent)
        np.testing.assert_array_equal(call(X)["x"], X)

    def test_large_requests_that_come_again(self, house: House, client: Client):
        house.start()
        for number in range(4):
            np.testing.assert_array_equal(client.infer("m", x=X * number)["x"], X * number)
        assert is_lent(house) == [False, True, True, True]

    def test_small_ones_and_others_go_by_the_socket(self, house: House, client: Client):
        house.start()
        for rows in (1, 2, 3, 4):
            client.infer("m", x=np.ones((rows, WIDE), np.float32))
            client.infer("m", x=np.ones((1, 8), np.float32))
        assert not any(is_lent(house))

    def test_many_kinds_keep_a_few(self, house: House, client: Client):
        house.start()
        for _ in range(3):
            for rows in range(1, 9):
                client.infer("m", x=np.full((rows, WIDE), rows, np.float32))
        assert len(house.server.lent) <= 4

    @pytest.mark.parametrize("limits", [{"max_regions": 0}, {"max_regions": 1}])
    def test_where_there_is_no_room(self, house: House, client: Client, limits: dict):
        house.start(**limits)
        calls = [client.prepare("m", x=LAYOUT) for _ in range(3)]
        for number in range(9):
            np.testing.assert_array_equal(calls[number % 3](X * number)["x"], X * number)
        assert sum(is_lent(house)) == 2 * limits["max_regions"]

    def test_on_another_connection(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=LAYOUT)
        for _ in range(3):
            for _ in range(2):
                np.testing.assert_array_equal(call(X)["x"], X)
            client.close()
            eventually(lambda: not house.server.connections)
        assert is_lent(house) == [False, True, True, True, True, True]

    def test_memory_that_is_not_taken_again(
        self, house: House, client: Client, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(placed, "LEND_AGAIN_S", (0.001,))
        house.start()
        for _ in range(3):
            client.infer("m", x=X)
        files = list(house.server.lent)
        client.close()
        eventually(lambda: not house.server.lent)
        house.call(house.server.lent.update, files)
        for _ in range(3):
            np.testing.assert_array_equal(client.infer("m", x=X)["x"], X)
        assert is_lent(house) == [False, True, True, False, True, True]

    def test_errors_are_the_servers(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=LAYOUT)
        call(X)
        for error in (RunError("it failed"), QueueFullError("full")):
            house.door.error = error
            with pytest.raises(type(error), match=error.message):
                call(X)
            np.testing.assert_array_equal(call(X)["x"], X)
        assert len(house.server.lent) == 1

    def test_memory_that_may_still_be_written_to_is_not_used_again(
        self, house: House, client: Client, monkeypatch: pytest.MonkeyPatch
    ):
        house.start()
        call = client.prepare("m", x=LAYOUT)
        call(X), call(X)
        monkeypatch.setattr(placed.Lane, "ask", lambda *_: None)
        monkeypatch.setattr(
            placed.Pending, "result", lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        house.door.is_holding = True
        with pytest.raises(KeyboardInterrupt):
            call(X)
        monkeypatch.undo()
        eventually(lambda: house.door.held)
        held = house.door.held[0][0].inputs["x"]
        house.call(house.door.release_all)
        house.door.is_holding = False
        np.testing.assert_array_equal(call(X * 2)["x"], X * 2)
        np.testing.assert_array_equal(held, X)

    def test_from_many_threads(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=LAYOUT)
        call(X)
        wrong: list[object] = []

        def work(seed: int) -> None:
            for number in range(25):
                factor = np.float32(seed * 100 + number)
                result = call(X + factor) if number % 2 else client.infer("m", x=X + factor)
                if not (result["x"] == X + factor).all():
                    wrong.append((seed, number))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert any(is_lent(house))
        assert len(house.server.lent) <= 8
