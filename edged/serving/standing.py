"""Where a release is in its life, and what it remembers of how it went.

Changes by the table of ``lifecycle.py`` only. Used from the event loop only.
"""

from __future__ import annotations

import logging
from typing import ClassVar

from edged.serving.counters import Counters
from edged.serving.lifecycle import Event, ReleaseKey, Snapshot, State, advance
from edged.workers.blame import Blame

log = logging.getLogger("edged.serving")


class Standing:
    """The part of a release that the manager decides by.

    Args:
        key: of the release.
        number: of the release.
    """

    moves: ClassVar[int] = 0
    """How often any release changed its state: what was looked up before may be out of date."""

    def __init__(self, key: ReleaseKey, number: int) -> None:
        self.key = key
        self.number = number
        self.owner = f'model "{key.model}" release {number}'
        self.state = State.NEW
        self.reason = ""
        self.failures = 0
        self.retry_at_ns = 0
        self.deaths_ns: list[int] = []
        self.blame = Blame.OWN
        self.is_quarantined = False
        self.is_dismissed = False
        """Whether an administrator unloaded it: it answers nobody until it is loaded again."""
        self.in_flight = 0
        self.counters = Counters()

    def move(self, event: Event, reason: str = "") -> None:
        """Change state by the table."""
        old, self.state = self.state, advance(self.state, event)
        Standing.moves += 1
        self.reason = reason
        self.counters.moved(event)
        why = f" ({reason})" if reason else ""
        log.log(self.moved(), "%s: %s -> %s%s", self.owner, old.value, self.state.value, why)

    def dismiss(self, *, away: bool) -> None:
        """Answer nobody from now on, as an administrator asked; or whoever asks again."""
        if away is not self.is_dismissed:
            self.is_dismissed = away
            Standing.moves += 1

    @property
    def told_state(self) -> str:
        """Where it is, in the words of people."""
        return State.UNLOADED.value if self.is_dismissed else self.state.value

    def moved(self) -> int:
        """The state has changed; returns how loud that is to be said."""
        return logging.INFO

    def snapshot(self, is_desired: bool) -> Snapshot:
        """What deciding may know."""
        return Snapshot(
            self.key, self.number, self.state, is_desired, self.in_flight, self.retry_at_ns
        )
