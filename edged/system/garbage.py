"""Garbage collection in small pieces, for it stops every thread of the process.

Python looks for cycles among ever more objects: with 200 models a full look took 36 ms in the
middle of somebody's request. What a start has made lives as long as the process, so nobody looks at
it again; and what is young is looked at more often, and a smaller part of it at a time.
"""

from __future__ import annotations

import gc

_YOUNG, _MIDDLE, _OLD = 500, 4, 20
"""Objects, and how often that many, until the next older generation is looked at too. Survivors are
looked at once in each, so smaller pieces take no more time in all: the middle one holds 2,000,
which take 0.3 ms."""


def settle() -> None:
    """Leave alone for good what there is; called once, before anybody is answered."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
