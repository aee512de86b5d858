"""Answers that are on their way: waited for, withdrawn, or too late."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edged.client import Client
from edged.errors import CancelledError, DeadlineExceededError, EdgedError
from tests.fakes.house import House, eventually

X = np.arange(8, dtype=np.float32).reshape(2, 4)


class TestCancel:
    def test_a_request_that_waits_is_withdrawn(self, house: House, client: Client):
        house.start()
        house.door.is_holding = True
        first, second = client.submit("m", x=X), client.submit("m", x=X * 2)
        eventually(lambda: len(house.door.held) == 2)
        assert first.cancel()
        with pytest.raises(CancelledError, match="withdrawn by the caller"):
            first.result()
        eventually(lambda: house.door.cancelled == 1)
        assert not first.cancel()
        house.call(house.door.release_all)
        np.testing.assert_array_equal(second.result()["x"], X * 2)
        assert not second.cancel()

    def test_one_who_waits_is_woken(self, house: House, client: Client):
        house.start()
        house.door.is_holding = True
        pending = client.submit("m", x=X)
        caught: list[BaseException] = []

        def wait() -> None:
            try:
                pending.result()
            except EdgedError as exc:
                caught.append(exc)

        thread = threading.Thread(target=wait)
        thread.start()
        eventually(lambda: house.door.held)
        pending.cancel()
        thread.join(10)
        assert [type(exc) for exc in caught] == [CancelledError]

    def test_a_timeout_withdraws(
        self, house: House, client: Client, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("edged.protocol.asking.GRACE_S", 0.0)
        house.start()
        house.door.is_holding = True
        with pytest.raises(DeadlineExceededError):
            client.infer("m", x=X, timeout=0.05)
        eventually(lambda: house.door.cancelled == 1)

    def test_a_closed_client_leaves_no_work(self, house: House, client: Client):
        house.start()
        house.door.is_holding = True
        client.submit("m", x=X)
        eventually(lambda: house.door.held)
        client.close()
        house.call(house.door.release_all)
