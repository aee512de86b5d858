"""Requests of the synchronous client by passed memory: written in place, or copied in unasked.

with frames.place() as placed:
    camera.read_into(placed.inputs["frame"])
    placed.run()["boxes"]
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from edged.clients.lane import NOTHING, Lane, lane_by_memory
from edged.clients.link import Link, NothingSentError
from edged.clients.pending import Pending
from edged.clients.places import LEND_AGAIN_S, NotLentError, Places, expect
from edged.clients.stock import Stock
from edged.errors import (
    DeadlineExceededError,
    DisconnectedError,
    EdgedError,
    InvalidRequestError,
    LayoutChangedError,
)
from edged.protocol import memory, prepared
from edged.protocol.asking import Plan
from edged.protocol.conversation import InferResult, Opened
from edged.protocol.frames import Kind
from edged.protocol.keys import Key, key_text
from edged.tensors import Array

_TRIES = 3


class Client(Protocol):
    """The client, as requests by memory see it."""

    timeout: float | None

    def open_plan(self, plan: Plan, until: float | None) -> tuple[Link, Opened]:
        """A connection that is up, and the prepared call on it."""
        ...

    def make_pending(self, model: str, timeout: float | None) -> tuple[Pending, int]:
        """What waits for an answer, and the timeout in microseconds."""
        ...

    def forget(self, plan: Plan) -> None:
        """Give up a prepared call's handle."""
        ...


class Bound:
    """A prepared call and memory it is bound to, on whichever connection it is used.

    Args:
        client: whose.
        plan: the call.
        places: its memory.
    """

    def __init__(self, client: Client, plan: Plan, places: Places) -> None:
        self.places = places
        self._client, self._plan = client, plan
        self.is_idle = True
        """Whether nothing that was sent may still read or write the memory."""
        self._link: Link | None = None
        self._lane: Lane | None = None
        self._region = self._handle = 0

    def open(self, until: float | None) -> None:
        """Lend the memory on a connection that is up, and bind the call to it.

        Raises:
            EdgedError: the daemon does not take it, or connections break again and again.
        """
        self.places.check_own()
        for _ in range(_TRIES):
            link, opened = self._client.open_plan(self._plan, until)
            if self._link is link:
                return
            try:
                self._open(link, opened, until)
            except NothingSentError:
                continue  # it had ended before: another one is as good
            except LayoutChangedError:
                # Another thread gave the handle up meanwhile, and nobody prepared it again.
                self._client.forget(self._plan)
                continue
            return
        raise DisconnectedError("the connection broke again and again")

    def _open(self, link: Link, opened: Opened, until: float | None) -> None:
        self._link, self._lane, places = None, None, self.places
        region = self._lend(link, until)
        waiter = Pending("", until)
        head = places.head(opened.handle, region)
        try:
            link.ask(waiter, lambda number: memory.encode_bind(number, head))
            handle = memory.decode_bound(expect(waiter.wait(), Kind.BOUND))
        except EdgedError:
            link.tell(memory.encode_recall(region))
            raise
        self._link, self._region, self._handle = link, region, handle
        rest = Opened(handle, places.rest.specs, places.rest)
        size = sum(array.nbytes for array in places.inputs.values())
        self._lane = lane_by_memory(link, self._plan.request.model, rest, places.rows, size)

    def _lend(self, link: Link, until: float | None) -> int:
        """Lend the memory; raises NotLentError where it was lent before and is not taken again."""
        places = self.places
        again_s = LEND_AGAIN_S if places.was_lent else ()
        places.was_lent = True
        for pause_s in again_s:
            try:
                return link.lend(places.descriptor, places.size, until)
            except InvalidRequestError:
                time.sleep(pause_s)
        try:
            return link.lend(places.descriptor, places.size, until)
        except InvalidRequestError as exc:
            raise NotLentError(exc.message) from exc

    def ask(self, pending: Pending, wait_us: int, key: str | None = None) -> bool:
        """Send a request; False when the connection it was bound on has ended.

        Raises:
            EdgedError: it cannot be sent.
        """
        link, handle = self._link, self._handle
        if link is None or link.error is not None:
            return False
        pending.answers = self.places.rest
        self.is_idle = False
        try:
            link.ask(pending, lambda number: self.places.frame(number, handle, wait_us, key))
        except NothingSentError:
            self.is_idle = True
            return False
        return True

    def _ask_on(self, lane: Lane, seconds: float | None, key: str | None) -> InferResult | None:
        self.is_idle = False
        try:
            result = lane.ask(NOTHING, seconds, key)
        except (DeadlineExceededError, DisconnectedError):
            raise
        except EdgedError:
            self.is_idle = True  # answered
            raise
        self.is_idle = True
        return result

    def forget(self) -> None:
        """Take the memory back."""
        link, self._link, self._lane = self._link, None, None
        if link is not None:
            link.tell(prepared.encode_forget(self._handle) + memory.encode_recall(self._region))

    def run(self, timeout: float | None, *, copied: bool, key: str | None = None) -> InferResult:
        """Ask with what lies in the inputs, and wait.

        Raises:
            EdgedError: as for ``Client.infer``.
        """
        is_again = False
        while True:
            try:
                return self._run(timeout, copied=copied, key=key)
            except LayoutChangedError:
                # Refused, so not run: when the layout still fits, nobody need know.
                self.forget()
                self._client.forget(self._plan)
                if is_again:
                    raise
                is_again = True

    def _run(self, timeout: float | None, *, copied: bool, key: str | None) -> InferResult:
        client, plan, lane = self._client, self._plan, self._lane
        if lane is not None and lane.link.error is None:
            result = self._ask_on(lane, client.timeout if timeout is None else timeout, key)
            if result is not None:
                return self.places.complete(result, copied=copied)
        pending, wait_us = client.make_pending(plan.request.model, timeout)
        for _ in range(_TRIES):
            if self.ask(pending, wait_us, key):
                try:
                    result = pending.result()
                finally:
                    self.is_idle = pending.frame is not None
                return self.places.complete(result, copied=copied)
            self.open(pending.until)
        raise DisconnectedError("the connection broke again and again")


