"""What an operator says about bindings that remember: by key, from one message to the next.

Words only; what is wrong with them is ``keyed_check.py``'s.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from edged.config.section import Section
from edged.specs import Duration, FieldSpec, Size

KeyText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        description="what belongs together: text with levels of `from`, as {site}/{device}",
    ),
]
Keep = Annotated[
    Literal["disk", "memory"],
    Meta(description="disk: acknowledged when it is synced; memory: a restart loses it"),
]


class MessageSequenceConfig(Section, frozen=True, kw_only=True):
    """Messages of one key are one sequence of a model that keeps state."""

    key: KeyText


class WindowConfig(Section, frozen=True, kw_only=True):
    """Rows of several messages are one request: the last so many of each key."""

    rows: Annotated[int, Meta(ge=2, le=65536, description="rows of a window")]
    hop: Annotated[
        Annotated[int, Meta(ge=1, le=65536)] | None,
        Meta(description="new rows until the next window; default: rows"),
    ] = None
    key: Annotated[KeyText | None, Meta(description="what has a window; default: each topic")] = (
        None
    )
    gap: Annotated[
        Duration | None,
        Meta(description="a key that was silent for longer begins anew; default: never"),
    ] = None
    max_keys: Annotated[
        int, Meta(ge=1, le=65536, description="keys at a time; the one that is idle longest goes")
    ] = 1024
    max_size: Annotated[Size, Meta(description="bytes of all their rows; likewise")] = Size(
        16 << 20
    )
    keep: Keep = "disk"


class JoinConfig(Section, frozen=True, kw_only=True):
    """Another topic whose latest values are columns too."""

    from_: Annotated[
        str, Meta(description="topic filter; its named levels are levels of `from`")
    ] = field(name="from")
    fields: Annotated[
        tuple[str | FieldSpec, ...],
        Meta(min_length=1, description="paths of its columns, in order"),
    ]
    max_age: Annotated[
        Duration | None, Meta(description="older values do not count; default: they always do")
    ] = None
    max_keys: Annotated[
        int, Meta(ge=1, le=65536, description="topics at a time; the one that is idle longest goes")
    ] = 1024
    keep: Keep = "disk"
