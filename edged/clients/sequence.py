"""Requests to a model that keeps state, from Python: one object a sequence.

with client.sequence("speech") as sequence:
    for chunk in chunks:
        sequence.infer(input=chunk)["output"]
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Protocol

from edged.clients.course import Course
from edged.clients.pending import Pending
from edged.errors import EdgedError
from edged.messages import SequencedRequest
from edged.protocol.conversation import InferResult
from edged.tensors import Array


class Asker(Protocol):
    """A client, as far as a sequence needs it."""

    def submit_step(self, request: SequencedRequest, timeout: float | None) -> Pending:
        """Send a request of a sequence."""
        ...


class Sequence(Course):
    """Made by ``Client.sequence``. Its first request begins it; used by one thread at a time.

    Args:
        client: that asks.
        model: the model's name.
        sequence_id: a text or a number; None for a new one.
        release: as for ``Client.infer``.
    """

    def __init__(
        self,
        client: Asker,
        model: str,
        sequence_id: int | str | None,
        release: int | str | None,
    ) -> None:
        super().__init__(model, sequence_id, release)
        self._client = client

    def __enter__(self) -> Sequence:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        # What it would say is of no use any more: the daemon gives it up by itself.
        with contextlib.suppress(EdgedError):
            self.end()

    def infer(
        self,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        outputs: Collection[str] = (),
        end: bool = False,
        timeout: float | None = None,
        **tensors: Array,
    ) -> InferResult:
        """Ask and wait for the answer; as ``Client.infer``.

        Args:
            inputs: as for ``Client.infer``; the state is none of them.
            outputs: likewise.
            end: nothing is kept after this request.
            timeout: likewise.
            **tensors: likewise.

        Raises:
            SequenceNotFoundError: the daemon has given it up; ``restart`` begins anew.
            EdgedError: the state is what it was before, unless the answer was not waited for.
        """
        was_open = self.is_open
        pending = self.submit(inputs, outputs=outputs, end=end, timeout=timeout, **tensors)
        try:
            return pending.result()
        except EdgedError:
            # The first one did not begin it, and the last one did not end it.
            self.is_open = was_open
            raise

    def submit(
        self,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        outputs: Collection[str] = (),
        end: bool = False,
        timeout: float | None = None,
        **tensors: Array,
    ) -> Pending:
        """Send a request without waiting; those of one sequence run in the order they were sent."""
        request = self._request(inputs, tensors, outputs, end=end)
        pending = self._client.submit_step(request, timeout)
        self.is_open = not end
        return pending

    def end(self) -> None:
        """Let the daemon forget the state; the next request would begin anew."""
        request = self._last()
        if request is not None:
            self._client.submit_step(request, None).result()
