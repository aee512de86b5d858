"""What memory a release takes on this device, kept so that a start need not guess again.

    footprints/<digest>.json          {"<what it was measured with>": [peak, held, nanoseconds]}

Bytes at most while it loads, bytes once it is loaded, and what the last load took (0: none yet).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edged.store.notes import Notes

Figures = tuple[int, int, int]

_Number = Annotated[int, Meta(ge=0, lt=2**53)]
_FILE = msgspec.json.Decoder(dict[str, tuple[_Number, _Number, _Number]])


class Footprints(Notes[Figures | None]):
    """The figures of one state directory; see ``Notes``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, _FILE, None, _is_possible)


def _is_possible(figures: Figures | None) -> bool:
    return figures is not None and figures[0] >= figures[1]
