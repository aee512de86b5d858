"""Garbage collection in small pieces, for it stops every thread of the process.

Python looks for cycles among ever more objects: with 200 models a full look took 36 ms in the
middle of somebody's request. What a start has made lives as long as the process, so nobody looks at
it again; and what is young is looked at more often, and a smaller part of it at a time.
"""

from __future__ import annotations

import asyncio
import gc

_YOUNG, _MIDDLE, _OLD = 500, 4, 20
"""Objects, and how often that many, until the next older generation is looked at too. Survivors are
looked at once in each, so smaller pieces take no more time in all: the middle one holds 2,000,
which take 0.3 ms."""
_GROWN = 20
"""So many times as many before anybody looks, while a change is under way."""
_AFTER_S = 0.1
"""Until everybody has let go of what was there before a change."""


def settle() -> None:
    """Leave alone for good what there is; called once, before anybody is answered."""
    gc.collect()
    gc.freeze()
    settle_down()


class Growth:
    """While what there is gets built anew beside itself: nearly all of it is kept.

    What it takes the place of goes by itself, which counts as much down, some moments after the end
    of the change; so there is hardly anything to look at then. A change that takes long is looked
    at all the same, in larger pieces.
    """

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """A change begins."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _, middle, old = gc.get_threshold()
        gc.set_threshold(_YOUNG * _GROWN, middle, old)

    def end(self) -> None:
        """It has ended, and whoever goes by it follows."""
        self._timer = asyncio.get_running_loop().call_later(_AFTER_S, settle_down)


def settle_down() -> None:
    """Look at what is young as often as ever."""
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
