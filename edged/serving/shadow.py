"""Asks a release again what another has answered, and compares; nobody waits for that.

Decides which requests are asked again: few enough to stay within the cost, none while anything else
runs or waits on the device, one at a time. Everything it needs is copied before the caller is
answered, and it begins after that. Used from the event loop only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from edged.config.rollout import ShadowConfig
from edged.errors import Code, EdgedError
from edged.messages import InferRequest, InferResponse
from edged.rollout.agreement import agree
from edged.rollout.tally import Tally
from edged.serving.lifecycle import State
from edged.serving.release import ServedRelease
from edged.serving.scheduling.scheduler import Waiting, layout_of
from edged.tensors import Array, check_tensors

_MOST_KEPT = 4
"""Requests whose inputs are kept until they are answered; one of them is asked again."""
_BURST_NS = 20_000_000
"""What may be spent at once after a pause, at a cost of 100 percent."""
_TURNS_NS = 50_000
"""What a request takes of the event loop besides what is measured here: its queue and its turns."""
_NO_FAULT = frozenset({Code.CANCELLED, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})
"""It was only not the time for it."""
ORIGIN = "shadow"

Inputs = Mapping[str, Array]


class Shadow:
    """See above.

    Args:
        release: that is asked again.
        config: the section.
        tally: of the rollout.
    """

    def __init__(self, release: ServedRelease, config: ShadowConfig, tally: Tally) -> None:
        self._release = release
        self._config = config
        self._tally = tally
        self._kept = 0
        self._is_asking = False
        self._left_ns = self._most_ns = _BURST_NS * config.cost // 100
        self._counted_ns = time.monotonic_ns()
        self._share = 0
        self._not_before_ns = 0

    def keep(self, inputs: Inputs) -> Inputs | None:
        """A copy of what is asked, where it is to be asked again; give it to one of the next two.

        The asker's memory is its own again as soon as it has its answer.
        """
        self._share += self._config.percent
        if self._share < 100:
            return None
        self._share -= 100
        if (
            time.monotonic_ns() < self._not_before_ns
            or self._is_asking
            or self._kept >= _MOST_KEPT
            or not self._may_ask()
        ):
            self._tally.dropped += 1
            return None
        self._kept += 1
        kept = {name: array.copy() for name, array in inputs.items()}
        self._left_ns -= time.monotonic_ns() - self._counted_ns
        return kept

    def let_go(self) -> None:
        """The request had no answer that another could be held against."""
        self._kept -= 1

    def ask(self, inputs: Inputs, wanted: Mapping[str, Array], generation: int) -> None:
        """Ask the same again.

        Args:
            inputs: what ``keep`` gave.
            wanted: what the stable release answered.
            generation: of the request.
        """
        self._kept -= 1
        release = self._release
        if self._is_asking or not (self._may_ask() and self._is_idle):
            self._tally.dropped += 1
            return
        request = InferRequest(release.key.model, inputs, release.number, (), None, ORIGIN)

        def answered(response: InferResponse, final: bool) -> None:
            if final:
                self._answered(response, wanted, rows or 1)

        try:
            rows = check_tensors(release.inputs, request.inputs, release.owner)
            layout = layout_of(release.inputs, request) if release.needs_layout else ()
            size = sum(array.nbytes for array in inputs.values())
            now_ns = time.monotonic_ns()
            item = Waiting(request, answered, rows or 1, layout, size, now_ns, generation, release)
            self._is_asking, turn = True, release.turn
            asked = turn.asked
            release.offer(item)  # past a cache, which would compare with nothing new
            turn.overlook(turn.asked - asked)
            self._left_ns -= time.monotonic_ns() - self._counted_ns + _TURNS_NS
        except EdgedError:
            self._is_asking = False
            self._tally.dropped += 1

    def _answered(self, response: InferResponse, wanted: Mapping[str, Array], rows: int) -> None:
        began_ns = time.monotonic_ns()
        self._is_asking = False
        part = rows / max(response.batch_rows, rows)
        self._left_ns -= int(response.run_ns * part)
        tally, error = self._tally, response.error
        if error is None:
            tally.compared += 1
            tally.differing += not agree(response.outputs, wanted, self._config.tolerance)
        elif error.code in _NO_FAULT:
            tally.dropped += 1
        else:
            tally.failed_again += 1
        self._left_ns -= time.monotonic_ns() - began_ns

    def _may_ask(self) -> bool:
        now_ns = time.monotonic_ns()
        earned_ns = (now_ns - self._counted_ns) * self._config.cost // 100
        self._left_ns = min(self._most_ns, self._left_ns + earned_ns)
        self._counted_ns = now_ns
        release = self._release
        if self._left_ns <= 0:
            self._not_before_ns = now_ns - self._left_ns * 100 // self._config.cost
            return False
        if release.state is not State.READY or release.session is None:
            return False
        return not release.backlog.items

    @property
    def _is_idle(self) -> bool:
        """Whether nothing runs or waits on its device."""
        slots = self._release.slots
        return not (self._release.running or slots.held.total or slots.waiting)
