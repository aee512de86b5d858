"""Which kind of work a message is to a binding."""

from __future__ import annotations

from edged.transports.bindings.binding import Route
from edged.transports.bindings.joined import JoinJob, PartJob
from edged.transports.bindings.pieces import PieceJob
from edged.transports.bindings.sequenced import SequenceJob
from edged.transports.bindings.shown import ShownJob
from edged.transports.bindings.windowed import WindowJob
from edged.transports.bindings.work import Job


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
    if config.sparkplug is not None and config.to is None:
        return ShownJob
    return PieceJob if config.stream else Job
