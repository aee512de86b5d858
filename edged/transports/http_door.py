"""What the HTTP transport is given: the dataplane, and what is said of models, as it sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from edged.messages import InferRequest, OnResponse, Ticket
from edged.tensors import TensorSpec


class Door(Protocol):
    """The dataplane as this transport sees it."""

    def submit(self, request: InferRequest, on_response: OnResponse) -> Ticket | None:
        """Answer a request, now or later."""
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

    def metrics(self, accept: str) -> Awaitable[tuple[int, bytes, str]]:
        """All figures: status, text and its type."""
        ...
