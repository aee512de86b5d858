"""What a process that is a copy of another (``os.fork``) leaves to the one it was copied from.

A copy has the connections and the memory of its original. If both asked on one connection, each
would read answers that are the other's, and both count requests alike: a wrong answer would pass
for the right one. So the copy keeps none of it, and connects anew with its first request.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Left(Protocol):
    """What is of no use in a copy."""

    def leave(self) -> None:
        """This is the copy: let go of what is the original's, and tell nobody.

        Locks may be held by threads that are not here.
        """
        ...


_kept: WeakSet[Left] = WeakSet()


def leave_in_copies(one: Left) -> None:
    """Have it left in every copy of this process, for as long as it lives."""
    _kept.add(one)


def _leave_all() -> None:
    for one in list(_kept):
        one.leave()


os.register_at_fork(after_in_child=_leave_all)
