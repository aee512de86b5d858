"""One listener of the house that may fail: a device whose port is taken serves all the same.

Decides whether what cannot be had refuses a change or is a degradation; the order in which the
listeners move is ``listeners``'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from edged.config.schema import Config
from edged.errors import ApplyError
from edged.telemetry.health import Health
from edged.transports.web_listener import Place, Staged


class Moves(Protocol):
    """A server whose place can be prepared, and taken or given up again."""

    @property
    def place(self) -> Place | None:
        """Where it listens; None while it does not."""
        ...

    def prepare(self, config: Config) -> Staged:
        """Bind what the configuration asks for; raises ApplyError."""
        ...

    def refresh(self, config: Config) -> None:
        """Read the certificates again; raises ApplyError."""
        ...

    def abandon(self, staged: Staged) -> None:
        """Undo ``prepare``."""
        ...

    async def commit(self, staged: Staged, config: Config) -> None:
        """Answer where ``prepare`` bound, and there alone; raises OSError."""
        ...


S = TypeVar("S", bound=Moves)


class Listener(Generic[S]):
    """See above.

    Args:
        key: its section below ``listen``; what it lacks is degraded under that name.
        health: where that is noted.
        make: makes the server, when it is first wanted; raises ApplyError where it cannot.
        tls_key: under which name certificates are degraded that cannot be read again.
        after: called when it answers as a configuration says; returns what it lacks all the same.
    """

    def __init__(
        self,
        key: str,
        health: Health,
        make: Callable[[], S],
        *,
        tls_key: str = "",
        after: Callable[[Config], str] = lambda _: "",
    ) -> None:
        self._key = key
        self._tls_key = tls_key
        self._health = health
        self._make = make
        self._after = after
        self._followed: Any = None
        """The section that was followed last, whether or not it could be had."""
        self.server: S | None = None
        """None until it is first wanted."""

    @property
    def place(self) -> Place | None:
        """Where it listens; None while it does not."""
        return None if self.server is None else self.server.place

    def prepare(self, config: Config, *, is_strict: bool = False) -> Staged | None:
        """Bind what the configuration asks for.

        Args:
            config: the configuration.
            is_strict: refuse what cannot be had, if it is another wish than before.

        Returns:
            What ``commit`` or ``abandon`` takes; None where nothing was to be had.

        Raises:
            ApplyError: it cannot be had.
        """
        wanted = self._wanted(config)
        if self.server is None and wanted is None:
            return None
        try:
            if self.server is None:
                self.server = self._make()
            return self.server.prepare(config)
        except ApplyError as exc:
            # What could not be had before is no reason to refuse a change to something else.
            if is_strict and wanted != self._followed:
                raise
            self._health.degrade(self._key, exc.message)
            return None

    def abandon(self, staged: Staged | None) -> None:
        """Undo ``prepare``."""
        if staged is not None and self.server is not None:
            self.server.abandon(staged)

    async def commit(self, staged: Staged | None, config: Config) -> None:
        """Answer where ``prepare`` bound, and there alone."""
        self._followed = self._wanted(config)
        if staged is None or self.server is None:
            return
        try:
            await self.server.commit(staged, config)
        except OSError as exc:
            # It was bound, so this is no mistake of the configuration.
            self.server.abandon(staged)
            self._health.degrade(self._key, f"listen.{self._key}: {exc.strerror or exc}")
            return
        self._health.restore(self._tls_key)
        if lack := self._after(config):
            self._health.degrade(self._key, lack)
        else:
            self._health.restore(self._key)

    async def refresh(self, config: Config) -> None:
        """Look again at what changes under the same configuration: a taken port, certificates."""
        server = self.server
        if server is None or server.place is None:
            if self._wanted(config) is not None:
                await self.commit(self.prepare(config), config)
            return
        try:
            server.refresh(config)
        except ApplyError as exc:
            self._health.degrade(self._tls_key, f"{exc.message}; those from before are used")
        else:
            self._health.restore(self._tls_key)

    def _wanted(self, config: Config) -> Any:
        return getattr(config.listen, self._key)
