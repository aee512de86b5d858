"""Requests to a model that keeps state, with asyncio; as ``edged.clients.sequence``.

async with client.sequence("speech") as sequence:
    (await sequence.infer(input=chunk))["output"]
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Protocol

from edged.clients.aio_link import Pending
from edged.clients.course import Course
from edged.errors import EdgedError
from edged.messages import SequencedRequest
from edged.protocol.conversation import InferResult
from edged.tensors import Array


class Asker(Protocol):
    """A client, as far as a sequence needs it."""

    async def submit_step(self, request: SequencedRequest, timeout: float | None) -> Pending:
        """Send a request of a sequence."""
        ...


class Sequence(Course):
    """Made by ``Client.sequence``; see ``edged.clients.sequence.Sequence``.

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

    async def __aenter__(self) -> Sequence:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    async def __aexit__(self, *_: object) -> None:
        # What it would say is of no use any more: the daemon gives it up by itself.
        with contextlib.suppress(EdgedError):
            await self.end()

    async def infer(
        self,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        outputs: Collection[str] = (),
        end: bool = False,
        timeout: float | None = None,
        **tensors: Array,
    ) -> InferResult:
        """Ask and wait for the answer; as ``edged.Client``'s sequences, with the same errors."""
        was_open = self.is_open
        pending = await self.submit(inputs, outputs=outputs, end=end, timeout=timeout, **tensors)
        try:
            return await pending.result()
        except EdgedError:
            # The first one did not begin it, and the last one did not end it.
            self.is_open = was_open
            raise

    async def submit(
        self,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        outputs: Collection[str] = (),
        end: bool = False,
        timeout: float | None = None,
        **tensors: Array,
    ) -> Pending:
        """Send a request; ``await`` what it returns for the answer."""
        request, was_open = self._request(inputs, tensors, outputs, end=end), self.is_open
        # Before it is sent: what other tasks submit meanwhile comes after it.
        self.is_open = not end
        try:
            return await self._client.submit_step(request, timeout)
        except BaseException:
            self.is_open = was_open  # nothing was sent
            raise

    async def end(self) -> None:
        """Let the daemon forget the state; the next request would begin anew."""
        request = self._last()
        if request is not None:
            await (await self._client.submit_step(request, None)).result()
