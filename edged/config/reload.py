"""What an operator says about changes: how they are noticed, and what a new one has to prove.

Words only.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edged.config.section import Section
from edged.specs import Duration


class ConfirmConfig(Section, frozen=True, kw_only=True):
    """What a new configuration has to prove before it is one to fall back on."""

    window: Annotated[
        Duration,
        Meta(description="how long it is watched; on a breach the one before comes back; 0 = not"),
    ] = Duration(10_000_000_000)
    max_errors: Annotated[
        float,
        Meta(ge=0, le=1, description="share of answers that may fail, if no more failed before"),
    ] = 0.05


class ReloadConfig(Section, frozen=True, kw_only=True):
    """How changed files are noticed, and proven."""

    watch: Annotated[bool, Meta(description="apply changed files without being asked")] = True
    settle: Annotated[
        Duration, Meta(description="quiet time after the last write before files are read")
    ] = Duration(100_000_000)
    poll: Annotated[
        Duration, Meta(description="digest check for file systems without inotify; the guarantee")
    ] = Duration(5_000_000_000)
    confirm: ConfirmConfig = ConfirmConfig()
