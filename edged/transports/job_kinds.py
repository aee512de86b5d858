"""Which kind of work a message is to a binding."""

from __future__ import annotations

from edged.transports.binding import Route
from edged.transports.joined import JoinJob, PartJob
from edged.transports.pieces import PieceJob
from edged.transports.sequenced import SequenceJob
from edged.transports.windowed import WindowJob
from edged.transports.work import Job


def job_kind(route: Route) -> type[Job]:
    """The class that works on a message."""
    config = route.binding.config
    if route.part >= 0:
        return PartJob
    if config.join:
        return JoinJob
    if config.window is not None:
        return WindowJob
    if config.sequence is not None:
        return SequenceJob
    return PieceJob if config.stream else Job
