"""The memory of each device: one budget, one ledger and one line each.

Decides only whose memory a release takes: that of the device that its first runtime runs on, or the
host's where that device has none of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor

from edged.config.schema import ModelConfig
from edged.runtimes.base import Session
from edged.runtimes.registry import home_of
from edged.serving.lifecycle import ReleaseKey
from edged.serving.memory.footprint import PROCESS_BYTES
from edged.serving.memory.residency import Ends, Entry, Residency
from edged.serving.release import ServedRelease
from edged.serving.trial import Loader

HOST = "cpu"
NO_BUDGET = 1 << 62
"""More than any machine has."""


class Memories:
    """See above.

    Args:
        loader: loads and proves.
        thread: where it does, one after the other for all devices.
        budgets: bytes by device; the host's among them. A device that is not there has no memory
            of its own.
        ends: told how each entry ended.
        releases: every release there is.
    """

    def __init__(
        self,
        loader: Loader,
        thread: Executor,
        budgets: Mapping[str, int],
        ends: Ends,
        releases: Callable[[], Collection[ServedRelease]],
    ) -> None:
        self._releases = releases
        self._budgets = {HOST: NO_BUDGET, **budgets}
        self._workers: Counter[str] = Counter()
        self._homes = {
            device: Residency(loader, thread, budget, ends, self._living_in(device))
            for device, budget in self._budgets.items()
        }

    def items(self) -> list[tuple[str, Residency]]:
        """Each memory, by its device."""
        return list(self._homes.items())

    def of(self, config: ModelConfig) -> Residency:
        """Where a model's releases are."""
        return self._homes[self._device(config)]

    def enter(self, entry: Entry) -> None:
        """Let a release stand in line."""
        self.of(entry.release.config).enter(entry)

    def gone(self, release: ServedRelease, session: Session | None = None) -> None:
        """A release takes no memory any more, but for a session that is to be closed."""
        self.of(release.config).gone(release, session)

    def set_budgets(self, budgets: Mapping[str, int]) -> None:
        """Have other budgets from now on, for the devices that have memory of their own."""
        for device, budget in budgets.items():
            if device in self._homes and budget != self._budgets[device]:
                self._budgets[device] = budget
                self._give(device)

    def host(self, configs: Iterable[ModelConfig]) -> None:
        """Set aside what the processes that models share take by themselves: each once.

        Args:
            configs: of all models that are wanted.
        """
        shared = [one for one in configs if one.isolation == "device"]
        there = {(self._device(one), home_of(one.runtime)) for one in shared}
        before, self._workers = self._workers, Counter(device for device, _ in there)
        for device in self._homes:
            if self._workers[device] != before[device]:
                self._give(device)

    def _give(self, device: str) -> None:
        self._homes[device].set_budget(max(0, self._budgets[device] - self._aside(device)))

    def _aside(self, device: str) -> int:
        return self._workers[device] * PROCESS_BYTES

    def stop(self) -> None:
        """Begin nothing any more."""
        for home in self._homes.values():
            home.stop()

    def ready_in_ns(self, key: ReleaseKey) -> int:
        """How long until a release is there, as far as loads before tell, nanoseconds."""
        release = next((one for one in self._releases() if one.key == key), None)
        home = self._homes[HOST] if release is None else self.of(release.config)
        return home.ready_in_ns(key)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """For the status page."""
        return {device: self._told(device, home.as_dict()) for device, home in self._homes.items()}

    def _told(self, device: str, home: dict[str, int]) -> dict[str, int]:
        promised = home["promised_bytes"] + self._aside(device)
        return home | {"budget_bytes": self._budgets[device], "promised_bytes": promised}

    def _device(self, config: ModelConfig) -> str:
        device = home_of(config.runtime)
        return device if device in self._homes else HOST

    def _living_in(self, device: str) -> Callable[[], Collection[ServedRelease]]:
        return lambda: [one for one in self._releases() if self._device(one.config) == device]
