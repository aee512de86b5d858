"""Which models are not as they were asked for, told to ``Health``.

Looks at each of them quickly: of hundreds nearly all are well. After a change of the configuration
the loop does other things between.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from edged.generation.fallback import lost_models
from edged.generation.table import trouble_of
from edged.generation.turns import in_turns
from edged.serving.dataplane import Dataplane
from edged.serving.lifecycle import State
from edged.serving.router import Route
from edged.serving.standing import Standing
from edged.telemetry.health import Health

_KEY = "model."
"""Of what is told to ``Health``, before a model's name."""


class Reviews:
    """See above.

    Args:
        dataplane: whose models they are.
        health: is told.
    """

    def __init__(self, dataplane: Dataplane, health: Health) -> None:
        self._dataplane = dataplane
        self._health = health
        self._count = 0
        self.ready = 0
        """How many models were found to answer."""

    def whole(self, broken: Mapping[str, str]) -> frozenset[str]:
        """Bring the list of degradations up to date.

        Args:
            broken: by model, why its bundles could not be taken.

        Returns:
            ``lost_models``.
        """
        return self._tell(not_well(self._dataplane.table.routes.items(), broken), broken)

    async def in_turns(self, broken: Mapping[str, str]) -> frozenset[str]:
        """The same in several turns; at once where anything changes meanwhile."""
        table, mark = self._dataplane.table, (self._count, Standing.moves)
        ill: dict[str, Route] = {}
        async for some in in_turns(list(table.routes.items())):
            ill |= not_well(some, broken)
        if table is not self._dataplane.table or mark != (self._count, Standing.moves):
            return self.whole(broken)
        return self._tell(ill, broken)

    def _tell(self, ill: Mapping[str, Route], broken: Mapping[str, str]) -> frozenset[str]:
        self._count += 1
        unready = sum(not route.is_ready for route in ill.values())
        self.ready = len(self._dataplane.table.routes) - unready
        found = {name: trouble_of(route, broken.get(name, "")) for name, route in ill.items()}
        troubles = {name: trouble for name, trouble in found.items() if trouble}
        for key in self._health.degradations():
            if key.startswith(_KEY) and key.removeprefix(_KEY) not in troubles:
                self._health.restore(key)
        for name, trouble in troubles.items():
            self._health.degrade(_KEY + name, trouble)
        return lost_models(ill)


def not_well(routes: Iterable[tuple[str, Route]], broken: Container[str]) -> dict[str, Route]:
    """Models of which there may be something to say."""
    return {name: route for name, route in routes if name in broken or not is_well(route)}


def is_well(route: Route) -> bool:
    """Whether there is nothing to say of a model, told quickly."""
    serving = route.default_release()
    if serving is None or serving is route.fallback:
        return False
    return all(one.state is not State.FAILED for one in route.releases.values())
