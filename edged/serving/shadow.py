"""Asks a release again what another has answered, and compares; nobody waits for that.

Decides which requests are asked again: few enough to stay within the cost, none while anything else
runs or waits on the device. Everything it needs is copied before the caller is answered. Where
requests are small, some of them are asked together, at most once in some milliseconds: what a turn
of its own takes of the caches slows the caller's next requests, some thirty of them, more than what
runs in it. Who asks for more than can be asked again is left alone for longer. Used from the event
loop only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

from edged.config.rollout import ShadowConfig
from edged.errors import Code, EdgedError
from edged.messages import InferRequest, InferResponse
from edged.rollout.agreement import agree
from edged.rollout.tally import Tally
from edged.rollout.together import Copy, Inputs, differing, together
from edged.serving.lifecycle import State
from edged.serving.release import ServedRelease
from edged.serving.scheduling.scheduler import Waiting, layout_of
from edged.tensors import check_tensors

log = logging.getLogger("edged.rollout")

_TOGETHER = 16
"""Requests that are asked together at most."""
_TOGETHER_NS = 100_000
"""As long as their runs may take, in a row; one that takes longer is asked alone."""
_TOGETHER_BYTES = 1 << 16
"""Of their inputs; a request that is larger is asked alone."""
GATHER_S = 0.005
"""The first of them waits so long for the others, and so long passes from first to first."""
_GATHER_NS = int(GATHER_S * 1e9)
_EACH_NS = 1_250_000
"""Where more come than can be asked together, so long passes for each of those that are."""
_BUSY = 32
"""The device was busy when they were to be asked: so many are then asked right behind an answer,
when it is most likely to be idle."""
_BURST_NS = 20_000_000
"""What may be spent at once after a pause, at a cost of 100 percent."""
_TURNS_NS = 150_000
"""What asking takes of the event loop besides what is measured here: its queue and its turns."""
_NO_FAULT = frozenset({Code.CANCELLED, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})
"""It was only not the time for it."""
ORIGIN = "shadow"


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
        self.rests_until_ns = 0
        """Until then every request is left out, and is only to be counted as dropped."""
        self._not_before_ns = 0
        self._kept = 0
        """Copies whose requests have no answer yet."""
        self._copies: list[Copy] = []
        self._bytes = 0
        """Of the inputs of both."""
        self._most = 1
        """So many may be asked together."""
        self._first_ns = 0
        self._asked = 0
        """Of those that were asked together, how many are not answered."""
        self._busy = 0
        self._is_told = False
        self._call: asyncio.Handle | None = None
        self._left_ns = self._most_ns = _BURST_NS * config.cost // 100
        self._counted_ns = time.monotonic_ns()
        self._share = 0

    def see(self, inputs: Inputs, outputs: Inputs, generation: int) -> None:
        """A request has just been run, in memory that is the asker's again after this."""
        kept = self.keep(inputs)
        if kept is None:
            return
        try:
            wanted = {name: array.copy() for name, array in outputs.items()}
        except Exception as exc:
            self.let_go(kept)
            self._lost(1, exc)
        else:
            self._add(Copy(kept, wanted, generation))

    def keep(self, inputs: Inputs) -> Inputs | None:
        """A copy of what is asked, where it is to be asked again; give it to one of the next two.

        The asker's memory is its own again as soon as it has its answer.
        """
        self._share += self._config.percent
        if self._share < 100:
            return None
        self._share -= 100
        began_ns, size = time.monotonic_ns(), 0
        if began_ns < self._not_before_ns:
            self._tally.dropped += 1
            return None
        for array in inputs.values():
            size += array.nbytes
        if not self._may_take(size):
            self._tally.dropped += 1
            return None
        try:
            kept = {name: array.copy() for name, array in inputs.items()}
        except Exception as exc:
            self._lost(1, exc)
            return None
        self._kept += 1
        self._bytes += size
        self._left_ns -= time.monotonic_ns() - began_ns
        return kept

    def let_go(self, inputs: Inputs) -> None:
        """The request had no answer that another could be held against."""
        self._kept -= 1
        self._bytes -= sum(array.nbytes for array in inputs.values())

    def ask(self, inputs: Inputs, wanted: Inputs, generation: int) -> None:
        """Ask the same again, soon.

        Args:
            inputs: what ``keep`` gave.
            wanted: what the stable release answered.
            generation: of the request.
        """
        self._add(Copy(inputs, wanted, generation))

    def _add(self, copy: Copy) -> None:
        self._kept -= 1
        copies = self._copies
        copies.append(copy)
        if len(copies) == 1:
            self._first_ns = time.monotonic_ns()
        is_full = len(copies) >= self._most or self._bytes > _TOGETHER_BYTES
        loop = asyncio.get_running_loop()
        if is_full or self._busy:
            if is_full:
                self._rest(self._first_ns + max(_GATHER_NS, len(copies) * _EACH_NS))
            if len(copies) == 1 or is_full:
                self._cancel()
                # Behind the answer, which is written in this turn of the loop.
                self._call = loop.call_soon(self._ask_all)
        elif self._call is None:
            self._call = loop.call_later(GATHER_S, self._ask_all)

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _ask_all(self) -> None:
        self._call = None
        if self._asked or not self._copies:
            return
        copies, self._copies = self._copies, []
        self._bytes -= sum(a.nbytes for copy in copies for a in copy.inputs.values())
        is_idle = self._is_idle
        if not is_idle:
            self._busy = _BUSY
        if not (is_idle and self._may_ask()):
            self._tally.dropped += len(copies)
            return
        self._busy = max(0, self._busy - 1)
        self._asked = 1  # this itself
        try:
            whole = self._together(copies)
            if whole is not None:
                self._offer(whole, copies)
            else:
                self._one_by_one(copies)
        finally:
            self._left_ns -= time.monotonic_ns() - self._counted_ns + _TURNS_NS
            self._ended()

    def _together(self, copies: Sequence[Copy]) -> Copy | None:
        try:
            return together(copies, self._release.batch_rows)
        except Exception as exc:
            self._lost(0, exc)  # each for itself, then
            return None

    def _one_by_one(self, copies: Sequence[Copy]) -> None:
        for copy in copies:
            self._offer(copy, (copy,))

    def _offer(self, copy: Copy, parts: Sequence[Copy]) -> None:
        """Ask what a copy holds; it is several of them in one where it has several parts."""
        release, inputs = self._release, copy.inputs
        request = InferRequest(release.key.model, inputs, release.number, (), None, ORIGIN)

        def answered(response: InferResponse, final: bool) -> None:
            if final:
                self._answered(response, copy, parts)

        self._asked += 1
        try:
            rows = check_tensors(release.inputs, inputs, release.owner) or 1
            layout = layout_of(release.inputs, request) if release.needs_layout else ()
            size = sum(array.nbytes for array in inputs.values())
            now_ns = time.monotonic_ns()
            item = Waiting(request, answered, rows, layout, size, now_ns, copy.generation, release)
            # Past a cache, which would compare with nothing new.
            release.turn.overlook(partial(release.offer, item))
        except EdgedError:
            self._asked -= 1
            self._tally.dropped += len(parts)
        except Exception as exc:
            self._asked -= 1
            self._lost(len(parts), exc)

    def _answered(self, response: InferResponse, copy: Copy, parts: Sequence[Copy]) -> None:
        began_ns = time.monotonic_ns()
        self._left_ns -= response.run_ns
        try:
            self._compare(response, copy, parts)
        except Exception as exc:
            self._lost(len(parts), exc)
        finally:
            self._left_ns -= time.monotonic_ns() - began_ns
            self._ended()

    def _compare(self, response: InferResponse, copy: Copy, parts: Sequence[Copy]) -> None:
        tally, error, tolerance = self._tally, response.error, self._config.tolerance
        if error is None:
            differ = 0
            if not agree(response.outputs, copy.wanted, tolerance):
                differ = differing(response.outputs, parts, tolerance)
            tally.compared += len(parts)
            tally.differing += differ
        elif error.code in _NO_FAULT:
            tally.dropped += len(parts)
        elif len(parts) > 1:
            self._one_by_one(parts)  # which of them is it
        else:
            tally.failed_again += 1

    def _lost(self, count: int, exc: Exception) -> None:
        """So many are left out for a fault here, which is no release's; said once."""
        self._tally.dropped += count
        if not self._is_told:
            self._is_told = True
            owner = self._release.owner
            log.error("%s: what it was to be asked again is left out", owner, exc_info=exc)

    def _ended(self) -> None:
        self._asked = max(0, self._asked - 1)
        if self._asked:
            return
        if self._copies and self._call is None:
            self._call = asyncio.get_running_loop().call_soon(self._ask_all)
        if not self._busy:
            self._rest(self._first_ns + _GATHER_NS)

    def _may_take(self, size: int) -> bool:
        """Whether there is room for one more; how much there is, is looked up for the first."""
        count = self._kept + len(self._copies)
        if self._asked:
            return False
        if count:
            return count < self._most and self._bytes + size <= _TOGETHER_BYTES
        release = self._release
        runs = _TOGETHER_NS // (release.typical_run_ns or 1)
        self._most = min(_TOGETHER, release.batch_rows, runs) or 1
        return self._may_ask()

    def _may_ask(self) -> bool:
        now_ns = time.monotonic_ns()
        earned_ns = (now_ns - self._counted_ns) * self._config.cost // 100
        self._left_ns = min(self._most_ns, self._left_ns + earned_ns)
        self._counted_ns = now_ns
        release = self._release
        if self._left_ns <= 0:
            self._rest(now_ns - self._left_ns * 100 // self._config.cost)
            return False
        if release.state is not State.READY or release.session is None:
            return False
        return not release.backlog.items

    def _rest(self, until_ns: int) -> None:
        self._not_before_ns = max(self._not_before_ns, until_ns)
        if self._config.percent == 100:
            self.rests_until_ns = self._not_before_ns

    @property
    def _is_idle(self) -> bool:
        """Whether nothing runs or waits on its device."""
        slots = self._release.slots
        return not (self._release.running or slots.held.total or slots.waiting)
