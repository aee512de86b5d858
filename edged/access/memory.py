"""Memory by name for one connection: used only while its client may.

The right is asked for at each use, so that one which a reload takes is gone for regions that were
registered before, too.
"""

from __future__ import annotations

from edged.access.visit import Visit
from edged.protocol.frames import Buffer
from edged.protocol.oip_shared import Memory, Place, Region

_VERB = "shared_memory"


class GuardedMemory:
    """See above; satisfies ``oip_shared.Memory``.

    Args:
        memory: the client's regions.
        visit: whose.
    """

    def __init__(self, memory: Memory, visit: Visit) -> None:
        self._memory = memory
        self._visit = visit

    def register(self, region: Region) -> None:
        """As of the real one; DeniedError before anything is looked for."""
        self._visit.require(_VERB)
        self._memory.register(region)

    def unregister(self, name: str | None) -> None:
        """As of the real one: who may name memory no more may still tidy up."""
        self._memory.unregister(name)

    def status(self, name: str | None) -> list[Region]:
        """As of the real one."""
        return self._memory.status(name)

    def read(self, place: Place) -> Buffer:
        """As of the real one, while that is allowed."""
        self._visit.require(_VERB)
        return self._memory.read(place)

    def write(self, place: Place, data: Buffer) -> None:
        """As of the real one, while that is allowed."""
        self._visit.require(_VERB)
        self._memory.write(place, data)


def guarded_memory(memory: Memory | None, visit: Visit | None) -> Memory | None:
    """The regions that a connection may use; None where there are none."""
    if memory is None or visit is None:
        return memory
    return GuardedMemory(memory, visit)
