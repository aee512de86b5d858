"""What an operator writes about the axes of tensors in a pipeline. Words only."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edged.config.section import Axis, Reference, Section


class WindowsConfig(Section, frozen=True, kw_only=True):
    """Overlapping parts along one axis, each an entry of a new axis before it."""

    from_: Annotated[Reference, Meta(description="what to cut")] = msgspec.field(name="from")
    size: Annotated[int, Meta(ge=1, le=2**24, description="entries of a window")]
    step: Annotated[
        int, Meta(ge=0, le=2**24, description="entries from one window to the next; 0 = size")
    ] = 0
    axis: Annotated[Axis, Meta(description="along which axis; of 0, the windows are rows")] = 0
    pad: Annotated[
        bool, Meta(description="fill the last window with zeros, so that nothing is left out")
    ] = False


class TransposeConfig(Section, frozen=True, kw_only=True):
    """The axes of a tensor in another order."""

    from_: Annotated[Reference, Meta(description="of what")] = msgspec.field(name="from")
    axes: Annotated[
        Annotated[tuple[Axis, ...], Meta(min_length=1, max_length=8)],
        Meta(description="its axes in the new order, e.g. [0, 2, 1]"),
    ]


class ReshapeConfig(Section, frozen=True, kw_only=True):
    """The same entries in another shape."""

    from_: Annotated[Reference, Meta(description="of what")] = msgspec.field(name="from")
    shape: Annotated[
        Annotated[tuple[Annotated[int, Meta(ge=-1, le=2**31)], ...], Meta(max_length=8)],
        Meta(description="the new lengths; one may be -1: what is left over"),
    ]


class EachConfig(Section, frozen=True, kw_only=True):
    """Every row of a tensor by itself; the steps that follow work on each, until gather."""

    from_: Annotated[Reference, Meta(description="whose rows, axis 0")] = msgspec.field(name="from")
