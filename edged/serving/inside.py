"""What loads into the daemon's own process, and what must not even then.

Decides by the runtime alone: an engine is machine code, and whoever loads one can be taken along by
it or by the driver. Its session lives in the worker process of its device, whatever ``isolation``
is, trials or none.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edged.runtimes.base import Runtime
from edged.runtimes.registry import APART, device_of
from edged.serving.choosing.order import LoadOrder
from edged.serving.choosing.preference import Avoiding
from edged.workers.isolation import SharedWorkers, WorkerCaps, WorkerRuntime, enter_for


def inside(
    create: Callable[[str], Runtime], order: LoadOrder, workers: SharedWorkers, caps: WorkerCaps
) -> Callable[[str], Runtime]:
    """Makes runtimes of this process, and of a worker where it has to be one.

    Args:
        create: makes a runtime of this process.
        order: what is to be loaded.
        workers: the processes of the devices.
        caps: of what it brings there.
    """

    def make(name: str) -> Runtime:
        if name not in APART:
            return create(name)
        config = msgspec.structs.replace(order.config, isolation="device")
        model = order.stored.manifest.name
        enter = enter_for(config, model, order.digest, workers, device_of(name))
        return WorkerRuntime(name, caps, enter)

    return Avoiding(make, order.avoid)
