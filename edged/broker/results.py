"""The way of results by the disk: the outbox, and what drains it to another broker or to the first.

Opens both and closes both; never two at a time, for the files have one writer. What goes in and out
is ``transports/bindings/forwarding.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edged.config.broker import OutboxConfig
from edged.config.mqtt import MqttConfig
from edged.errors import ApplyError

if TYPE_CHECKING:
    from edged.outbox.outbox import Outbox
    from edged.transports.bindings.branch import Branch
    from edged.transports.bindings.forwarding import Forwarder
    from edged.transports.mqtt.connection import SessionOptions

log = logging.getLogger("edged.mqtt")

FOLDER = "outbox"
"""In the state directory."""


class Results:
    """An open outbox and who drains it.

    Args:
        outbox: started.
        forwarder: not started.
    """

    def __init__(self, outbox: Outbox, forwarder: Forwarder) -> None:
        self._outbox = outbox
        self.forwarder = forwarder

    @property
    def are_delivered(self) -> bool:
        """Whether none waits on disk for its broker."""
        return not self._outbox.stats()["entries"]

    async def close(self) -> None:
        """Stop sending, put on disk what waits; call it when nothing more is put in."""
        await self.forwarder.stop()
        await asyncio.to_thread(self._outbox.stop)


async def open_results(
    state_dir: Path,
    options: SessionOptions | Branch,
    config: OutboxConfig,
    on_change: Callable[[], None],
    window: int = 64,
    *,
    client: str = "native",
) -> Results:
    """Open the outbox, with what an earlier process left in it.

    Args:
        state_dir: the outbox is a folder in it.
        options: the other broker, or a branch of the first one's session.
        config: the caps.
        on_change: called when ``forwarder.problem`` may have changed.
        window: of a branch, results on their way at a time.
        client: which one speaks to the broker.

    Raises:
        ApplyError: the outbox cannot be opened.
    """
    from edged.outbox.outbox import Outbox  # noqa: PLC0415 - only if used
    from edged.transports.bindings.branch import Branch  # noqa: PLC0415 - only if used
    from edged.transports.bindings.forwarding import Forwarder  # noqa: PLC0415 - only if used
    from edged.transports.mqtt.clients import open_session  # noqa: PLC0415 - only if used

    outbox = Outbox.in_folder(
        state_dir / FOLDER,
        asyncio.get_running_loop().call_soon_threadsafe,
        max_bytes=int(config.max_bytes),
        max_age_ns=int(config.max_age),
    )
    try:
        await asyncio.to_thread(outbox.open)
    except OSError as exc:
        raise ApplyError(
            f"{state_dir / FOLDER}: the outbox cannot be opened: {exc.strerror}"
        ) from exc
    outbox.start()
    forwarder = Forwarder(
        options if isinstance(options, Branch) else open_session(options, client),
        outbox,
        base=None if isinstance(options, Branch) or not options.has_will else options.base,
        is_branch=isinstance(options, Branch),
        window=window if isinstance(options, Branch) else options.max_inflight,
        rate=config.replay_rate,
        on_change=on_change,
    )
    return Results(outbox, forwarder)


def left_on_disk(state_dir: Path) -> bool:
    """Whether an outbox of earlier times still holds files of results."""
    folder = state_dir / FOLDER
    return folder.is_dir() and any(folder.glob("*.log"))


async def open_way(
    state_dir: Path,
    mqtt: MqttConfig,
    options: SessionOptions | None,
    on_change: Callable[[], None],
    *,
    is_fed: bool,
) -> tuple[Results | None, Branch | None]:
    """Open the outbox where something needs it, and the branch that it is to go by, if any.

    Args:
        state_dir: the outbox is a folder in it.
        mqtt: how it is configured.
        options: the broker of results; None = answers go back to the first one.
        on_change: called when ``forwarder.problem`` may have changed.
        is_fed: whether there are answers that no message asked for.

    Raises:
        ApplyError: the outbox cannot be opened.
    """
    if options is not None or is_fed:
        from edged.transports.bindings.branch import Branch  # noqa: PLC0415 - only if used

        branch = Branch() if options is None else None
        results = await open_results(
            state_dir, options or branch or Branch(), mqtt.outbox, on_change, mqtt.max_inflight,
            client=mqtt.client,
        )  # fmt: skip
        return results, branch
    if left_on_disk(state_dir):
        log.warning(
            "results are left in %s: configure mqtt.results, or a model's publish, to deliver them",
            state_dir / FOLDER,
        )
    return None, None
