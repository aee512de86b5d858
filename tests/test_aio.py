"""The asyncio client against the real server over a real socket, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edged
from edged.aio import Client
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    DisconnectedError,
    EdgedError,
    InvalidRequestError,
    LayoutChangedError,
    ModelNotFoundError,
    QueueFullError,
    TensorMismatchError,
)
from edged.messages import InferResponse
from tests.fakes.house import LOOPS, House, houses

X = np.arange(8, dtype=np.float32).reshape(2, 4)
Run = Callable[..., None]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    yield from houses("uvloop", tmp_path / "s")


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest, house: House) -> Iterator[Run]:
    """Runs ``async def scene(client)`` with a client of the house, on either loop."""
    loop = LOOPS[request.param]()

    def play(scene: Callable[[Client], Any], **options: Any) -> None:
        async def act() -> None:
            async with Client(house.path, **options) as client:
                await scene(client)

        loop.run_until_complete(asyncio.wait_for(act(), 20))

    yield play
    loop.close()


async def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up, "what was waited for did not happen"
        await asyncio.sleep(0.001)


def close_all(house: House) -> None:
    """As a daemon that restarts would."""
    for connection in list(house.server.connections):
        house.call(connection.close)


class TestInfer:
    def test_named_arrays_in_and_out(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            result = await client.infer("m", {"no word": X}, release="champion", y=np.uint8(3))
            np.testing.assert_array_equal(result["no word"], X)
            assert result["y"].shape == ()
            assert (result.model, result.release, result.generation) == ("m", 7, 3)
            assert house.door.requests[0].release == "champion"
            with pytest.raises(InvalidRequestError, match='"x" is a list'):
                await client.infer("m", x=[1])
            with pytest.raises(InvalidRequestError, match="timeout"):
                await client.infer("m", x=X, timeout=float("nan"))

        house.start()
        run(scene)
        assert edged.aio.Client is Client
        assert house.server.accepted == 1

    def test_many_at_once_and_in_any_order(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            house.door.is_holding = True
            pending = [await client.submit("m", x=X * n) for n in range(200)]
            await until(lambda: len(house.door.held) == 200)
            house.door.held.reverse()
            house.call(house.door.release_all)
            for n, one in enumerate(pending):
                np.testing.assert_array_equal((await one)["x"], X * n)
                assert one.is_done
            np.testing.assert_array_equal((await pending[3])["x"], X * 3)

        house.start()
        run(scene)

    def test_large_tensors_and_a_daemon_that_waits_for_us_to_read(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            big = np.random.default_rng(0).random((4, 1 << 20), np.float32)
            results = await asyncio.gather(*(client.infer("m", x=big * n) for n in range(8)))
            for n, result in enumerate(results):
                np.testing.assert_array_equal(result["x"], big * n)

        house.start()
        run(scene, timeout=60)

    def test_errors_are_the_servers(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            assert await client.status() == {"asked": {}}
            assert await client.call("status", model="m") == {"asked": {"model": "m"}}
            with pytest.raises(ModelNotFoundError, match="no such model"):
                await client.call("fail", model="m")
            with pytest.raises(EdgedError, match='no call "models"'):
                await client.models()
            house.door.is_holding = True
            pending = await client.submit("m", x=X)
            await until(lambda: house.door.held)
            error = QueueFullError("its queue is full", retry_after_ns=7)
            house.call(house.door.held[0][1], InferResponse("m", 1, 1, error=error), True)
            with pytest.raises(QueueFullError, match="its queue is full") as caught:
                await pending
            assert caught.value.retry_after_ns == 7

        house.start()
        run(scene)


class TestPrepared:
    def test_the_same_call_three_ways(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            call = await client.prepare("m", x=((None, 4), "float32"), z=((), np.int64))
            assert [str(spec) for spec in call.inputs] == ["float32[batch,4]", "int64[]"]
            assert [spec.name for spec in call.outputs] == ["x", "z"]
            z = np.int64(5)
            for rows in (1, 3, 5000):
                x = np.random.default_rng(rows).random((rows, 4), np.float32)
                for result in (
                    await call(x, z),
                    await call.infer(x=x, z=z),
                    await (await call.submit({"x": x}, z=z)),
                ):
                    np.testing.assert_array_equal(result["x"], x)
            with pytest.raises(TensorMismatchError, match="prepared for"):
                await call(X.astype(float), z)
            many = await asyncio.gather(*(call(X * n, z) for n in range(100)))
            for n, result in enumerate(many):
                np.testing.assert_array_equal(result["x"], X * n)

        house.start()
        run(scene)

    def test_outlives_the_connection_and_the_signature(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            call = await client.prepare("m", x=((None, 4), "float32"))
            for _ in range(3):
                await call(X)
                close_all(house)
                await until(lambda: client._link.error)
            house.door.error = LayoutChangedError("prepare it again")
            np.testing.assert_array_equal((await call(X))["x"], X)
            house.door.error = LayoutChangedError("prepare it again")
            house.door.refusal = TensorMismatchError("wants float32[batch,5]")
            with pytest.raises(TensorMismatchError, match="batch,5"):
                await call(X)
            house.door.refusal = None
            await call(X)
            call.close()
            await call(X)

        house.start()
        run(scene)


class TestCancel:
    def test_a_cancelled_task_withdraws_its_request(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            house.door.is_holding = True
            call = await client.prepare("m", x=((None, 4), "float32"))
            tasks = [
                asyncio.ensure_future(one) for one in (client.infer("m", x=X), call(X), call(X * 2))
            ]
            await until(lambda: len(house.door.held) == 3)
            for task in tasks[:2]:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await until(lambda: house.door.cancelled == 2)
            house.call(house.door.release_all)
            np.testing.assert_array_equal((await tasks[2])["x"], X * 2)

        house.start()
        run(scene)

    def test_pending_cancel(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            house.door.is_holding = True
            pending = await client.submit("m", x=X)
            waits = [asyncio.ensure_future(pending.result()) for _ in range(2)]
            await until(lambda: house.door.held)
            assert pending.cancel()
            for wait in waits:
                with pytest.raises(CancelledError, match="withdrawn by the caller"):
                    await wait
            assert not pending.cancel()
            await until(lambda: house.door.cancelled == 1)

        house.start()
        run(scene)

    def test_no_answer_in_time(self, house: House, run: Run, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("edged.protocol.asking.GRACE_S", 0.0)

        async def scene(client: Client) -> None:
            house.door.is_holding = True
            with pytest.raises(DeadlineExceededError, match="no answer came in time"):
                await client.infer("m", x=X, timeout=0.05)
            await until(lambda: house.door.cancelled == 1)
            house.door.is_holding = False
            assert await client.infer("m", x=X), "the connection is as good as before"

        house.start()
        run(scene)
        assert house.server.accepted == 1


class TestConnection:
    def test_nobody_listens(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            with pytest.raises(DisconnectedError, match=r"cannot connect to .*edged run"):
                await client.infer("m", x=X)

        run(scene)

    def test_tasks_share_one_connection_from_the_start(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            await asyncio.gather(*(client.infer("m", x=X) for _ in range(50)))

        house.start()
        run(scene)
        assert house.server.accepted == 1

    def test_reconnects(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            for _ in range(3):
                assert await client.infer("m", x=X)
                close_all(house)
                await until(lambda: client._link.error)

        house.start()
        run(scene)
        assert house.server.accepted == 3

    def test_waiting_tasks_hear_that_the_connection_broke(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            house.door.is_holding = True
            pending = [await client.submit("m", x=X) for _ in range(3)]
            await until(lambda: len(house.door.held) == 3)
            close_all(house)
            for one in pending:
                with pytest.raises(DisconnectedError, match="the daemon closed the connection"):
                    await one

        house.start()
        run(scene)

    def test_refused_connection(self, house: House, run: Run):
        """It says why, also where a write failed before it was read what the daemon said."""

        async def scene(client: Client) -> None:
            await client.infer("m", x=X)
            for _ in range(30):
                async with Client(house.path) as late:
                    asked = [late.infer("m", x=X) for _ in range(4)]
                    for found in await asyncio.gather(*asked, return_exceptions=True):
                        assert type(found) is QueueFullError, found

        house.start(max_connections=1)
        run(scene)

    def test_closed_while_tasks_wait(self, house: House, run: Run):
        async def scene(client: Client) -> None:
            house.door.is_holding = True
            task = asyncio.ensure_future(client.infer("m", x=X))
            await until(lambda: house.door.held)
            await client.close()
            with pytest.raises(DisconnectedError, match="the client was closed"):
                await task
            house.door.is_holding = False
            assert await client.infer("m", x=X), "it may be used again"

        house.start()
        run(scene)

    @pytest.mark.parametrize("turns", range(1, 5))
    def test_closed_while_it_connects(self, house: House, run: Run, turns: int):
        """The tasks that waited looked as if they had been cancelled themselves."""

        async def scene(client: Client) -> None:
            tasks = [asyncio.ensure_future(client.infer("m", x=X)) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.close()
            for found in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(found, (DisconnectedError, dict)), found

        house.start()
        run(scene)

    def test_one_client_on_two_loops(self, house: House):
        house.start()
        client = Client(house.path)

        async def scene() -> None:
            assert await client.infer("m", x=X)
            await client.close()

        for _ in range(2):
            asyncio.run(scene())
