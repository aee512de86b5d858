"""A release that runs when a test says so, as a cache before it sees it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edged.errors import CancelledError, EdgedError, QueueFullError
from edged.messages import InferRequest, InferResponse
from edged.serving.counters import Counters
from edged.serving.lifecycle import State
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.standing import Standing
from edged.tensors import TensorSpec


class Front:
    """Gives ``x * factor``; ``factor`` stands for the release, and ``name`` for what it is."""

    number = 1
    owner = 'model "gate" release 1'
    inputs = (TensorSpec("x", "float32", ("batch", 4)),)

    def __init__(self, factor: float = 2) -> None:
        self.factor = factor
        self.state = State.READY
        self.counters = Counters()
        self.waiting: list[Waiting] = []
        self.stays = 0
        self.is_full = False

    @property
    def answers(self) -> bool:
        return self.state is State.READY

    @property
    def told_state(self) -> str:
        return self.state.value

    def identity(self) -> bytes:
        return str(self.factor).encode()

    def become(self, factor: float) -> None:
        """Another session, of other weights."""
        self.factor = factor
        Standing.moves += 1

    def stay(self) -> Callable[[], None]:
        self.stays += 1

        def let_go() -> None:
            self.stays -= 1

        return let_go

    def offer(self, item: Waiting) -> Waiting:
        if self.is_full:
            raise QueueFullError("full")
        self.waiting.append(item)
        return item

    def withdraw(self, item: Waiting) -> bool:
        if item not in self.waiting:
            return False
        self.end(item, CancelledError("withdrawn"))
        return True

    def run(self, item: Waiting) -> None:
        """Answer one, as a release does."""
        self.waiting.remove(item)
        self.counters.served(item.request.origin, 0, 10)
        outputs = {"y": item.request.inputs["x"] * np.float32(self.factor)}
        item.on_response(InferResponse("gate", 1, item.generation, outputs, None, 5, 7, 3), True)

    def end(self, item: Waiting, error: EdgedError) -> None:
        """Answer one with an error."""
        self.waiting.remove(item)
        self.counters.answered(item.request.origin, error, 10)
        item.on_response(InferResponse("gate", 1, item.generation, error=error), True)


class Asker:
    """A request, and all that came back for it."""

    def __init__(
        self, value: float, deadline_ns: int | None = None, origin: str = "uds:1", size: int = 16,
        at_ns: int = 0, generation: int = 1,
    ) -> None:  # fmt: skip
        self.value = value
        self.parts: list[InferResponse] = []
        self.finals: list[InferResponse] = []
        inputs = {"x": np.full((1, 4), value, np.float32)}
        request = InferRequest("gate", inputs, None, (), deadline_ns, origin)
        self.item = Waiting(request, self._came, 1, (), size, at_ns, generation)

    def _came(self, response: InferResponse, final: bool) -> None:
        (self.finals if final else self.parts).append(response)

    @property
    def y(self) -> float:
        """The first number of its only answer."""
        (response,) = self.finals
        assert response.error is None, response.error
        return float(response.outputs["y"][0, 0])

    @property
    def error(self) -> EdgedError:
        (response,) = self.finals
        assert response.error is not None
        return response.error
