"""What an operator says about bindings that remember: by key, from one message to the next.

Words only; what is wrong with them is ``keyed_check.py``'s.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edged.config.section import Section

KeyText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        description="what belongs together: text with levels of `from`, as {site}/{device}",
    ),
]


class MessageSequenceConfig(Section, frozen=True, kw_only=True):
    """Messages of one key are one sequence of a model that keeps state."""

    key: KeyText
