"""How much memory the models of each device may take together.

Decides only the figures; who is in memory is decided in ``serving/memory/memory.py``.
"""

from __future__ import annotations

import functools

from edged.config.cache import cache_bytes
from edged.config.schema import Config
from edged.device.memory import available_bytes
from edged.device.nvidia import read_nvidia
from edged.runtimes.registry import home_of

_SHARE = (3, 4)
"""Of what is free when the daemon starts. The rest is for requests, for the tensors of large
batches, and for whatever else the device does later."""


def budgets_of(config: Config) -> dict[str, int]:
    """The bytes that loaded models may take, by device; one whose memory nobody knows is missing.

    Where none is named it is what was found at the start, also after a reload: what is free by then
    is less by the models that are loaded.
    """
    budgets: dict[str, int | None] = {"cpu": config.memory.budget}
    if budgets["cpu"] is None:
        budgets["cpu"] = _share_of_host()
    if budgets["cpu"] is not None:
        # What caches and the states of sequences may fill is theirs: what models take beside it
        # must fit as well.
        budgets["cpu"] = max(budgets["cpu"] - cache_bytes(config) - kept_bytes(config), 0)
    if any(home_of(model.runtime) == "cuda" for model in config.models.values()):
        wanted = config.memory.cuda
        budgets["cuda"] = _share_of_gpu() if wanted is None else wanted
    return {device: int(budget) for device, budget in budgets.items() if budget is not None}


def kept_bytes(config: Config) -> int:
    """What the states of all sequences may take."""
    sections = (model.sequence for model in config.models.values())
    return sum(section.max_state for section in sections if section is not None)


@functools.cache
def _share_of_host() -> int | None:
    return _share(available_bytes())


@functools.cache
def _share_of_gpu() -> int | None:
    """Of the first one; a board whose GPU shares the host's memory tells no figure."""
    gpus = read_nvidia().gpus
    if not gpus or gpus[0].memory_total_bytes is None or gpus[0].memory_used_bytes is None:
        return None
    return _share(gpus[0].memory_total_bytes - gpus[0].memory_used_bytes)


def _share(room: int | None) -> int | None:
    return None if room is None else room * _SHARE[0] // _SHARE[1]
