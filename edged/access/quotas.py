"""What one client has of connections, requests and bytes. Pure: the time is passed in.

A client is a user over Unix sockets, a certificate over TCP, and there everybody together who shows
none: who opens ten connections is still one client.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edged.access.policy import Client
from edged.config.access import QuotaConfig

_SECOND_NS = 1_000_000_000
_SOON_NS = 100_000_000
"""When to try again where it depends on others' answers: long against a run, short for a person."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Bounds of one client; None for none.

    Args:
        place: in the configuration.
        uids: who is meant.
        is_any_user: every user.
        has_tcp: who comes over TCP, with whatever certificate.
        certificates: by their names.
        connections: open at a time.
        in_flight: bytes of unanswered requests.
        rate: requests a second, on average.
        burst: requests at once after a pause.
        regions: of passed memory.
    """

    place: str
    uids: frozenset[int] = frozenset()
    is_any_user: bool = False
    has_tcp: bool = False
    connections: int | None = None
    in_flight: int | None = None
    rate: int | None = None
    burst: int = 0
    regions: int | None = None
    certificates: frozenset[str] = frozenset()

    def means(self, client: Client) -> bool:
        """Whether it speaks of this client."""
        if isinstance(client, int):
            return self.is_any_user or client in self.uids
        return self.has_tcp or client in self.certificates


NOTHING = Quota("")


class Bucket:
    """A token bucket: so many requests a second, and as many more at once as it holds.

    Args:
        rate: tokens a second.
        burst: most tokens.
        now_ns: monotonic clock, nanoseconds; it begins full.
    """

    __slots__ = ("_at_ns", "_each_ns", "_most_ns")

    def __init__(self, rate: int, burst: int, now_ns: int) -> None:
        self._each_ns = _SECOND_NS // rate
        self._most_ns = self._each_ns * burst
        self._at_ns = now_ns - self._most_ns
        """The time up to which tokens were taken: what lies between it and now is what is left."""

    def take(self, now_ns: int) -> int:
        """Take a token; returns 0, or after how many nanoseconds there will be one."""
        at_ns = self._at_ns
        if now_ns - at_ns > self._most_ns:
            at_ns = now_ns - self._most_ns
        left_ns = now_ns - at_ns - self._each_ns
        if left_ns < 0:
            return -left_ns
        self._at_ns = at_ns + self._each_ns
        return 0

    def give_back(self) -> None:
        """What was taken last was not used."""
        self._at_ns -= self._each_ns


@dataclass(slots=True)
class Account:
    """What one client has.

    Args:
        quota: its bounds.
        connections: open now.
        in_flight: bytes of its unanswered requests.
        bucket: None while its requests are not counted.
    """

    quota: Quota = NOTHING
    connections: int = 0
    in_flight: int = 0
    bucket: Bucket | None = field(default=None, repr=False)
    _regions: list[None] = field(default_factory=list, repr=False)
    """One for each region: what was read last goes in whichever thread read it, and a list takes
    and gives in one step of the interpreter, which adding to a number is not."""

    @property
    def regions(self) -> int:
        """Regions of passed memory that are mapped."""
        return len(self._regions)

    def take_region(self) -> None:
        """One more is mapped."""
        self._regions.append(None)

    def drop_region(self) -> None:
        """One of them is unmapped; from any thread."""
        self._regions.pop()

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing but, perhaps, requests that it has made."""
        return not (self.connections or self.in_flight or self._regions)

    def follow(self, quota: Quota, now_ns: int) -> None:
        """Other bounds hold from now on; what it has stays counted."""
        old = self.quota
        self.quota = quota
        if quota.rate is None:
            self.bucket = None
        elif self.bucket is None or (quota.rate, quota.burst) != (old.rate, old.burst):
            self.bucket = Bucket(quota.rate, quota.burst, now_ns)

    def takes(self, size: int) -> int:
        """Whether a request of so many bytes fits; 0, or when to try again, nanoseconds.

        One that is alone and too large for the bound is refused all the same: it would never fit.
        """
        most = self.quota.in_flight
        return 0 if most is None or self.in_flight + size <= most else _SOON_NS


def build_quota(config: QuotaConfig, place: str, uids: frozenset[int]) -> Quota:
    """Bounds with the names resolved."""
    rate = config.requests_per_second
    return Quota(
        place,
        uids,
        "*" in config.users,
        config.tcp,
        config.connections,
        None if config.in_flight is None else int(config.in_flight),
        rate,
        config.burst or rate or 0,
        config.regions,
        frozenset(config.certificates),
    )
