"""Which worker processes there are, and what each of their models has of them.

Pure but for one look at each process. A process that several models share is counted once: what it
has is given out among them by what each may take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edged.device.memory import taken
from edged.serving.release import ServedRelease


@dataclass(frozen=True, slots=True)
class HostedWorker:
    """One process.

    Args:
        pid: of it.
        private_bytes: what it has to itself; None where the kernel does not say.
        releases: that live in it.
    """

    pid: int
    private_bytes: int | None
    releases: tuple[ServedRelease, ...]

    def shares(self) -> list[tuple[ServedRelease, int]]:
        """What each has of it; empty where that is not known."""
        if self.private_bytes is None:
            return []
        held = [one.footprint.held if one.footprint else 0 for one in self.releases]
        return list(zip(self.releases, shared_out(self.private_bytes, held), strict=True))

    def as_dict(self) -> dict[str, Any]:
        """For the status page."""
        sizes = {release.key: size for release, size in self.shares()}
        return {
            "pid": self.pid,
            "private_bytes": self.private_bytes,
            "releases": [
                {"model": one.key.model, "release": one.number, "bytes": sizes.get(one.key)}
                for one in self.releases
            ],
        }


def workers(releases: Iterable[ServedRelease]) -> list[HostedWorker]:
    """The processes that these live in, in the order of the releases."""
    by_pid: dict[int, list[ServedRelease]] = {}
    for release in releases:
        if pid := release.worker_pid:
            by_pid.setdefault(pid, []).append(release)
    found = []
    for pid, living in by_pid.items():
        memory = taken(pid)
        found.append(HostedWorker(pid, memory.private if memory else None, tuple(living)))
    return found


def shared_out(total: int, weights: Sequence[int]) -> list[int]:
    """Give out a total by weights, to the last byte; evenly where there are none.

    Args:
        total: not negative.
        weights: not negative.
    """
    if not any(weights):
        weights = [1] * len(weights)
    shares, given, heard = [], 0, 0
    for weight in weights:
        heard += weight
        share = total * heard // sum(weights) - given
        shares.append(share)
        given += share
    return shares
