"""The pipeline as the requests in it see it. Words only; ``pipeline.py`` is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from edged.errors import EdgedError
from edged.messages import InferRequest, OnResponse, Ticket
from edged.pipelines.graph import Plan
from edged.pipelines.staying import Staying
from edged.pipelines.tally import StepTally
from edged.serving.served import Served
from edged.serving.workshop import Workshop
from edged.tensors import Array

if TYPE_CHECKING:
    from edged.pipelines.run import PipelineRun


class Home(Protocol):
    """The pipeline that a run belongs to."""

    @property
    def plan(self) -> Plan:
        """What is done."""
        ...

    @property
    def staying(self) -> Staying:
        """Which tensors stay on their device."""
        ...

    @property
    def owner(self) -> str:
        """Its name in messages."""
        ...

    @property
    def workshop(self) -> Workshop:
        """Threads for slow steps."""
        ...

    def tally_of(self, step: str) -> StepTally:
        """What a step has done."""
        ...

    def offer_to(
        self, release: Served, generation: int, request: InferRequest, on_response: OnResponse
    ) -> Ticket | None:
        """Ask a model; raises EdgedError when it takes nothing."""
        ...

    def over(
        self, run: PipelineRun, outputs: Mapping[str, Array], error: EdgedError | None
    ) -> None:
        """The run is over; called exactly once."""
        ...


class StreamHome(Home, Protocol):
    """One that gives several answers."""

    def give(self, run: PipelineRun, index: int, outputs: Mapping[str, Array]) -> None:
        """Give one of them."""
        ...
