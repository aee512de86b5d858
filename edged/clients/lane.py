"""The client's shortest way: one prepared call on one connection, while no other thread uses it.

One send, one receive, and nothing noted down in between. A request of a small model spends most of
its time around the run, so what this file leaves out is what such a client gains; everything that
is unusual in any way is left to ``link.py``, which says what is wrong.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from edged.clients.link import Link, Waiter
from edged.errors import EdgedError
from edged.messages import PrepareRequest
from edged.protocol import asking, memory, prepared_runs
from edged.protocol.asking import Plan
from edged.protocol.conversation import InferResult, Opened
from edged.protocol.layout import COPY_BYTES, BodyLayout
from edged.tensors import Array

_ROWS = 64
"""For so many numbers of rows it is remembered how frames look."""


class _Form(NamedTuple):
    """How frames of one number of rows look."""

    rows: int
    packer: struct.Struct
    inputs: tuple[tuple[str, np.dtype[np.generic], tuple[int, ...]], ...]
    question_bytes: int
    outputs: tuple[tuple[str, np.dtype[np.generic], tuple[int, ...] | None, int, int], ...]
    answer_rows: int
    answer_bytes: int


class Lane:
    """See above.

    Args:
        link: the connection.
        plan: what was prepared.
        opened: its handle on this connection.
    """

    def __init__(self, link: Link, plan: Plan, opened: Opened) -> None:
        self.link = link
        self._plan = plan
        self._opened = opened
        self._handle = opened.handle
        self._model = plan.request.model
        self._first = plan.names[0] if plan.names else ""
        self._has_rows = plan.layout.has_rows
        self._count = len(plan.names)
        self._forms: dict[int, _Form] = {}
        self._times: tuple[float | None, int, float | None] = (None, 0, None)

    def ask(
        self, tensors: Mapping[str, Array], seconds: float | None, key: str | None = None
    ) -> InferResult | None:
        """Ask and wait for the answer.

        Args:
            tensors: the question.
            seconds: how long the answer stays useful; None for ever.
            key: what keeps it on one side of a rollout.

        Returns:
            The answer; None when nothing was sent, and the usual way has to be gone.

        Raises:
            EdgedError: what the server says went wrong, or the connection broke.
        """
        first = tensors.get(self._first)
        if type(first) is not np.ndarray or len(tensors) != self._count:
            return None
        form = self._forms.get(first.shape[0] if self._has_rows and first.ndim else 0)
        if form is None and (form := self._learn(first)) is None:
            return None
        times = self._times
        if seconds is not times[0]:
            # One object, and ours from here: another thread may ask with other times meanwhile.
            limit_s = None if seconds is None else seconds + asking.GRACE_S
            times = self._times = (seconds, asking.timeout_us(seconds), limit_s)
        _, wait_us, limit_s = times
        parts = []
        for name, dtype, shape in form.inputs:
            array = tensors.get(name)
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return None
            parts.append(array.tobytes())
        return self._exchange(form, parts, (wait_us, limit_s), key)

    def _exchange(
        self, form: _Form, parts: list[bytes], times: tuple[int, float | None], key: str | None
    ) -> InferResult | None:
        """Send a request and wait, if nobody else reads the connection; else None."""
        link, (wait_us, limit_s) = self.link, times
        if not link.read_lock.acquire(False):
            return None
        try:
            data = link.reader.peek()
            if data is None or link.waiting or link.opened.get(self._plan) is not self._opened:
                return None
            until = None if limit_s is None else time.monotonic() + limit_s
            number = self._send(form, parts, wait_us, key)
            if number == 0:
                return None
            try:
                link.limit_reads(limit_s)
                count = link.sock.recv_into(data)
                result = self._read(data, count, number, form)
                if result is not None:
                    return result
                waiter = self._join(number, until)
                link.took(count)
            except BlockingIOError:
                waiter = self._join(number, until)
            except (OSError, ValueError, EdgedError) as exc:
                waiter = self._join(number, until)
                link.drop(exc)
        finally:
            link.read_lock.release()
            link.wake_a_reader()
        link.read_until_done(waiter)
        return waiter.infer_result()

    def take_form(self, form: _Form) -> None:
        """Send nothing but frames of this form, which have no body."""
        self._forms[0], self._count = form, 1

    def _send(self, form: _Form, parts: list[bytes], wait_us: int, key: str | None) -> int:
        """Send a request if that is possible at once; returns its id, 0 when nothing was sent."""
        link = self.link
        # Not waited for: who has it may want to read, which only the caller of this may do now.
        if not link.send_lock.acquire(False):
            return 0
        try:
            if link.error is not None or link.greeting:
                return 0
            number = link.next_id
            frame = form.packer.pack(
                prepared_runs.RUN_START, number, prepared_runs.RUN_HEAD_BYTES, 0,
                form.question_bytes, self._handle, form.rows, wait_us, *parts,
            )  # fmt: skip
            if key is not None:
                frame = prepared_runs.keyed(frame, key)
            # Before it is sent: Ctrl-C may end this right after, and no id may be used twice.
            link.next_id = number + 1
            try:
                count = link.sock.send(frame, socket.MSG_DONTWAIT)
            except (OSError, ValueError):
                return 0
            if count < len(frame):
                # The kernel takes so little whole or not at all.
                link.drop(ConnectionAbortedError(f"{count} of {len(frame)} bytes were sent"))
            return number
        finally:
            link.send_lock.release()

    def _read(self, data: memoryview, count: int, number: int, form: _Form) -> InferResult | None:
        """Read the answer where it arrived; None when that is not what arrived, to the byte."""
        if count != prepared_runs.ANSWER_BODY + form.answer_bytes:
            return None
        (
            start, request_id, head_bytes, reserved, size,
            release, generation, queue_ns, run_ns, rows, batch_rows,
        ) = prepared_runs.ANSWER_FRAME.unpack_from(data)  # fmt: skip
        if (
            start != prepared_runs.ANSWER_START
            or request_id != number
            or head_bytes != prepared_runs.ANSWER_HEAD_BYTES
            or reserved
            or size != form.answer_bytes
            or rows != form.answer_rows
        ):
            return None
        body = bytes(data[prepared_runs.ANSWER_BODY : count])
        result = InferResult.__new__(InferResult)
        for name, dtype, shape, length, offset in form.outputs:
            array = np.frombuffer(body, dtype, length, offset)
            result[name] = array if shape is None else array.reshape(shape)
        result.model = self._model
        result.release, result.generation = release, generation
        result.queue_ns, result.run_ns, result.batch_rows = queue_ns, run_ns, batch_rows
        return result

    def _join(self, number: int, until: float | None) -> Waiter:
        """Wait as others do for what was sent; only whoever reads for all calls this."""
        waiter = Waiter(self._model, until, self._opened.answers)
        link = waiter.link = self.link
        waiter.request_id = number
        link.waiting[number] = waiter
        if link.error is not None:
            # It may have ended before the line above, which then was not seen.
            waiter.fail(link.error)
        return waiter

    def _learn(self, first: Array) -> _Form | None:
        """Work out how frames of as many rows look; None when they are not to be sent this way."""
        rows = first.shape[0] if self._has_rows and first.ndim else 0
        answers, questions = self._opened.answers, self._plan.layout
        if answers is None or bool(rows) != self._has_rows or rows > _ROWS:
            return None
        packer = questions.form(rows, prepared_runs.RUN_FRAME)
        if packer is None:
            return None  # too large to be copied lightly
        inputs = tuple((name, dtype, shape) for name, dtype, shape, *_ in questions.places(rows))
        form = _make_form(rows, packer, inputs, questions.body_bytes(rows), answers)
        if form is not None:
            self._forms[rows] = form
        return form


class _NearLane(Lane):
    """One whose requests lie in memory, so large that it matters whose cache has them."""

    def ask(
        self, tensors: Mapping[str, Array], seconds: float | None, key: str | None = None
    ) -> InferResult | None:
        """As for any lane."""
        nearby = self.link.nearby
        began_ns = time.monotonic_ns()
        cores = nearby.choices()
        if cores is None:
            result = super().ask(tensors, seconds, key)
        else:
            try:
                nearby.stay()
                result = super().ask(tensors, seconds, key)
                nearby.go(cores)
            except BaseException:  # Ctrl-C may come at any step, that of going included
                nearby.go(cores)
                raise
        if result is not None:
            core = nearby.answered(time.monotonic_ns() - began_ns, result.run_ns)
            if core is not None:
                self.link.tell(memory.encode_near(core))
        return result


NOTHING: Mapping[str, Array] = {"": np.empty(0, np.uint8)}
"""What is asked on a lane whose requests lie in memory."""


def lane_by_memory(link: Link, model: str, opened: Opened, rows: int, size: int) -> Lane | None:
    """The shortest way for requests that lie in memory the daemon has; asked ``NOTHING``.

    Args:
        link: the connection.
        model: who is asked.
        opened: the handle of the bound call, and the layout of what comes along with its answers.
        rows: of every request.
        size: bytes of the inputs of a request.
    """
    if opened.answers is None:
        return None
    form = _make_form(rows, prepared_runs.RUN_FRAME, (), 0, opened.answers)
    if form is None:
        return None
    plan = Plan(PrepareRequest(model, ()))
    make = _NearLane if size >= memory.NEAR_BYTES else Lane
    lane = make(link, plan, opened)
    lane.take_form(form)
    # A connection that ends forgets it, as any prepared call.
    link.opened[plan] = opened
    return lane


def _make_form(
    rows: int,
    packer: struct.Struct,
    inputs: tuple[tuple[str, np.dtype[np.generic], tuple[int, ...]], ...],
    question_bytes: int,
    answers: BodyLayout,
) -> _Form | None:
    answer_rows = rows if answers.has_rows else 0
    if answers.body_bytes(answer_rows) > COPY_BYTES:
        return None  # too large to be copied lightly
    outputs = []
    for name, dtype, shape, offset, size, is_bool in answers.places(answer_rows):
        if is_bool or not size:
            return None  # every byte of a bool is looked at
        length = size // dtype.itemsize
        outputs.append((name, dtype, None if len(shape) == 1 else shape, length, offset))
    answer_bytes = answers.body_bytes(answer_rows)
    return _Form(rows, packer, inputs, question_bytes, tuple(outputs), answer_rows, answer_bytes)
