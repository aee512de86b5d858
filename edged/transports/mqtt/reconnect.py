"""When to try the broker again, and how: delays, reason codes, and the fall back to MQTT 3.1.1.

Decides only; time and randomness are passed in. The session in ``mqtt.py`` acts.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Literal

PATIENT_AFTER = 5
"""From this attempt on there is at least a second between two."""
_FIRST_S, _LONGEST_S = 0.5, 60.0
_SOON_S, _SHARE = 5.0, 60.0
STEADY_S = 10.0
"""A connection that lived shorter than this does not count as a success: two clients of one name
that throw each other out would otherwise do so for ever at full speed."""
BRIEF_LIMIT = 3
BRIEF_WORDS = (
    "the broker accepts us and soon closes the connection, again and again: most likely another "
    'client uses our client id "{}" too; give each its own mqtt.client_id'
)
"""Brokers before MQTT 5, and some with it, do not say that another client took over the session."""

Protocol = Literal["5", "3.1.1"]


class Verdict(enum.Enum):
    """What a reason to be disconnected means for the next try."""

    RETRY = "retry"
    SLOWLY = "slowly"
    STOP = "stop"


_SLOWLY = {
    0x84: "the broker does not speak this version of MQTT",
    0x85: "the broker does not accept our client id; check mqtt.client_id",
    0x86: "the broker does not accept our name or password; check mqtt.username and mqtt.password",
    0x87: "the broker does not let us in; check its access rules",
    0x8A: "the broker has banned us",
    0x8C: "the broker wants another way to log in",
    0x9C: "the broker sends us to another server; change mqtt.host",
    0x9D: "the broker has moved to another server; change mqtt.host",
}
_STOP = {
    0x8E: "another client took over our session: two daemons use one client id; give this one its "
    "own mqtt.client_id (or node name) and restart it",
}
UNSUPPORTED_VERSION = 0x84
_OVERLOADED = frozenset({0x88, 0x89, 0x96, 0x97, 0x9F})
"""Unavailable, busy, message rate too high, quota exceeded, connection rate exceeded."""


def judge(reason_code: int) -> tuple[Verdict, str]:
    """What a CONNACK's or DISCONNECT's reason code asks of us, and the words for it.

    Codes are those of MQTT 5; words are empty where the code speaks for itself.
    """
    if reason_code in _STOP:
        return Verdict.STOP, _STOP[reason_code]
    if reason_code in _SLOWLY:
        return Verdict.SLOWLY, _SLOWLY[reason_code]
    return Verdict.RETRY, ""


def longest_pause(
    troubled_s: float, most_s: float, *, reason_code: int | None, slowly: bool
) -> float:
    """The most to wait before the next try, seconds.

    Who tries at a broker that is away costs it nothing, and waits a sixtieth of the outage at most
    when it is back: 5 s in the first five minutes, a minute after an hour. A broker that is there
    and has too much to do, or refuses us on purpose, is spared from the start.

    Args:
        troubled_s: since the last connection that held.
        most_s: as the operator says.
        reason_code: what the broker said.
        slowly: it refused us on purpose.
    """
    if slowly or reason_code in _OVERLOADED:
        return most_s
    return min(most_s, max(_SOON_S, troubled_s / _SHARE))


def next_delay(
    attempt: int, rng: random.Random, *, slowly: bool = False, longest_s: float = _LONGEST_S
) -> float:
    """Seconds to wait before the next try: full jitter, doubling up to the longest.

    Args:
        attempt: failures since the last steady connection, 0 for the first.
        rng: where the jitter comes from.
        slowly: the broker refused us on purpose; half the longest at least.
        longest_s: as the operator says.
    """
    if slowly:
        return rng.uniform(longest_s / 2, longest_s)
    ceiling = min(longest_s, _FIRST_S * 2.0 ** min(attempt, 16))
    floor = 1.0 if attempt >= PATIENT_AFTER else 0.0
    return rng.uniform(min(floor, ceiling), ceiling)


@dataclass(slots=True)
class ProtocolChoice:
    """Which version to offer next.

    Args:
        wanted: ``auto``, ``5`` or ``3.1.1``.
    """

    wanted: str
    current: Protocol = "5"
    is_settled: bool = False
    silences: int = 0

    def __post_init__(self) -> None:
        self.current = "3.1.1" if self.wanted == "3.1.1" else "5"
        self.is_settled = self.wanted != "auto"

    def refused(self, reason_code: int | None) -> bool:
        """Note a connection that the broker accepted on TCP and then refused.

        Args:
            reason_code: of its CONNACK, or None where it hung up or kept silent, as brokers do that
                never heard of version 5.

        Returns:
            Whether it is worth trying again at once with another version.
        """
        if self.is_settled:
            return False
        if reason_code == UNSUPPORTED_VERSION and self.current == "5":
            self.current, self.is_settled = "3.1.1", True
            return True
        self.silences = self.silences + 1 if reason_code is None else 0
        if self.silences == 2:  # once may be a broker that is just going down
            self.silences = 0
            self.current = "3.1.1" if self.current == "5" else "5"
        return False

    def accepted(self) -> None:
        """Note that the broker took the current version."""
        self.is_settled = True
