"""Which kind of work a binding's messages are."""

from __future__ import annotations

from edged.config.binding import BindingConfig
from edged.transports.pieces import PieceJob
from edged.transports.sequenced import SequenceJob
from edged.transports.work import Job


def job_kind(config: BindingConfig) -> type[Job]:
    """The class that works on a message."""
    if config.sequence is not None:
        return SequenceJob
    return PieceJob if config.stream else Job
