"""The long-lived parts of the process, as whoever changes what serves works on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edged.config.binding import BindingConfig
from edged.config.load import Snapshot
from edged.config.schema import Config
from edged.generation.record import Record
from edged.manifest import ManifestOf
from edged.serving.dataplane import Dataplane
from edged.serving.manager import Manager
from edged.store.repository import Repository
from edged.telemetry.health import Health


class Links(Protocol):
    """The broker side, as a reload sees it."""

    def prepare(self, snapshot: Snapshot, bindings: Sequence[BindingConfig], of: ManifestOf) -> Any:
        """Make bindings that could serve; raises FieldError with ``bindings[i]...``."""
        ...

    async def swap(self, snapshot: Snapshot, prepared: Any) -> None:
        """Serve by these bindings from now on, and reconcile the broker connection."""
        ...

    async def refresh(self, snapshot: Snapshot) -> None:
        """Look again at what no digest covers: the password and the certificates."""
        ...

    def cut(self) -> str:
        """Why a broker that is configured is out of reach; empty when it is not."""
        ...


class Listener(Protocol):
    """The socket side, as a reload sees it."""

    async def apply(self, config: Config) -> None:
        """Follow the configuration; raises ApplyError and changes nothing when it cannot."""
        ...

    async def refresh(self, config: Config) -> None:
        """Look again at what changes under the same configuration."""
        ...


@dataclass(frozen=True, slots=True)
class House:
    """The long-lived parts that a reload works on."""

    config_path: Path
    repository: Repository
    record: Record
    manager: Manager
    dataplane: Dataplane
    health: Health
    links: Links
    listener: Listener
    is_quarantined: Callable[[str], bool] = lambda _digest: False
