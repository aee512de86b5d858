"""The client for local applications: named NumPy arrays in, named NumPy arrays out.

    with edged.Client("/run/edged/edged.sock") as client:
        result = client.infer("digits", image=pixels)
        result["probabilities"]

        digits = client.prepare("digits", pixels=((None, 64), "float32"))
        digits(rows)["probabilities"]

        for answer in client.stream("page", picture=pixels):
            answer["text"]

What goes wrong is an error of ``edged.errors``, with the daemon's message. Usable from several
threads: each call may be in flight at the same time as others, and one of those that wait reads for
all.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from edged.clients.copies import leave_in_copies
from edged.clients.link import Link, NothingSentError
from edged.clients.pending import Pending
from edged.clients.placed import Placed, Pool
from edged.clients.places import goes_by_memory
from edged.clients.prepared import Prepared
from edged.clients.sequence import Sequence
from edged.clients.stock import Kinds
from edged.clients.stream import Stream
from edged.errors import DisconnectedError
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
"""A prepared call whose connection is replaced so often by other threads gives up."""


class Client:
    """A connection to the daemon; made with the first call, made again after it broke.

    Programs ask with ``infer``, ``submit``, ``stream``, ``sequence`` and ``prepare``; what takes a
    plan, a step or a link is there for the objects that those return.

    Args:
        path: the Unix socket; default $EDGED_SOCKET, else /run/edged/edged.sock.
        timeout: seconds an answer stays useful; sent with each request. None waits for ever.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, timeout: float | None = 10.0
    ) -> None:
        self.path = asking.socket_path(path)
        self.timeout = timeout
        self.link: Link | None = None
        self._lock = threading.Lock()
        self._usual = Kinds(functools.partial(Pool, self))
        leave_in_copies(self)

    def leave(self) -> None:
        """This process is a copy of another: connect anew with the next call; see ``copies.py``."""
        self._lock, self.link = threading.Lock(), None
        self._usual = Kinds(functools.partial(Pool, self))

    def __enter__(self) -> Client:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(
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
        """Ask a model and wait for its answer.

        Args:
            model: its name.
            inputs: arrays by input name, for names that are no Python words. Each has the dtype
                and the shape that ``models`` says; where that begins with ``batch``, as many rows
                as there are, the same for all inputs.
            release: a release number or an alias; None for the one the operator serves.
            outputs: names of the outputs wanted; empty for all.
            timeout: seconds the answer stays useful; None for the client's.
            key: text or number; while a release is tried, requests of one key have one answerer.
            **tensors: arrays by input name.

        Returns:
            Arrays by output name, a row for each row asked; ``.release`` and ``.generation`` say
            who answered.

        Raises:
            RequestError: the request cannot be answered as it is: TensorMismatchError says what
                the model wants, ModelNotFoundError which models there are.
            BusyError: it may be answered later, after ``.retry_after_ns`` where that is known;
                DeadlineExceededError after the timeout, DisconnectedError without a daemon.
            RuntimeFailureError: the model failed.
        """
        request = asking.infer_request(model, inputs, tensors, release, outputs, key=key)
        if goes_by_memory(request.inputs):
            pool, asker = self._usual.find(request), request.asker
            known = asker if isinstance(asker, str) else None
            result = pool.ask(request.inputs, 0, timeout, known)
            if result is not None:
                return result
        return self._submit(request, timeout).result()

    def submit(
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
        """Send a request without waiting; many may be in flight on one connection.

        Takes what ``infer`` takes.

        Returns:
            The answer to come: ``result()`` waits for it, ``cancel()`` withdraws the request.

        Raises:
            InvalidRequestError: something that is no array, or no number of seconds.
            BusyError: it could not be sent. What else goes wrong, ``result()`` raises.
        """
        request = asking.infer_request(model, inputs, tensors, release, outputs, key=key)
        return self._submit(request, timeout)

    def _submit(self, request: InferRequest, timeout: float | None) -> Pending:
        pending, wait_us = self.make_pending(request.model, timeout)
        self._send(pending, lambda number: native.encode_infer(number, request, wait_us))
        return pending

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
        """Ask once and get several answers, each as soon as it is made: iterate over them.

        A pipeline gives what it says under ``stream`` for each item, in order, and the rest of its
        outputs last; a model that makes texts gives each token as it is made; whatever else is
        asked answers once. Leaving the loop withdraws the request.

        Args:
            model: as for ``infer``.
            inputs: as for ``infer``.
            release: as for ``infer``.
            outputs: as for ``infer``.
            timeout: seconds for all answers together; None for the client's.
            ahead: answers that may be on their way unread; then the daemon waits.
            key: as for ``infer``.
            **tensors: as for ``infer``.

        Returns:
            An iterator over StreamAnswer: arrays by output name, ``.index`` and ``.is_last``.

        Raises:
            EdgedError: as for ``submit``; what ends the stream, the loop over it raises.
        """
        request = asking.infer_request(model, inputs, tensors, release, outputs, key=key)
        streams.check_count(ahead, "answers ahead")
        pending, wait_us = self.make_pending(model, timeout)
        stream = Stream(pending)

        def encode(number: int) -> list[Buffer]:
            buffers = streams.encode_stream(number, request, wait_us, ahead)
            stream.listen(ahead)
            return buffers

        self._send(pending, encode)
        return stream

    def sequence(
        self,
        model: str,
        sequence_id: int | str | None = None,
        *,
        release: int | str | None = None,
    ) -> Sequence:
        """Ask a model that keeps state from one request to the next.

            with client.sequence("speech") as sequence:
                sequence.infer(input=chunk)["output"]

        Args:
            model: its name.
            sequence_id: to go on under that name, also from another connection of this user; None
                for one that nobody else has.
            release: as for ``infer``.
        """
        return Sequence(self, model, sequence_id, release)

    def submit_step(self, request: SequencedRequest, timeout: float | None) -> Pending:
        """Send a request of a sequence; see ``Sequence``."""
        pending, wait_us = self.make_pending(request.model, timeout)
        self._send(pending, lambda number: steps.encode_step(number, request, wait_us))
        return pending

    def prepare(
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

            digits = client.prepare("digits", pixels=((None, 64), "float32"))
            digits(rows)["probabilities"]

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
        self.opened(plan)
        return Prepared(self, plan)

    def call(self, verb: str, **arguments: Any) -> Any:
        """Ask the daemon itself, e.g. ``status`` or ``models``; returns plain values.

        Raises:
            NotFoundError: there is no such verb; the message says which there are.
            DeniedError: this user may not ask that.
            BusyError: no answer in the client's timeout, or no daemon.
        """
        pending, _ = self.make_pending("", None)
        self._send(pending, lambda number: native.encode_call(number, verb, arguments))
        pending.wait()
        return pending.reply()

    def status(self) -> dict[str, Any]:
        """What ``edged status --json`` shows, as plain values; raises as ``call``."""
        document: dict[str, Any] = self.call("status")
        return document

    def models(self) -> list[dict[str, Any]]:
        """Every model with its releases, signature and state; raises as ``call``."""
        document: list[dict[str, Any]] = self.call("models")
        return document

    def close(self) -> None:
        """End the connection; calls that wait get DisconnectedError."""
        link = self.link
        if link is not None:
            link.drop(DisconnectedError("the client was closed"))

    def run_prepared(
        self,
        plan: Plan,
        tensors: Mapping[str, Array],
        timeout: float | None,
        key: str | None = None,
    ) -> Pending:
        """Send a request of a prepared call; see ``Prepared``."""
        pending, wait_us = self.make_pending(plan.request.model, timeout)
        for _ in range(_TRIES):
            link, opened = self.open_plan(plan, pending.until)
            pending.answers = opened.answers
            encode = functools.partial(plan.frame, opened.handle, tensors, wait_us, key=key)
            try:
                link.ask(pending, encode)
            except NothingSentError:
                continue
            return pending
        raise DisconnectedError(f"the connection to {self.path} broke again and again")

    def opened(self, plan: Plan) -> Opened:
        """The prepared call as the daemon knows it on the present connection."""
        return self.open_plan(plan, self._until(self.timeout))[1]

    def open_plan(self, plan: Plan, until: float | None) -> tuple[Link, Opened]:
        """A connection that is up, and the prepared call on it."""
        link = self.link
        opened = None if link is None else link.opened.get(plan)
        return self._open(plan, until) if link is None or opened is None else (link, opened)

    def forget(self, plan: Plan) -> None:
        """Give up a prepared call's handle, if it has one."""
        link = self.link
        opened = None if link is None else link.opened.pop(plan, None)
        if link is not None and opened is not None:
            link.tell(prepared.encode_forget(opened.handle))

    def _open(self, plan: Plan, until: float | None) -> tuple[Link, Opened]:
        """Prepare a call on a connection that is up."""
        pending = Pending(plan.request.model, until)
        self._send(pending, lambda number: prepared.encode_prepare(number, plan.request))
        pending.wait()
        opened = pending.opened()
        # Another thread may have been faster; its handle and this one mean the same.
        return pending.link, pending.link.opened.setdefault(plan, opened)

    def _send(self, pending: Pending, encode: Callable[[int], list[Buffer]]) -> None:
        """Send a request; once more when the connection turns out to have ended meanwhile."""
        link = self.link
        if link is not None and link.error is None:
            try:
                link.ask(pending, encode)
            except NothingSentError:
                pass
            else:
                return
        self._connect(pending.until).ask(pending, encode, is_new=True)

    def _connect(self, until: float | None) -> Link:
        """The connection of all threads, a new one where the old one broke."""
        with self._lock:
            link = self.link
            if link is None or link.error is not None:
                link = self.link = Link(self.path, until)
            return link

    def make_pending(self, model: str, timeout: float | None) -> tuple[Pending, int]:
        """What waits for an answer, and the timeout in microseconds."""
        seconds = self.timeout if timeout is None else timeout
        wait_us = asking.timeout_us(seconds)
        return Pending(model, self._until(seconds)), wait_us

    def _until(self, seconds: float | None) -> float | None:
        return None if seconds is None else time.monotonic() + seconds + asking.GRACE_S
