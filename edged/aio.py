"""The client for asyncio programs: as ``edged.Client``, with ``await``.

    async with edged.aio.Client("/run/edged/edged.sock") as client:
        result = await client.infer("digits", image=pixels)
        digits = await client.prepare("digits", pixels=((None, 64), "float32"))
        results = await asyncio.gather(*(digits(rows) for rows in batches))

What is said to the daemon is ``protocol/asking.py``'s, as for ``edged.Client``. Any number of
requests may be in flight; cancelling the task that waits for one withdraws it.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from edged.clients.aio_link import Link, Pending
from edged.clients.aio_placed import Placed, Pool
from edged.clients.aio_prepared import Prepared
from edged.clients.aio_sequence import Sequence
from edged.clients.aio_stream import Stream
from edged.clients.places import goes_by_memory
from edged.clients.stock import Kinds
from edged.errors import DeadlineExceededError, DisconnectedError
from edged.messages import InferRequest, SequencedRequest
from edged.protocol import asking, native, prepared, steps, streams
from edged.protocol.asking import Layout, Plan
from edged.protocol.conversation import InferResult, Opened
from edged.protocol.frames import Buffer
from edged.protocol.keys import Key
from edged.protocol.stream_asking import StreamAnswer
from edged.protocol.streams import AHEAD
from edged.tensors import Array

__all__ = [
    "Client",
    "InferResult",
    "Pending",
    "Placed",
    "Prepared",
    "Sequence",
    "Stream",
    "StreamAnswer",
]

_TRIES = 3
"""A request whose connection ends so often before it could be sent fails with what ended it."""


class Client:
    """A connection to the daemon; made with the first request, made again after it broke.

    Programs ask with ``infer``, ``submit``, ``stream``, ``sequence`` and ``prepare``; what takes a
    plan or a step is there for the objects that those return. Arrays that were handed in must not
    change until the answer is there.

    Args:
        path: the Unix socket; default $EDGED_SOCKET, else /run/edged/edged.sock.
        timeout: seconds an answer stays useful; sent with each request. None waits for ever.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, timeout: float | None = 10.0
    ) -> None:
        self.path = asking.socket_path(path)
        self.timeout = timeout
        self._link: Link | None = None
        self._usual = Kinds(functools.partial(Pool, self))
        self._connecting: asyncio.Task[Link] | None = None

    async def __aenter__(self) -> Client:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        release: int | str | None = None,
        outputs: Collection[str] = (),
        timeout: float | None = None,
        key: Key = None,
        **tensors: Array,
    ) -> InferResult:
        """Ask a model and wait for its answer; as ``edged.Client.infer``.

        Args:
            model: its name.
            inputs: arrays by input name, for names that are no Python words; dtypes and shapes as
                ``models`` says.
            release: a release number or an alias; None for the one the operator serves.
            outputs: names of the outputs wanted; empty for all.
            timeout: seconds the answer stays useful; None for the client's.
            key: text or number; while a release is tried, requests of one key have one answerer.
            **tensors: arrays by input name.

        Returns:
            Arrays by output name; ``.release`` and ``.generation`` say who answered.

        Raises:
            RequestError: the request cannot be answered as it is.
            BusyError: it may be answered later; DeadlineExceededError after the timeout,
                DisconnectedError without a daemon.
            RuntimeFailureError: the model failed.
        """
        request = asking.infer_request(model, inputs, tensors, release, outputs, key=key)
        if goes_by_memory(request.inputs):
            pool, asker = self._usual.find(request), request.asker
            known = asker if isinstance(asker, str) else None
            result = await pool.ask(request.inputs, 0, timeout, known)
            if result is not None:
                return result
        return await (await self._submit(request, timeout)).result()

    async def submit(
        self,
        model: str,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        release: int | str | None = None,
        outputs: Collection[str] = (),
        timeout: float | None = None,
        key: Key = None,
        **tensors: Array,
    ) -> Pending:
        """Send a request; ``await`` what it returns for the answer.

        Takes what ``infer`` takes. Cancelling the task that waits for the answer withdraws it.

        Raises:
            EdgedError: it could not be sent. What else goes wrong, the answer raises.
        """
        request = asking.infer_request(model, inputs, tensors, release, outputs, key=key)
        return await self._submit(request, timeout)

    async def _submit(self, request: InferRequest, timeout: float | None) -> Pending:
        pending, wait_us = self.make_pending(request.model, timeout)
        return await self._send(
            pending, lambda number: native.encode_infer(number, request, wait_us)
        )

    def stream(
        self,
        model: str,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        release: int | str | None = None,
        outputs: Collection[str] = (),
        timeout: float | None = None,
        ahead: int = AHEAD,
        key: Key = None,
        **tensors: Array,
    ) -> Stream:
        """Ask once and get several answers: ``async for``; as ``edged.Client.stream``.

        The request is sent when the first answer is asked for. To withdraw it, leave the loop, or
        for certain at once: ``async with client.stream(…) as answers``.

        Returns:
            What ``async for`` goes over: StreamAnswer, with ``.index`` and ``.is_last``.

        Raises:
            InvalidRequestError: something that is no array; what else goes wrong, the loop raises.
        """
        request = asking.infer_request(model, inputs, tensors, release, outputs, key=key)
        streams.check_count(ahead, "answers ahead")
        pending, wait_us = self.make_pending(model, timeout)

        def encode(number: int) -> list[Buffer]:
            buffers = streams.encode_stream(number, request, wait_us, ahead)
            stream.listen(ahead)
            return buffers

        stream = Stream(pending, lambda: self._send(pending, encode))
        return stream

    def sequence(
        self,
        model: str,
        sequence_id: int | str | None = None,
        *,
        release: int | str | None = None,
    ) -> Sequence:
        """Ask a model that keeps state from one request to the next.

            async with client.sequence("speech") as sequence:
                (await sequence.infer(input=chunk))["output"]

        Args:
            model: its name.
            sequence_id: to go on under that name, also from another connection of this user; None
                for one that nobody else has.
            release: as for ``infer``.
        """
        return Sequence(self, model, sequence_id, release)

    async def submit_step(self, request: SequencedRequest, timeout: float | None) -> Pending:
        """Send a request of a sequence; see ``Sequence``."""
        pending, wait_us = self.make_pending(request.model, timeout)
        return await self._send(pending, lambda number: steps.encode_step(number, request, wait_us))

    async def prepare(
        self,
        model: str,
        inputs: Mapping[str, Layout] | None = None,
        /,
        *,
        release: int | str | None = None,
        outputs: Collection[str] = (),
        **layouts: Layout,
    ) -> Prepared:
        """Agree on a model and a layout once, so that each request costs as little as it can.

            digits = await client.prepare("digits", pixels=((None, 64), "float32"))
            (await digits(rows))["probabilities"]

        Args:
            model: its name.
            inputs: layouts by input name, for names that are no Python words.
            release: as for ``infer``.
            outputs: as for ``infer``.
            **layouts: (shape, dtype) by input name; None as the first number of a shape leaves the
                rows to each call.

        Raises:
            TensorMismatchError: the layout does not fit the model; the message says what does.
            EdgedError: as for ``infer``.
        """
        plan = Plan(asking.prepare_request(model, inputs, layouts, release, outputs))
        _, opened = await self._open(plan, self._until(self.timeout))
        return Prepared(self, plan, opened)

    async def call(self, verb: str, **arguments: Any) -> Any:
        """Ask the daemon itself, e.g. ``status`` or ``models``; as ``edged.Client.call``."""
        pending, _ = self.make_pending("", None)
        await self._send(pending, lambda number: native.encode_call(number, verb, arguments))
        await pending.wait()
        return pending.reply()

    async def status(self) -> dict[str, Any]:
        """What ``edged status --json`` shows, as plain values; raises as ``call``."""
        document: dict[str, Any] = await self.call("status")
        return document

    async def models(self) -> list[dict[str, Any]]:
        """Every model with its releases, signature and state; raises as ``call``."""
        document: list[dict[str, Any]] = await self.call("models")
        return document

    async def close(self) -> None:
        """End the connection; requests that wait get DisconnectedError."""
        task, self._connecting = self._connecting, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait((task,))
        link, self._link = self._link, None
        if link is None:
            return
        error = DisconnectedError("the client was closed")
        if link.loop is asyncio.get_running_loop() or link.closed.done():
            link.drop(error)
            await link.closed
        else:
            link.drop_from_afar(error)

    async def run_prepared(
        self,
        plan: Plan,
        tensors: Mapping[str, Array],
        timeout: float | None,
        key: str | None = None,
    ) -> Pending:
        """Send a request of a prepared call; see ``Prepared``."""
        pending, wait_us = self.make_pending(plan.request.model, timeout)
        for _ in range(_TRIES):
            link, opened = await self.open_plan(plan, pending.until)
            await link.drained(pending.until)
            if link.error is None:
                pending.answers = opened.answers
                link.ask(
                    pending, functools.partial(plan.frame, opened.handle, tensors, wait_us, key=key)
                )
                return pending
        assert link.error is not None
        raise link.error

    def forget(self, plan: Plan) -> None:
        """Give up a prepared call's handle, if it has one."""
        link = self._link
        opened = None if link is None else link.opened.pop(plan, None)
        if link is not None and opened is not None:
            link.write(prepared.encode_forget(opened.handle))

    async def open_plan(self, plan: Plan, until: float | None) -> tuple[Link, Opened]:
        """A connection that is up, and the prepared call on it."""
        link = await self._connected(until)
        opened = link.opened.get(plan)
        return (link, opened) if opened is not None else await self._open(plan, until)

    async def _open(self, plan: Plan, until: float | None) -> tuple[Link, Opened]:
        pending = Pending(plan.request.model, until)
        await self._send(pending, lambda number: prepared.encode_prepare(number, plan.request))
        await pending.wait()
        # Another task may have been faster; its handle and this one mean the same.
        return pending.link, pending.link.opened.setdefault(plan, pending.opened())

    async def _send(self, pending: Pending, encode: Callable[[int], list[Buffer]]) -> Pending:
        for _ in range(_TRIES):
            link = await self._connected(pending.until)
            await link.drained(pending.until)
            # Nothing was sent yet: another connection is as good.
            if link.error is None:
                link.ask(pending, encode)
                return pending
        assert link.error is not None
        raise link.error

    async def _connected(self, until: float | None) -> Link:
        """The connection of all tasks, a new one where the old one broke.

        Raises:
            DisconnectedError: nobody listens there.
            DeadlineExceededError: whoever does takes no connections.
        """
        link = self._link
        loop = asyncio.get_running_loop()
        if link is not None and link.error is None and link.loop is loop:
            return link
        task = self._connecting
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._connecting = loop.create_task(self._connect())
            task.add_done_callback(_heard)
        left_s = None if until is None else max(0.0, until - loop.time())
        # Others wait for the same connection: whoever is cancelled or late does not end it.
        await asyncio.wait((task,), timeout=left_s)
        if not task.done():
            raise DeadlineExceededError(f"{self.path} took no connection in time")
        if task.cancelled():
            # Not to be raised as it is: the task that waited would seem to be cancelled itself.
            raise DisconnectedError("the client was closed")
        return task.result()

    async def _connect(self) -> Link:
        loop = asyncio.get_running_loop()
        link = Link(self.path)
        try:
            await loop.create_unix_connection(lambda: link, self.path)
        except asyncio.CancelledError:
            # It may be up already, and nobody else knows it.
            link.abandon(DisconnectedError("the client was closed"))
            raise
        except OSError as exc:
            raise DisconnectedError(
                f"cannot connect to {self.path}: {exc.strerror or exc}; is the daemon running "
                "(edged run), and may this user use its socket?"
            ) from exc
        self._link = link
        return link

    def make_pending(self, model: str, timeout: float | None) -> tuple[Pending, int]:
        """What waits for an answer, and the timeout in microseconds."""
        seconds = self.timeout if timeout is None else timeout
        wait_us = asking.timeout_us(seconds)
        return Pending(model, self._until(seconds)), wait_us

    def _until(self, seconds: float | None) -> float | None:
        if seconds is None:
            return None
        return asyncio.get_running_loop().time() + seconds + asking.GRACE_S


def _heard(task: asyncio.Task[Link]) -> None:
    """Whoever waited for the connection may have given up: its failure is nobody's any more."""
    if not task.cancelled():
        task.exception()
