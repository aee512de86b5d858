"""A call of the asyncio client that was prepared once, and is made many times; as ``prepared.py``.

Decides which way a request goes: by passed memory, or as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edged.clients import aio_placed
from edged.clients.aio_link import Pending
from edged.clients.aio_placed import Placed, Pool, make_bound
from edged.clients.places import goes_by_memory
from edged.errors import LayoutChangedError
from edged.protocol.asking import Plan
from edged.protocol.conversation import InferResult, Opened
from edged.protocol.keys import Key, key_text
from edged.tensors import Array, TensorSpec


class Asks(aio_placed.Client, Protocol):
    """The client, as its prepared calls see it."""

    async def run_prepared(
        self,
        plan: Plan,
        tensors: Mapping[str, Array],
        timeout: float | None,
        key: str | None = None,
    ) -> Pending:
        """Send a request of a prepared call."""
        ...


class Prepared:
    """A call prepared once: made by ``Client.prepare``, called with arrays of that layout.

    As the one of ``edged.Client``, it outlives the connection and changes of the model.
    """

    def __init__(self, client: Asks, plan: Plan, opened: Opened) -> None:
        self._client = client
        self._plan = plan
        self._pool = Pool(client, plan)
        self.outputs = opened.outputs
        """What answers hold, as far as it was known when the call was prepared."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The layout: names, dtypes and shapes; ``batch`` is the free axis."""
        return self._plan.request.inputs

    async def __call__(
        self, *arrays: Array, timeout: float | None = None, key: Key = None
    ) -> InferResult:
        """Ask with arrays in the order of the layout; as ``infer``."""
        return await self._ask(self._plan.by_position(arrays), timeout, key)

    async def infer(
        self,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        timeout: float | None = None,
        key: Key = None,
        **tensors: Array,
    ) -> InferResult:
        """Ask and wait for the answer; as ``aio.Client.infer``.

        Raises:
            TensorMismatchError: the arrays are not of the layout, or it no longer fits the model.
        """
        return await self._ask({**(inputs or {}), **tensors}, timeout, key)

    async def submit(
        self,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        timeout: float | None = None,
        key: Key = None,
        **tensors: Array,
    ) -> Pending:
        """Send a request without waiting for the answer; see ``edged.client.Prepared.submit``."""
        named = {**(inputs or {}), **tensors}
        return await self._client.run_prepared(self._plan, named, timeout, key_text(key))

    async def place(self, rows: int = 0) -> Placed:
        """Memory that is read and written in place; as ``edged.client.Prepared.place``."""
        return Placed(await make_bound(self._client, self._plan, rows))

    def close(self) -> None:
        """Let the daemon forget the call; using it again prepares it again."""
        self._pool.close()
        self._client.forget(self._plan)

    async def _ask(
        self, tensors: Mapping[str, Array], timeout: float | None, key: Key
    ) -> InferResult:
        client, plan = self._client, self._plan
        words = key_text(key)
        if goes_by_memory(tensors):
            result = await self._pool.ask(tensors, plan.layout.rows_of(tensors), timeout, words)
            if result is not None:
                return result
        try:
            return await (await client.run_prepared(plan, tensors, timeout, words)).result()
        except LayoutChangedError:
            # Refused, so not run: when the arrays still fit, nobody need know.
            client.forget(plan)
            return await (await client.run_prepared(plan, tensors, timeout, words)).result()
