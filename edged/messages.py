"""What travels between a transport and the dataplane: requests in, responses out.

Tensors are NumPy arrays that view the received bytes; nothing here copies or checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edged.errors import EdgedError
from edged.flow import Flow
from edged.tensors import Array, TensorSpec

Asker = Mapping[str, object] | str | None
"""What a request says of who asks beside its tensors, which may keep it on one side of a rollout:
parameters or topic levels by name, or the key itself; None for nothing."""


class LentInputs(dict[str, Array]):
    """Inputs in memory that whoever asked may still write to while they are read.

    A run takes them as they are: what comes out then is the asker's own concern. Who looks at them
    twice and counts on seeing the same copies them first.
    """


@dataclass(slots=True)
class InferRequest:
    """One request, as every transport hands it to the dataplane.

    Args:
        model: the model's name.
        inputs: tensors by input name.
        release: a pinned release number, an alias, or None for the model's route.
        outputs: the outputs wanted, or empty for all.
        deadline_ns: monotonic clock, nanoseconds; None for no deadline.
        origin: who asks, for logs and metrics; e.g. ``uds`` or ``mqtt:vibration``.
        asker: what it says of itself beside the tensors.
    """

    model: str
    inputs: Mapping[str, Array]
    release: int | str | None = None
    outputs: tuple[str, ...] = ()
    deadline_ns: int | None = None
    origin: str = "local"
    asker: Asker = None


@dataclass(slots=True)
class OrderedRequest(InferRequest):
    """A request that later ones of its origin do not overtake where they would fill a gap.

    A class of its own, as it is that of few doors: the answers of a binding keep their order.
    """


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """Which sequence a request belongs to, and whether it begins or ends it.

    Args:
        id: the client's name or number for it; means nothing to any other peer.
        start: begin it anew, whatever was kept under that id.
        end: keep nothing after this request.
    """

    id: int | str
    start: bool = False
    end: bool = False


@dataclass(slots=True)
class SequencedRequest(InferRequest):
    """A request to a model that keeps state; one without inputs only ends its sequence.

    A class of its own, so that all others do not carry an empty field.
    """

    sequence: SequenceStep = SequenceStep("")

    @property
    def only_ends(self) -> bool:
        """Whether there is nothing to run."""
        return not self.inputs and self.sequence.end and not self.sequence.start


@dataclass(slots=True)
class StreamRequest(InferRequest):
    """A request that takes several answers.

    Args:
        flow: how many of them may be given now.
    """

    flow: Flow = field(kw_only=True)


@dataclass(slots=True)
class InferResponse:
    """One answer, or one part of a streamed answer.

    Args:
        model: the model that answered.
        release: the release that answered; 0 when none was reached.
        generation: the configuration generation the request was accepted under.
        outputs: tensors by output name; views that stay valid as long as they are referenced.
        error: what went wrong; then ``outputs`` is empty.
        queue_ns: time spent waiting for an instance.
        run_ns: time the batch spent in the runtime.
        batch_rows: rows of the batch this request was part of.
    """

    model: str
    release: int
    generation: int
    outputs: Mapping[str, Array] = field(default_factory=dict)
    error: EdgedError | None = None
    queue_ns: int = 0
    run_ns: int = 0
    batch_rows: int = 0


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """A model and a layout of inputs, to be looked up once for many requests.

    Args:
        model: the model's name.
        inputs: names, dtypes and shapes; ``batch`` as a first axis leaves the rows to each request,
            every other axis is a number.
        release: as in InferRequest.
        outputs: the outputs wanted, in this order, or empty for all.
        asker: as in InferRequest, for every request of the call.
        keeps_order: its requests are as an OrderedRequest.
    """

    model: str
    inputs: tuple[TensorSpec, ...]
    release: int | str | None = None
    outputs: tuple[str, ...] = ()
    asker: Asker = None
    keeps_order: bool = False


class Ticket(Protocol):
    """A request that was taken and may be withdrawn."""

    def cancel(self) -> bool:
        """Withdraw it if it still waits.

        Returns:
            Whether it did: then it has been answered with CancelledError before this returns. One
            that runs or has been answered goes its way.
        """
        ...


OnResponse = Callable[[InferResponse, bool], None]
"""Called on the event loop as ``on_response(part, final)``: any number of times with ``final``
False, and exactly once with ``final`` True. It must not raise and must not block."""
