"""How the runtimes and precisions of a release did side by side, kept so that it is asked once.

    contests/<digest>.json
        {"<what it was held with>": {"raced": [[runtime, precision, [[rows, ns], ...]], ...],
                                     "out": [[runtime, precision, reason], ...],
                                     "tries": count}, ...}

Decides only what a file may hold; whether a result is still believed is the decision of
``serving/choosing/chooser.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edged.store.measured import Number, is_ascending
from edged.store.notes import Notes

REASON_CHARS = 200
"""Of each reason; a file holds the results of many settings, each with one for all that is out."""

_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Runs = Annotated[tuple[tuple[Number, Number], ...], Meta(max_length=32)]
_Reason = Annotated[str, Meta(max_length=REASON_CHARS)]


class Held(msgspec.Struct, frozen=True):
    """How one contest went.

    Args:
        raced: runtime, precision and what runs take, of each that was proven; empty of one alone.
        out: runtime, precision and the reason, of each that was not.
        tries: 0 when the same would come of it again; else how often it was held so far, with
            somebody out or disturbed who might do better another time.
    """

    raced: Annotated[tuple[tuple[_Name, _Name, _Runs], ...], Meta(max_length=64)]
    out: Annotated[tuple[tuple[_Name, _Name, _Reason], ...], Meta(max_length=64)] = ()
    tries: Annotated[int, Meta(ge=0, le=1000)] = 0


class Contests(Notes[Held | None]):
    """The results of one state directory; see ``Notes``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, msgspec.json.Decoder(dict[str, Held]), None, _is_possible)


def _is_possible(held: Held | None) -> bool:
    return held is not None and all(is_ascending(one[2]) for one in held.raced if one[2])
