"""What must stay in the store, and what leaves it once a change is in effect."""

from __future__ import annotations

from edged.config.snapshot import Snapshot
from edged.generation.candidate import Candidate
from edged.generation.house import House
from edged.store.collecting import Needed
from edged.store.leftovers import remove_installs
from edged.system.breath import breathe


def needed_of(house: House, candidate: Candidate) -> Needed:
    """Of every generation that is kept, and all that is there now.

    Args:
        house: whose releases and generations they are.
        candidate: the configuration in effect.

    Raises:
        OSError: that cannot be known.
    """
    manager, pinned = house.manager, house.record.history.pinned()
    breathe()
    held = {one.key.digest for one in manager.releases()}
    breathe()
    held |= {item.digest for item in (*manager.wanted(), *candidate.desired())}
    breathe()
    models = candidate.snapshot.config.models
    return Needed(held | pinned.digests, pinned.models | models.keys())


def collect_after(house: House, snapshot: Snapshot) -> None:
    """Bundles that nothing needs leave, and what interrupted installs left beside them.

    Args:
        house: whose store it is.
        snapshot: the configuration that took effect.

    Raises:
        OSError: what is needed cannot be known, or the disk does not take it.
    """
    house.repository.collector.settle()
    remove_installs(snapshot.bundle_folders())
