"""Bindings that go from one line to another of the same broker, for whoever opens and ends them.

Decides which do, so that nobody gives a filter back before the other has subscribed to it: what is
published between the two would find nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edged.config.broker_lines import Line

if TYPE_CHECKING:
    from edged.transports.bindings.binding import Binding
    from edged.transports.bindings.binding_set import BindingSet
    from edged.transports.bindings.sessions import Sessions

_QUIET_S = 1.0
"""Where nothing came for so long, the broker has no more for a session that reads nothing: it sends
the next when it has our acknowledgements, which takes the way there and back."""
Sets = Mapping[Line, "BindingSet | None"]


def moved(before: Sets, after: Sets) -> dict[Line, list[Binding]]:
    """Of each line the bindings whose filters another line has from now on.

    At another broker only those of the same name: there the same topics may be another plant's.
    """
    found = {}
    for line, bindings in before.items():
        kept = _filters(after.get(line))
        taken = {
            (text, name if other.broker != line.broker else "")
            for other, its in after.items()
            if other != line and its is not None
            for text, names in its.names().items()
            for name in names
        }
        gone = [
            one
            for one in (bindings.bindings if bindings is not None else ())
            if one.filter.mqtt not in kept
            and not taken.isdisjoint({(one.filter.mqtt, ""), (one.filter.mqtt, one.name)})
        ]
        if gone:
            found[line] = gone
    return found


def takers(moves: Mapping[Line, list[Binding]], after: Sets) -> list[Line]:
    """The lines that have their filters from now on."""
    texts = {(line.broker, one.filter.mqtt) for line, gone in moves.items() for one in gone}
    return [
        line
        for line, its in after.items()
        if any((line.broker, text) in texts for text in _filters(its))
    ]


async def rest(sessions: Sessions, timeout_s: float) -> bool:
    """Wait until sessions that have given all filters back have answered what still came.

    Returns:
        Whether they have; False after so long, and where the broker is away.
    """
    loop = asyncio.get_running_loop()
    acknowledged, until_s = -1, loop.time() + timeout_s
    while loop.time() < until_s:
        stats = sessions.stats()
        if stats["state"] != "connected":
            break
        is_quiet = stats["acknowledged"] == acknowledged and not stats["in_flight"]
        if is_quiet and stats["subscribed"]:
            return True
        acknowledged = stats["acknowledged"]
        await asyncio.sleep(_QUIET_S)
    return False


def _filters(bindings: BindingSet | None) -> dict[str, int]:
    return bindings.filters() if bindings is not None else {}
