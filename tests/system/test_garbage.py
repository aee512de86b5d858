"""Whether garbage collection leaves alone what a start has made; in a process of its own."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio
import gc
from edged.system.garbage import Growth, settle

class Node:
    pass

def cycle():
    node = Node()
    node.self = node

kept = [Node() for _ in range(1000)]
cycle()
settle()
assert gc.get_freeze_count() > 1000, gc.get_freeze_count()
assert not any(isinstance(one, Node) for one in gc.get_objects()), "looked at again"
cycle()
assert gc.collect() >= 1, "what came since is not looked at any more"
young, middle, _ = gc.get_threshold()
assert young * middle <= 2000

async def changes():
    growth = Growth()
    for _ in range(2):  # the second begins before the first is forgotten
        growth.begin()
        assert gc.get_threshold()[:2] == (20 * young, middle)
        growth.end()
    assert gc.get_threshold()[0] == 20 * young, "who goes by the change has not followed"
    while gc.get_threshold()[0] != young:
        await asyncio.sleep(0.01)

asyncio.run(asyncio.wait_for(changes(), 30))
"""


def test_only_what_came_since_is_looked_at() -> None:
    """Without ``gc.freeze`` the second assertion fails; with ``gc.disable`` the next but one would
    not, so the thresholds are read too."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
