"""When a runtime that was passed over is looked at again, and for how long one is left alone.

Pure: told what happened and when, says when to do something. A look costs an import that fails or a
question to a driver; a try costs a load beside the one that serves.
"""

from __future__ import annotations

from dataclasses import dataclass

_S = 1_000_000_000
FIRST_LOOK_NS, MOST_LOOK_NS = 10 * _S, 300 * _S
"""Somebody who mends it waits a few seconds; after an hour five minutes more are little, and an
idle device is woken twelve times an hour."""
FIRST_TRY_NS, MOST_TRY_NS = 60 * _S, 3600 * _S
"""A runtime that is there and refuses the model seldom changes its mind, and each try is a load."""
FIRST_LOSS_NS, MOST_LOSS_NS = 10 * _S, 900 * _S
"""A driver that was reset is back within seconds; one that fails again and again is not to take the
model along each time."""
WELL_NS = 900 * _S
"""A loss so long after the last one is a first one."""


def _doubled(first_ns: int, times: int, most_ns: int) -> int:
    return min(first_ns << min(times, 20), most_ns)


@dataclass(slots=True)
class Comeback:
    """What is remembered of a release that lost a runtime, or never had the one it wants.

    Args:
        looks: how often the wanted runtimes were looked at since one of them was there.
        tries: loads on one of them that failed since.
        next_ns: monotonic time of the next look.
        losses: of devices, in close succession.
        lost_ns: when the last was.
        avoided: the runtime that is left out since then, and why.
        avoid_until_ns: until when.
    """

    looks: int = 0
    tries: int = 0
    next_ns: int = 0
    losses: int = 0
    lost_ns: int = 0
    avoided: tuple[str, str] = ("", "")
    avoid_until_ns: int = 0

    def waits(self, now_ns: int) -> None:
        """It stands on another runtime than it wants, from now on or again after a load."""
        if not self.next_ns:
            self._set(now_ns)

    def looked(self, now_ns: int) -> None:
        """The wanted runtimes were not there."""
        self.looks += 1
        self._set(now_ns)

    def failed(self, now_ns: int) -> None:
        """One was there, and the load on it failed."""
        self.tries += 1
        self._set(now_ns)

    def hurry(self, now_ns: int) -> None:
        """Look now, if a look is to come."""
        if self.next_ns:
            self.looks = self.tries = 0
            self.next_ns = max(now_ns, self.avoid_until_ns)

    def arrived(self) -> None:
        """It serves on the one it wants; only its losses are remembered."""
        self.looks = self.tries = self.next_ns = self.avoid_until_ns = 0

    def lost(self, runtime: str, why: str, now_ns: int, *, is_apart: bool) -> int:
        """A device was lost under it.

        Args:
            runtime: that used it.
            why: it says.
            now_ns: monotonic clock.
            is_apart: whether that was in a process of its own: another one may find it well.

        Returns:
            Monotonic time until which that runtime is left out.
        """
        self.losses = 1 if now_ns - self.lost_ns > WELL_NS else self.losses + 1
        self.lost_ns = now_ns
        times = self.losses - (2 if is_apart else 1)
        pause_ns = _doubled(FIRST_LOSS_NS, times, MOST_LOSS_NS) if times >= 0 else 0
        self.avoided, self.avoid_until_ns = (runtime, why), now_ns + pause_ns
        self.looks = self.tries = self.next_ns = 0
        return self.avoid_until_ns

    def avoid(self, now_ns: int) -> dict[str, str]:
        """Which runtimes are to be left out now, and why."""
        name, why = self.avoided
        return {name: why} if now_ns < self.avoid_until_ns else {}

    def _set(self, now_ns: int) -> None:
        pause_ns = _doubled(FIRST_LOOK_NS, self.looks, MOST_LOOK_NS)
        if self.tries:
            tried_ns = _doubled(FIRST_TRY_NS, self.tries - 1, MOST_TRY_NS)
            pause_ns = max(pause_ns, tried_ns)
        self.next_ns = max(now_ns + pause_ns, self.avoid_until_ns)
