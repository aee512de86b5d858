"""A call of the synchronous client that was prepared once, and is made many times.

Decides which way a request goes: the shortest one, by passed memory, or as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edged.clients import placed
from edged.clients.lane import Lane
from edged.clients.link import Link
from edged.clients.pending import Pending
from edged.clients.placed import Placed, Pool, make_bound
from edged.clients.places import goes_by_memory
from edged.errors import LayoutChangedError
from edged.protocol.asking import Plan
from edged.protocol.conversation import InferResult, Opened
from edged.protocol.keys import Key, key_text
from edged.tensors import Array, TensorSpec


class Asks(placed.Client, Protocol):
    """The client, as its prepared calls see it."""

    link: Link | None

    def opened(self, plan: Plan) -> Opened:
        """The prepared call as the daemon knows it on the present connection."""
        ...

    def run_prepared(
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

    It outlives the connection: on a new one, and when a release with another signature serves, it
    is prepared again by itself.
    """

    def __init__(self, client: Asks, plan: Plan) -> None:
        self._client = client
        self._plan = plan
        self._lane: Lane | None = None
        self._pool = Pool(client, plan)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The layout: names, dtypes and shapes; ``batch`` is the free axis."""
        return self._plan.request.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What answers hold: names, dtypes and shapes, as far as they are known before a run."""
        return self._client.opened(self._plan).outputs

    def __call__(
        self, *arrays: Array, timeout: float | None = None, key: Key = None
    ) -> InferResult:
        """Ask with arrays in the order of the layout, and wait for the answer; as ``infer``."""
        return self._ask(self._plan.by_position(arrays), timeout, key)

    def infer(
        self,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        timeout: float | None = None,
        key: Key = None,
        **tensors: Array,
    ) -> InferResult:
        """Ask and wait for the answer; as ``Client.infer``.

        Raises:
            TensorMismatchError: the arrays are not of the layout, or it no longer fits the model.
        """
        if tensors or inputs is None:
            inputs = {**(inputs or {}), **tensors}
        return self._ask(inputs, timeout, key)

    def submit(
        self,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        timeout: float | None = None,
        key: Key = None,
        **tensors: Array,
    ) -> Pending:
        """Send a request without waiting; many may be in flight.

        When the model's signature changed while it was on its way, ``result`` raises
        LayoutChangedError: the request was not run, and may be submitted again.
        """
        named = {**(inputs or {}), **tensors}
        return self._client.run_prepared(self._plan, named, timeout, key_text(key))

    def place(self, rows: int = 0) -> Placed:
        """Memory that requests are written to and answers come to lie in, without a copy.

        Args:
            rows: of every request; 0 where the layout leaves no axis free.

        Raises:
            EdgedError: the daemon takes no memory, or the call no such rows; the message says why.
            OSError: there is no memory.
        """
        return Placed(make_bound(self._client, self._plan, rows))

    def close(self) -> None:
        """Let the daemon forget the call; using it again prepares it again."""
        self._lane = None
        self._pool.close()
        self._client.forget(self._plan)

    def _ask(self, tensors: Mapping[str, Array], timeout: float | None, key: Key) -> InferResult:
        client, plan, lane = self._client, self._plan, self._lane
        words = None if key is None else key_text(key)
        link = client.link
        try:
            if lane is not None and lane.link is link:
                result = lane.ask(tensors, client.timeout if timeout is None else timeout, words)
                if result is not None:
                    return result
            elif link is not None and (opened := link.opened.get(plan)) is not None:
                self._lane = Lane(link, plan, opened)
            if goes_by_memory(tensors):
                result = self._pool.ask(tensors, plan.layout.rows_of(tensors), timeout, words)
                if result is not None:
                    return result
            return client.run_prepared(plan, tensors, timeout, words).result()
        except LayoutChangedError:
            # Refused, so not run: when the arrays still fit, nobody need know.
            self.close()
            return client.run_prepared(plan, tensors, timeout, words).result()
