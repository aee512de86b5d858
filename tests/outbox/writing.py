"""A process that fills an outbox and says what was kept (``k N``) and what was delivered (``d N``).

``python -m tests.outbox.writing FOLDER [pretend]``; with ``pretend`` its syncs do nothing.
"""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable
from pathlib import Path

from edged.outbox.age import now
from edged.outbox.disk import Disk
from edged.outbox.entry import Entry
from edged.outbox.outbox import Outbox

IN_FLIGHT = 32
MOST = 3000
"""So many wait; then the oldest are delivered."""


class PretendingDisk(Disk):
    """Says that it synced."""

    def sync(self, file: int) -> None:
        pass

    def sync_names(self) -> None:
        pass


def main(folder: str, *words: str) -> None:
    """Fill until killed."""
    posts: queue.Queue[Callable[[], None]] = queue.Queue()
    disk = (PretendingDisk if words else Disk)(Path(folder))
    outbox = Outbox(disk, posts.put, max_bytes=8 << 20)
    outbox.open()
    outbox.start()
    put = kept = delivered = 0

    def on_kept(number: int) -> None:
        nonlocal kept
        kept += 1
        sys.stdout.write(f"k {number}\n")

    while True:
        while put - kept < IN_FLIGHT:
            number = put
            entry = Entry(b"topic", b"%d " % number + b"x" * (number % 300), now())
            outbox.put(entry, lambda _, number=number: on_kept(number))  # type: ignore[misc]
            put += 1
        posts.get()()
        while kept - delivered > MOST and (one := outbox.take()) is not None:
            print("d", int(one.data.split()[0]), flush=True)  # before it may leave the disk
            outbox.done(one)
            delivered += 1
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
