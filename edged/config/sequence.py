"""What an operator says about the state that a model keeps from one request to the next."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edged.config.section import Section
from edged.specs import Duration, Size

TensorName = Annotated[str, Meta(min_length=1, max_length=256)]


class SequenceConfig(Section, frozen=True, kw_only=True):
    """Sequences of requests: what the model gave for one goes into the next."""

    state: Annotated[
        dict[TensorName, TensorName],
        Meta(min_length=1, description="input: the output that fills it in the next request"),
    ] = msgspec.field()
    max_sequences: Annotated[
        int, Meta(ge=1, le=10**6, description="open at once; each keeps its state in memory")
    ] = 1024
    max_state: Annotated[
        Size, Meta(description="bytes of all states; the memory budget is less by as much")
    ] = Size(64 << 20)
    when_full: Annotated[
        Literal["reject", "evict_oldest"],
        Meta(description="evict_oldest: the one that was idle longest is given up for a new one"),
    ] = "reject"
    idle_timeout: Annotated[
        Duration, Meta(description="a sequence that nobody asked for so long is given up")
    ] = Duration(60_000_000_000)
    on_swap: Annotated[
        Literal["keep", "drain"],
        Meta(description="keep: another release goes on with the states, where they fit it"),
    ] = "keep"
    drain_timeout: Annotated[
        Duration,
        Meta(description="how long a release that was replaced stays for its open sequences"),
    ] = Duration(30_000_000_000)

    @property
    def pairs(self) -> str:
        """``state`` as one text, the same in whatever order it was written."""
        return ",".join(f"{taken}={given}" for taken, given in sorted(self.state.items()))
