"""What became of the order in which a model's runtimes were to be tried.

Pure: looks at what a load came to, and says what is to be told of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from edged.errors import LoadError
from edged.loading import Loaded, Skipped
from edged.runtimes.base import Artefact, Runtime, RuntimeInfo, Session

R = TypeVar("R", bound=Runtime)


@dataclass(frozen=True, slots=True)
class StandIn:
    """A release that serves on another runtime than the first of its list.

    Args:
        wanted: the first.
        serves: the one it is on.
        skipped: those before it in the list, and why each was passed over.
        since: wall clock, seconds since 1970.
        since_ns: monotonic clock, nanoseconds.
    """

    wanted: str
    serves: str
    skipped: tuple[Skipped, ...]
    since: float
    since_ns: int

    @property
    def why(self) -> str:
        """One sentence."""
        if len(self.skipped) == 1:
            return self.skipped[0].why
        return "; ".join(f"{one.runtime}: {one.why}" for one in self.skipped)

    def as_dict(self, now_ns: int) -> dict[str, object]:
        """For the status page."""
        return {
            "wanted": self.wanted,
            "serves_on": self.serves,
            "why": self.why,
            "since": self.since,
            "for_s": round((now_ns - self.since_ns) / 1e9, 1),
        }


def stand_in(loaded: Loaded, before: StandIn | None, now: float, now_ns: int) -> StandIn | None:
    """What a load came to; None when the first runtime took it.

    Args:
        loaded: what was loaded.
        before: what the load before came to: the same again is so since then.
        now: wall clock, seconds since 1970.
        now_ns: monotonic clock, nanoseconds.
    """
    if not loaded.skipped:
        return None
    wanted = loaded.skipped[0].runtime
    if before is not None and (before.wanted, before.serves) == (wanted, loaded.runtime):
        now, now_ns = before.since, before.since_ns
    return StandIn(wanted, loaded.runtime, loaded.skipped, now, now_ns)


def denied(words: str, model: str, runtimes: tuple[str, ...]) -> str:
    """A load that failed, where others of the list might have taken it: what to do.

    Args:
        words: why it failed.
        model: its name.
        runtimes: the whole list.
    """
    rest = ", ".join(runtimes[1:])
    return (
        f"{words}; {rest} may not stand in (fallback: deny): put {runtimes[0]} right, or set "
        f"models.{model}.fallback: allow"
    )


class Avoided:
    """A runtime that is not to be used for the time being; it says why.

    Args:
        name: of the runtime.
        why: it is left out.
    """

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self._why = why

    def info(self) -> RuntimeInfo:
        """Nothing but the reason."""
        return RuntimeInfo(self.name, "", (), self._why)

    def estimate_bytes(self, artefact: Artefact) -> int:
        """Nothing is loaded."""
        del artefact
        return 0

    def load(self, artefact: Artefact) -> Session:
        """Refuse it."""
        raise LoadError(f'model "{artefact.model}": {self._why}')


class Avoiding(Generic[R]):
    """Makes runtimes by their names, but for those that are to be left out.

    Args:
        create: makes all others.
        avoid: why, by the name.
    """

    def __init__(self, create: Callable[[str], R], avoid: Mapping[str, str]) -> None:
        self._create = create
        self._avoid = avoid

    def __call__(self, name: str) -> R | Avoided:
        """Make one."""
        why = self._avoid.get(name)
        return self._create(name) if why is None else Avoided(name, why)
