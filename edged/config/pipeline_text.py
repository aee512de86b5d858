"""What an operator writes about steps on texts, labels and bytes. Words only."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edged.config.section import Path, Reference, Section
from edged.specs import Size


class TokensConfig(Section, frozen=True, kw_only=True):
    """Texts as the numbers that a language model takes: ids, mask and types, a row a text."""

    from_: Annotated[Reference, Meta(description="texts, uint8[n,characters]")] = msgspec.field(
        name="from"
    )
    pair: Annotated[
        Reference | None,
        Meta(description="a second text for each, e.g. a passage to a question"),
    ] = None
    file: Annotated[
        Path, Meta(description="tokenizer.json, as the package tokenizers writes it; relative path")
    ]
    length: Annotated[
        Annotated[int, Meta(ge=1, le=32768)] | None,
        Meta(description="most tokens of a row, longer ones are cut; default: what the file says"),
    ] = None
    pad: Annotated[
        Literal["longest", "length"],
        Meta(description="rows become as long as the longest of the request, or length"),
    ] = "longest"
    multiple: Annotated[
        int, Meta(ge=1, le=1024, description="of longest: and then a multiple of this")
    ] = 1
    special: Annotated[bool, Meta(description="add what the file puts around a text")] = True
    max_bytes: Annotated[Size, Meta(description="of one text; a longer one is refused")] = Size(
        64 << 10
    )


class LabelsConfig(Section, frozen=True, kw_only=True):
    """The best of some scores by name: label, index and score, best first."""

    from_: Annotated[Reference, Meta(description="scores along the last axis")] = msgspec.field(
        name="from"
    )
    of: Annotated[
        Reference | None,
        Meta(description="the model's output whose labels are meant; default: from"),
    ] = None
    file: Annotated[
        Path | None,
        Meta(description="labels, one a line, in place of the bundle's; relative path"),
    ] = None
    top: Annotated[int, Meta(ge=1, le=1000, description="how many")] = 1
    threshold: Annotated[
        float | None, Meta(description="what scores less has no label and the index -1")
    ] = None


class EndsConfig(Section, frozen=True, kw_only=True):
    """The first and the last bytes of something as one row of numbers."""

    from_: Annotated[Reference, Meta(description="uint8[length]")] = msgspec.field(name="from")
    head: Annotated[int, Meta(ge=0, le=1 << 20, description="bytes from the beginning")]
    tail: Annotated[int, Meta(ge=0, le=1 << 20, description="bytes from the end")] = 0
    block: Annotated[
        int, Meta(ge=0, le=1 << 24, description="look at so many at each end; 0 = at all")
    ] = 0
    strip: Annotated[bool, Meta(description="leave out white space at either end of it")] = False
    pad: Annotated[
        int, Meta(ge=-(2**31), le=2**31 - 1, description="stands where there are no bytes")
    ] = 0
