"""What HTTP and gRPC are given: the dataplane, and what is said of models, as they see them."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, Protocol

from edged.messages import Asker, InferRequest, OnResponse, PrepareRequest, Ticket
from edged.protocol.lane import SharedRun
from edged.tensors import Array, TensorSpec


class Turn(Protocol):
    """What runs on the loop; see ``edged.serving.scheduling.turn``."""

    def is_alone(self, asker: object, *, is_many: bool = False) -> bool:
        """Whether nobody else has asked for anything lately."""
        ...

    def is_still_alone(self, asker: object) -> bool:
        """The same, noting nothing; where it says no, ``is_alone`` is still to be asked."""
        ...


class Pumped(Protocol):
    """What stands in the turn's line; see ``edged.serving.scheduling.turn.Runs``."""

    rank: int

    @property
    def due_ns(self) -> int:
        """The first deadline of what waits."""
        ...

    @property
    def expected_ns(self) -> int:
        """How long ``pump`` will hold up the loop."""
        ...

    def pump(self) -> int:
        """Run; returns for how long that held up the loop, nanoseconds."""
        ...


class Entry(Protocol):
    """Lets the requests of one asker in among those of others; see ``edged.access.guard``."""

    def enters(self, size: int) -> bool:
        """Count a request of so many bytes; False where it has to go the usual way."""
        ...

    def leaves(self, size: int, *, has_run: bool) -> None:
        """It is over."""
        ...


class Prepared(Protocol):
    """A call that the dataplane prepared; see ``edged.serving.prepared``."""

    @property
    def is_current(self) -> bool:
        """Whether nothing was swapped, loaded or unloaded since it was looked up."""
        ...

    @property
    def numbers(self) -> Collection[int]:
        """The releases that may answer."""
        ...

    @property
    def is_apart(self) -> bool:
        """Whether it runs in another process now."""
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
    def turn(self) -> Turn:
        """The loop's, where who answers now has its runs."""
        ...

    def bind(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int
    ) -> SharedRun | None:
        """Runs of an asker who is alone, from fixed memory to fixed memory."""
        ...

    @property
    def gathers(self) -> int:
        """So many rows of requests of several askers may run together on the loop; 0 for none."""
        ...

    @property
    def shared(self) -> Prepared:
        """What runs for several askers: the same call without the rights of one of them."""
        ...

    @property
    def entry(self) -> Entry | None:
        """Lets the asker's requests in there; None where nothing holds them."""
        ...

    @property
    def outlook(self) -> tuple[int, int, int]:
        """The class of who answers, how long its next run may take, and how long one row does."""
        ...

    def enlist(self, runs: Pumped) -> None:
        """Have what gathers requests of this call pumped at the end of this turn of the loop."""
        ...

    def adopt(
        self, inputs: Mapping[str, Array], rows: int, origin: str, on_response: OnResponse
    ) -> None:
        """Answer a request whose lone run raised StillRunningError, when that is over."""
        ...

    def submit(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        deadline_ns: int | None,
        origin: str,
        on_response: OnResponse,
        *,
        key: Asker = None,
    ) -> Ticket | None:
        """Answer a request of the prepared layout, now or later; a key is this one's own."""
        ...


class Door(Protocol):
    """The dataplane as both see it."""

    def submit(self, request: InferRequest, on_response: OnResponse) -> Ticket | None:
        """Answer a request, now or later."""
        ...

    def prepare(self, request: PrepareRequest) -> Prepared:
        """Look up model and layout once for many requests."""
        ...


class Pages(Protocol):
    """What is said of models and of the server; each raises EdgedError for what there is not."""

    def server(self) -> dict[str, Any]:
        """Name, version and what is served of the protocol."""
        ...

    def unready(self) -> Mapping[str, str]:
        """Why the server is not ready; empty when it is."""
        ...

    def model(self, name: str, version: str | None) -> dict[str, Any]:
        """A model's signature."""
        ...

    def model_ready(self, name: str, version: str | None) -> dict[str, Any]:
        """That a model is ready; raises ModelNotReadyError when it is not."""
        ...

    def config(self, name: str, version: str | None) -> dict[str, Any]:
        """A model's configuration in Triton's words."""
        ...

    def statistics(self, name: str | None, version: str | None) -> dict[str, Any]:
        """What one model has done, or each."""
        ...

    def index(self, *, ready: bool) -> list[dict[str, Any]]:
        """Every model with its state."""
        ...

    def labels(self, name: str, release: int) -> dict[str, Sequence[str]]:
        """Names of the classes by output."""
        ...

    def inputs(self, name: str, version: str | None) -> Sequence[TensorSpec]:
        """The inputs of who would answer."""
        ...

    def makes_text(self, name: str, version: str | None) -> bool:
        """Whether who would answer makes texts."""
        ...

    def metrics(self, accept: str) -> Awaitable[tuple[int, bytes, str]]:
        """All figures: status, text and its type."""
        ...


class Admin(Protocol):
    """What administrators ask of the daemon; see ``edged.steward``. Each raises EdgedError."""

    @property
    def level(self) -> str:
        """At which the log is written."""
        ...

    def set_level(self, level: str) -> None:
        """Write the log at this level."""
        ...

    def check(self, model: str) -> None:
        """Go on if there is such a model."""
        ...

    async def load(self, model: str) -> None:
        """Bring a model into memory."""
        ...

    async def unload(self, model: str) -> None:
        """Send a model to sleep."""
        ...
