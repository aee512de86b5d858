"""Requests of the asyncio client by passed memory; as ``placed.py``, with ``await``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol, TypeGuard

from edged.clients.aio_link import Link, Pending
from edged.clients.places import LEND_AGAIN_S, NotLentError, Places, expect
from edged.clients.stock import Stock
from edged.errors import DisconnectedError, InvalidRequestError, LayoutChangedError
from edged.protocol import memory, prepared
from edged.protocol.asking import Plan
from edged.protocol.conversation import InferResult, Opened
from edged.protocol.frames import Kind
from edged.protocol.keys import Key, key_text
from edged.tensors import Array

_TRIES = 3


class Client(Protocol):
    """The client, as requests by memory see it."""

    async def open_plan(self, plan: Plan, until: float | None) -> tuple[Link, Opened]:
        """A connection that is up, and the prepared call on it."""
        ...

    def make_pending(self, model: str, timeout: float | None) -> tuple[Pending, int]:
        """What waits for an answer, and the timeout in microseconds."""
        ...

    def forget(self, plan: Plan) -> None:
        """Give up a prepared call's handle."""
        ...


class Bound:
    """A prepared call and memory it is bound to; as ``placed.Bound``.

    Args:
        client: whose.
        plan: the call.
        places: its memory.
    """

    def __init__(self, client: Client, plan: Plan, places: Places) -> None:
        self.places = places
        self.is_idle = True
        """Whether nothing that was sent may still read or write the memory."""
        self._client, self._plan = client, plan
        size = sum(array.nbytes for array in places.inputs.values())
        self._is_large = size >= memory.NEAR_BYTES
        self._link: Link | None = None
        self._region = self._handle = 0

    async def open(self, until: float | None) -> None:
        """Lend the memory on a connection that is up, and bind the call to it.

        Raises:
            EdgedError: the daemon does not take it, or the connection broke.
        """
        try:
            await self._open(until)
        except LayoutChangedError:
            # Another task gave the handle up meanwhile, and nobody prepared it again.
            self._client.forget(self._plan)
            await self._open(until)

    async def _open(self, until: float | None) -> None:
        self.places.check_own()
        link, opened = await self._client.open_plan(self._plan, until)
        if self._link is link:
            return
        self._link, places = None, self.places
        region = await self._lend(link, until)
        waiter, head = Pending("", until), places.head(opened.handle, region)
        try:
            link.ask(waiter, lambda number: memory.encode_bind(number, head))
            await waiter.wait()
            handle = memory.decode_bound(expect(waiter.answer(), Kind.BOUND))
        except BaseException:
            link.write(memory.encode_recall(region))
            raise
        self._link, self._region, self._handle = link, region, handle

    async def _lend(self, link: Link, until: float | None) -> int:
        """Lend the memory; as ``placed.Bound``."""
        places = self.places
        again_s = LEND_AGAIN_S if places.was_lent else ()
        places.was_lent = True
        for pause_s in again_s:
            try:
                return await link.lend(places.descriptor, places.size, until)
            except InvalidRequestError:
                await asyncio.sleep(pause_s)
        try:
            return await link.lend(places.descriptor, places.size, until)
        except InvalidRequestError as exc:
            raise NotLentError(exc.message) from exc

    def forget(self) -> None:
        """Take the memory back."""
        link, self._link = self._link, None
        if link is not None:
            link.write(prepared.encode_forget(self._handle) + memory.encode_recall(self._region))

    async def run(
        self, timeout: float | None, *, copied: bool, key: str | None = None
    ) -> InferResult:
        """Ask with what lies in the inputs.

        Raises:
            EdgedError: as for ``Client.infer``.
        """
        try:
            return await self._run(timeout, copied=copied, key=key)
        except LayoutChangedError:
            # Refused, so not run: when the layout still fits, nobody need know.
            self.forget()
            self._client.forget(self._plan)
            return await self._run(timeout, copied=copied, key=key)

    async def _run(self, timeout: float | None, *, copied: bool, key: str | None) -> InferResult:
        pending, wait_us = self._client.make_pending(self._plan.request.model, timeout)
        for _ in range(_TRIES):
            link, handle, places = self._link, self._handle, self.places
            if not _is_up(link):
                await self.open(pending.until)
                continue
            await link.drained(pending.until)
            if not _is_up(link):
                continue
            pending.answers = places.rest
            self.is_idle = False
            is_alone = self._is_large and not link.waiting
            began_ns = time.monotonic_ns()
            if is_alone:
                link.nearby.look()
            link.ask(pending, lambda number: places.frame(number, handle, wait_us, key))  # noqa: B023
            try:
                result = await pending.result()
            finally:
                self.is_idle = pending.frame is not None
            if is_alone:
                core = link.nearby.answered(time.monotonic_ns() - began_ns, result.run_ns)
                if core is not None:
                    link.write(memory.encode_near(core))
            return places.complete(result, copied=copied)
        raise DisconnectedError("the connection broke again and again")


class Placed:
    """Memory that one prepared call reads and writes; as ``placed.Placed``, with ``async with``.

    Used by one task at a time.

    Attributes:
        inputs: arrays to write a request to.
        outputs: arrays that answers come to lie in; small outputs are not among them.
    """

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self.inputs: Mapping[str, Array] = bound.places.inputs
        self.outputs: Mapping[str, Array] = bound.places.outputs

    async def __aenter__(self) -> Placed:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._bound.places.close()

    async def run(self, *, timeout: float | None = None, key: Key = None) -> InferResult:
        """Ask with what lies in ``inputs``; as ``placed.Placed.run``."""
        return await self._bound.run(timeout, copied=False, key=key_text(key))

    def close(self) -> None:
        """Take the memory back; the arrays stay valid."""
        self._bound.forget()
        self._bound.places.close()


async def make_bound(client: Client, plan: Plan, rows: int) -> Bound:
    """Memory for a prepared call, lent and bound.

    Raises:
        EdgedError: the daemon takes none, or not that call.
        OSError: there is no memory.
    """
    until = client.make_pending("", None)[0].until
    _, opened = await client.open_plan(plan, until)
    bound = Bound(client, plan, Places(plan, opened.answers, rows))
    try:
        await bound.open(until)
    except BaseException:
        bound.places.close()
        raise
    return bound


class Pool:
    """Memory of one prepared call that requests are copied into; as ``placed.Pool``.

    Args:
        client: whose.
        plan: the call.
    """

    def __init__(self, client: Client, plan: Plan) -> None:
        self._client, self._plan = client, plan
        self._stock = Stock[Bound]()

    async def ask(
        self,
        tensors: Mapping[str, Array],
        rows: int,
        timeout: float | None,
        key: str | None = None,
    ) -> InferResult | None:
        """Ask by memory; None when nothing was sent, and the socket has to do.

        Raises:
            EdgedError: as for ``Client.infer``.
        """
        stock = self._stock
        bound, is_to_make = stock.take(rows)
        if is_to_make:
            with stock.making():
                bound = await make_bound(self._client, self._plan, rows)
        if bound is None:
            return None
        try:
            if not bound.places.fill(tensors):
                return None
            return await bound.run(timeout, copied=True, key=key)
        except NotLentError:
            bound.is_idle = False  # of no use any more
            return None
        finally:
            stock.give(bound)

    def close(self) -> None:
        """Take all of it back."""
        self._stock.close()


def _is_up(link: Link | None) -> TypeGuard[Link]:
    """Whether it can be asked on, by this loop."""
    return link is not None and link.error is None and link.loop is asyncio.get_running_loop()
