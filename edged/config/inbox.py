"""The words of the inbox: a folder whose bundles are installed by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from edged.config.section import Path, Section
from edged.specs import Duration

if TYPE_CHECKING:
    from edged.config.schema import Config


class InboxConfig(Section, frozen=True, kw_only=True):
    """Where bundles and trust documents are dropped; each is verified before it is believed."""

    folder: Annotated[Path, Meta(description="files NAME.edgb and NAME.trust in it are taken")]
    users: Annotated[
        tuple[str, ...],
        Meta(description="whose files are taken, beside root's and the daemon's own user's"),
    ] = ()
    quiet: Annotated[
        Duration,
        Meta(description="a file of which the kernel does not say who writes it waits so long"),
    ] = Duration(10_000_000_000)


def inbox_problems(config: Config) -> Iterator[tuple[str, str]]:
    """What cannot work."""
    if config.inbox is None:
        return
    if not 10**9 <= config.inbox.quiet <= 3600 * 10**9:
        yield "inbox.quiet", "is outside what can work; expected 1s to 1h"