class Placed:
    """Memory that one prepared call reads and writes; made by ``Prepared.place``.

    Used by one thread at a time. It is lent anew by itself when the connection breaks.

    Attributes:
        inputs: arrays to write a request to.
        outputs: arrays that answers come to lie in; small outputs are not among them.
    """

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self.inputs: Mapping[str, Array] = bound.places.inputs
        self.outputs: Mapping[str, Array] = bound.places.outputs

    def __enter__(self) -> Placed:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._bound.places.close()

    def run(self, *, timeout: float | None = None, key: Key = None) -> InferResult:
        """Ask with what lies in ``inputs``, and wait for the answer; ``key`` as ``Client.infer``.

        Returns:
            All outputs; large ones are the arrays of ``outputs``, which the next run overwrites.

        Raises:
            EdgedError: as for ``Client.infer``. After DeadlineExceededError and DisconnectedError
                the daemon may still be reading and writing; ``close`` then, and place anew.
        """
        return self._bound.run(timeout, copied=False, key=key_text(key))

    def close(self) -> None:
        """Take the memory back; the arrays stay valid."""
        self._bound.forget()
        self._bound.places.close()


def make_bound(client: Client, plan: Plan, rows: int) -> Bound:
    """Memory for a prepared call, lent and bound.

    Raises:
        EdgedError: the daemon takes none, or not that call.
        OSError: there is no memory.
    """
    until = client.make_pending("", None)[0].until
    _, opened = client.open_plan(plan, until)
    bound = Bound(client, plan, Places(plan, opened.answers, rows))
    try:
        bound.open(until)
    except BaseException:
        bound.places.close()
        raise
    return bound


class Pool:
    """Memory of one prepared call that requests are copied into, as they come.

    Args:
        client: whose.
        plan: the call.
    """

    def __init__(self, client: Client, plan: Plan) -> None:
        self._client, self._plan = client, plan
        self._stock = Stock[Bound]()

    def ask(
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
                bound = make_bound(self._client, self._plan, rows)
        if bound is None:
            return None
        try:
            if not bound.places.fill(tensors):
                return None
            return bound.run(timeout, copied=True, key=key)
        except NotLentError:
            bound.is_idle = False  # of no use any more
            return None
        finally:
            stock.give(bound)

    def close(self) -> None:
        """Take all of it back."""
        self._stock.close()
