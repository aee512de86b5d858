"""A door that answers a stream with one row of ``x`` after the other, as far as the asker takes them."""

from __future__ import annotations

import numpy as np

from edged.errors import CancelledError, EdgedError
from edged.messages import InferRequest, InferResponse, OnResponse, StreamRequest
from tests.fakes.wire import EchoDoor, Held


class Giver:
    """One stream: the ticket that withdraws it, too."""

    def __init__(self, request: StreamRequest, on_response: OnResponse) -> None:
        self.request, self.on_response = request, on_response
        self.flow = request.flow
        self.given = 0
        self.ended = 0
        self.flow.on_room = self.go_on

    def go_on(self) -> None:
        x = self.request.inputs["x"]
        while self.given < len(x) and self.flow.has_room and not self.ended:
            row = x[self.given : self.given + 1]
            self.given += 1
            self.flow.give()
            self.on_response(InferResponse(self.request.model, 7, 3, {"x": row}), False)
        if self.given == len(x):
            self.end(None)

    def end(self, error: EdgedError | None) -> None:
        if self.ended:
            return
        self.ended += 1
        outputs = {} if error else {"rows": np.array([self.given])}
        wanted = self.request.outputs
        outputs = {name: outputs[name] for name in wanted if name in outputs} if wanted else outputs
        self.on_response(InferResponse(self.request.model, 7, 3, outputs, error), True)

    def cancel(self) -> bool:
        self.end(CancelledError("withdrawn"))
        return True


class RowsDoor(EchoDoor):
    """As the echo, but for streams; ``streams`` are those that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[Giver] = []

    def submit(self, request: InferRequest, on_response: OnResponse) -> Held | Giver | None:
        if type(request) is not StreamRequest:
            return super().submit(request, on_response)
        giver = Giver(request, on_response)
        self.streams.append(giver)
        giver.go_on()
        return giver
