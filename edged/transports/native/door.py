"""What the native transport is given: the dataplane, calls and limits, as it sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from edged.errors import EdgedError
from edged.messages import InferRequest, OnResponse, PrepareRequest, Ticket
from edged.protocol.frames import Limits
from edged.protocol.lane import LoneRun
from edged.system.cores import Stay
from edged.tensors import Array, TensorSpec

Call = Callable[[dict[str, Any]], Awaitable[Any]]


class Turn(Protocol):
    """What runs on the loop; see ``edged.serving.scheduling.turn``."""

    stay: Stay

    def is_alone(self, asker: object) -> bool:
        """Whether nobody else has asked for anything lately."""
        ...


class Prepared(Protocol):
    """A call that the dataplane prepared."""

    @property
    def model(self) -> str:
        """Whose."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What answers hold, as far as it is known before a run."""
        ...

    @property
    def release(self) -> int:
        """Who would answer now."""
        ...

    @property
    def generation(self) -> int:
        """Of the table it was found in."""
        ...

    @property
    def is_apart(self) -> bool:
        """Whether who would answer runs in another process, which reads no memory of ours."""
        ...

    @property
    def turn(self) -> Turn:
        """The loop's, where who answers now has its runs."""
        ...

    def bind(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int
    ) -> LoneRun | None:
        """Runs of an asker who is alone, from fixed memory to fixed memory."""
        ...

    def adopt(
        self, inputs: Mapping[str, Array], rows: int, origin: str, on_response: OnResponse
    ) -> None:
        """Answer a request whose lone run raised StillRunningError, when that is over."""
        ...

    def shuts_out(
        self, rows: int, deadline_ns: int | None, now_ns: int, origin: str
    ) -> EdgedError | None:
        """What a request is told that is refused as the one before; None to submit it."""
        ...

    def submit(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        deadline_ns: int | None,
        origin: str,
        on_response: OnResponse,
        *,
        key: str | None = None,
    ) -> Ticket | None:
        """Answer a request of the prepared layout, now or later."""
        ...


class Door(Protocol):
    """The dataplane as this transport sees it."""

    def submit(self, request: InferRequest, on_response: OnResponse) -> Ticket | None:
        """Answer a request, now or later."""
        ...

    def prepare(self, request: PrepareRequest) -> Prepared:
        """Look up model and layout once for many requests."""
        ...


class Server(Protocol):
    """What the requests of all clients share."""

    door: Door
    calls: dict[str, Call]
    limits: Limits
    max_in_flight: int
    stream_wait_s: float
    requests: int
    max_regions: int
    max_shared_bytes: int
    shares_core: bool
    lent: set[int]
    """The memory that connections lend, by number of its file."""
