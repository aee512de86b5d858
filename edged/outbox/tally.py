"""What became of the outbox's entries; nothing leaves it uncounted."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Tally:
    """Counts since the process began.

    Args:
        kept: put in, and durable where that was asked for.
        delivered: in the broker's hands.
        dropped: gave way to newer ones in a full outbox.
        superseded: gave way to a newer one of the same key (LATEST_ONLY).
        expired: too old.
        refused: not deliverable: the broker or its limits refuse them.
        corrupt: damaged stretches on disk that were jumped over.
        torn: ends of files that a crash left half written, cut off.
        blocked: had to wait for room.
        failed: times that the file system refused a write.
    """

    kept: int = 0
    delivered: int = 0
    dropped: int = 0
    superseded: int = 0
    expired: int = 0
    refused: int = 0
    corrupt: int = 0
    torn: int = 0
    blocked: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        """For the status page."""
        return asdict(self)
