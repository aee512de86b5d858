"""What a client prepared: the call, how its bytes lie, and what it was last refused with."""

from __future__ import annotations

import time

from edged.errors import EdgedError
from edged.protocol import native
from edged.protocol.frames import Buffer, renumbered
from edged.protocol.layout import BodyLayout
from edged.transports.native.door import Prepared


class Handle:
    """One prepared call of one client.

    Args:
        call: of the dataplane.
        inputs: of a request's body.
        outputs: of an answer's; None where they are known only after a run.
    """

    __slots__ = ("_error", "_said", "call", "inputs", "outputs")

    def __init__(self, call: Prepared, inputs: BodyLayout, outputs: BodyLayout | None) -> None:
        self.call, self.inputs, self.outputs = call, inputs, outputs
        self._error: EdgedError | None = None
        self._said: list[Buffer] = []

    def guarded(self, call: Prepared) -> Handle:
        """The same, by a call that asks for rights."""
        return Handle(call, self.inputs, self.outputs)

    def refused(
        self, request_id: int, rows: int, deadline_ns: int | None, origin: str
    ) -> list[Buffer] | None:
        """The answer to a request that is refused as the one before was; None for all others."""
        call = self.call
        error = call.shuts_out(rows, deadline_ns, time.monotonic_ns(), origin)
        if error is None:
            return None
        if error is not self._error:
            self._said = native.encode_error(request_id, error, call.release, call.generation)
            self._error = error
        return renumbered(self._said, request_id)
