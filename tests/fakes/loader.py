"""A loader without trials, on a device that knows nothing of any release."""

from __future__ import annotations

from collections.abc import Callable

from edged.config.schema import TrialConfig
from edged.costs import Costs
from edged.runtimes.base import Runtime
from edged.serving.trial import Loader
from edged.store.contests import Held


class NoStandings:
    """Admits everything; notes what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.passed: set[tuple[str, str]] = set()

    def admit(self, digest: str) -> None:
        self.told.append(("admit", digest))

    def begin(self, digest: str, model: str, release: int) -> None:
        self.told.append(("begin", digest, f"{model}-{release}"))

    def release_unharmed(self, digest: str) -> None:
        self.told.append(("unharmed", digest))

    def has_passed(self, digest: str, runtime: str) -> bool:
        return (digest, runtime) in self.passed

    def note_passed(self, digest: str, model: str, release: int, runtime: str) -> None:
        self.told.append(("passed", digest, f"{model}-{release}"))
        self.passed.add((digest, runtime))

    def quarantine(self, digest: str, model: str, release: int, reason: str) -> None:
        self.told.append(("quarantine", digest, f"{model}-{release}", reason))


class Memory:
    """Measurements without a disk."""

    def __init__(self) -> None:
        self.noted: dict[tuple[str, str], Costs] = {}

    def get(self, digest: str, setting: str) -> Costs:
        return self.noted.get((digest, setting), ())

    def note(self, digest: str, setting: str, runs: Costs) -> None:
        self.noted[digest, setting] = runs


class Contests:
    """How contests went, without a disk."""

    def __init__(self) -> None:
        self.noted: dict[tuple[str, str], Held | None] = {}

    def get(self, digest: str, setting: str) -> Held | None:
        return self.noted.get((digest, setting))

    def note(self, digest: str, setting: str, value: Held | None) -> None:
        self.noted[digest, setting] = value


class Footprints:
    """Footprints without a disk."""

    def __init__(self) -> None:
        self.noted: dict[tuple[str, str], tuple[int, int, int]] = {}

    def get(self, digest: str, setting: str) -> tuple[int, int, int] | None:
        return self.noted.get((digest, setting))

    def note(self, digest: str, setting: str, value: tuple[int, int, int]) -> None:
        self.noted[digest, setting] = value


def make_loader(create_runtime: Callable[[str], Runtime], *, trial: bool = False) -> Loader:
    return Loader(
        create_runtime, NoStandings(), TrialConfig(enabled=trial), 1,
        measured=Memory(), device=lambda: "a device", footprints=Footprints(),
        contests=Contests(),
    )  # fmt: skip
