"""How much memory the models of this device may take together.

Decides only the figure; who is in memory is decided in ``serving/memory.py``.
"""

from __future__ import annotations

import functools

from edged.config.schema import Config
from edged.device.memory import available_bytes
from edged.serving.manager import NO_BUDGET

_SHARE = (3, 4)
"""Of what is free when the daemon starts. The rest is for requests, for the tensors of large
batches, and for whatever else the device does later."""


def budget_of(config: Config) -> int:
    """The bytes that loaded models may take.

    Where none is named it is what was found at the start, also after a reload: what is free by then
    is less by the models that are loaded.
    """
    budget = config.memory.budget
    return _automatic() if budget is None else int(budget)


@functools.cache
def _automatic() -> int:
    room = available_bytes()
    return NO_BUDGET if room is None else room * _SHARE[0] // _SHARE[1]
