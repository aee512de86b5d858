"""A model's rollout at work: gives each request to its side, and notes what came of it.

Decides nothing: which side is ``rollout.split``'s decision, and what becomes of a side
``rollout.judge``'s. Models without a rollout know nothing of this. Used from the event loop only.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping

from edged.config.rollout import USER, RolloutConfig
from edged.errors import ModelNotReadyError
from edged.messages import InferRequest, InferResponse, OnResponse, OrderedRequest
from edged.rollout.drift import Reference, observe
from edged.rollout.judge import OVER, Phase
from edged.rollout.ledger import Entry
from edged.rollout.split import Split, place, salt_of
from edged.rollout.tally import Moments
from edged.rollout.together import Inputs
from edged.serving.release import ServedRelease
from edged.serving.served import Served
from edged.serving.shadow import Shadow

log = logging.getLogger("edged.rollout")

_ID = "id"
"""By what a request belongs to a side where the operator named no key: its own id."""
_KEY_CHARACTERS = 256
"""Of a key; more comes from nobody who means well, and is cut."""
_PLACES = 1024
"""Keys whose places are remembered, for a hash takes 4 us; half a megabyte of the longest."""
_SILENT_NS = 1_000_000_000
"""Nobody asked for so long, or for a tenth of the window: what follows is no time under traffic."""
_LOOK_NS = 20_000_000
"""Tensors of a canary are looked at so often, where drift is guarded."""


class Rollout:
    """See above.

    Args:
        model: its name.
        config: the section.
        releases: by number, those that there are.
        entry: where it is, and its figures.
    """

    def __init__(
        self, model: str, config: RolloutConfig, releases: Mapping[int, Served], entry: Entry
    ) -> None:
        self.model, self.config, self.entry = model, config, entry
        self.releases = releases
        self.references: Mapping[str, Reference] | None = None
        """Of the canary's bundle; None until they are read."""
        self._key = config.key
        # Not of a shadow's: with it comes and goes nobody's side.
        self._salt = salt_of(model, [config.stable, *(config.weights.keys() - {config.stable})])
        self._split = Split(self._salt, config.weights)
        self.side_at = self._split.at
        """The release at a place."""
        self.sides = self._split.numbers
        """The releases that requests are given to."""
        self.is_sole = self.sides == {config.stable}
        """Whether every request goes to the stable release, and is at most asked again."""
        self._canary = config.canary.release if config.canary is not None else 0
        self._looked_ns = self._silent_ns = 0
        self._seen = -1
        self._is_told = False
        self._drawn: float | None = None
        self._places: dict[str, float] = {}
        self.shadow: Shadow | None = None
        asked = releases.get(config.shadow.release) if config.shadow is not None else None
        if config.shadow is not None and config.shadow.percent and isinstance(asked, ServedRelease):
            self.shadow = Shadow(asked, config.shadow, entry.tally)

    @property
    def serve(self) -> int:
        """The release that answers whoever belongs to no side."""
        return self._canary if self.entry.phase is Phase.PROMOTED else self.config.stable

    @property
    def is_over(self) -> bool:
        """Whether every request goes to one release again."""
        return self.entry.phase in OVER

    def age(self, since_ns: int) -> None:
        """So much time has passed; it counts as long as the release that is tried is asked."""
        tally = self.entry.tally
        sides = tally.sides.values() if not self._canary else [tally.sides.get(str(self._canary))]
        seen = sum(side.answers for side in sides if side is not None)
        self._silent_ns = self._silent_ns + since_ns if seen == self._seen else 0
        self._seen = seen
        if self._silent_ns <= max(_SILENT_NS, self.config.guard.window // 10):
            tally.elapsed_ns += since_ns

    @property
    def other(self) -> Served | None:
        """A side that answers while the stable release does not; None where there is none."""
        if self.is_over:
            return None
        found = (self.releases.get(one) for one in sorted(self.sides - {self.config.stable}))
        return next((one for one in found if one is not None and one.answers), None)

    def take(
        self, stable: Served, request: InferRequest, on_response: OnResponse
    ) -> tuple[Served, OnResponse]:
        """Who answers a request that names no release, and what its answer goes through.

        Args:
            stable: who answers when nobody else does; while it is down, ``other``.
            request: as submitted.
            on_response: the asker's.

        Raises:
            ModelNotReadyError: it is the stable release's, which is down, and the other a canary.
        """
        if self.is_over:
            return stable, on_response
        release, number = stable, self.config.stable
        if not self.is_sole:
            number = self.side_at(self.place_of(request.asker, request.origin))
        if number != stable.number:
            found = self.releases.get(number)
            if found is not None and found.answers:
                release = found
            elif stable.number == self._canary:
                # It is only tried, and gets no more than its share.
                down = self.releases.get(number)
                state = "not there" if down is None else down.told_state
                raise ModelNotReadyError(
                    f'model "{self.model}" is not ready: release {number} is {state}, and '
                    f"release {stable.number}, which is tried, only answers its own share"
                )
            else:
                self.entry.tally.missed += 1
        return release, self._watched(release, request, on_response)

    def place_of(self, asker: Mapping[str, object] | str | None, origin: str) -> float:
        """Where a request lies, from 0 to 1; one that says nothing is drawn for itself."""
        key = None if asker is None and self._key != USER else self.key_of(asker, origin)
        if key is not None:
            where = self._places.get(key)
            if where is None:
                if len(self._places) >= _PLACES:
                    self._places.clear()
                where = self._places[key] = place(self._salt, key)
            return where
        drawn, self._drawn = self._drawn, None
        return random.random() if drawn is None else drawn  # noqa: S311

    def put_back(self, where: float, asker: Mapping[str, object] | str | None, origin: str) -> None:
        """A request goes another way; one that was drawn is to have the same place there."""
        # The place of a key is found again: kept here, the next one to be drawn would get it.
        if self.key_of(asker, origin) is None:
            self._drawn = where

    def is_canary(self, number: int) -> bool:
        """Whether it is the release that is tried."""
        return number == self._canary

    def look(self, inputs: Inputs, outputs: Inputs, now_ns: int) -> None:
        """Add a canary's tensors to what drift is judged by, now and then."""
        if now_ns - self._looked_ns < _LOOK_NS:
            return
        self._looked_ns = now_ns
        try:
            self._observe("in", inputs)
            self._observe("out", outputs)
        except Exception:
            # Who asked has its answer all the same, and the next are looked at.
            if not self._is_told:
                self._is_told = True
                log.exception('model "%s": a canary\'s tensors could not be looked at', self.model)

    def _observe(self, prefix: str, arrays: Inputs) -> None:
        moments = self.entry.tally.moments
        for name, array in arrays.items():
            full = f"{prefix}.{name}"
            reference = (self.references or {}).get(full)
            if reference is not None:
                observe(moments.setdefault(full, Moments()), array, reference)

    def key_of(self, asker: Mapping[str, object] | str | None, origin: str) -> str | None:
        """What keeps a request on its side; None where it says nothing of that kind."""
        if self._key == USER:
            return origin.partition(":")[2] or None
        if asker is None:
            return None
        if isinstance(asker, str):
            return asker[:_KEY_CHARACTERS]
        value = asker.get(_ID if self._key is None else self._key)
        return None if value is None or value == "" else str(value)[:_KEY_CHARACTERS]

    def _watched(
        self, release: Served, request: InferRequest, on_response: OnResponse
    ) -> OnResponse:
        began_ns = time.monotonic_ns()
        side = self.entry.tally.side(release.number)
        shadow, kept = self.shadow, None
        if (
            shadow is not None
            and release.number == self.config.stable
            and type(request) in (InferRequest, OrderedRequest)
        ):
            kept = shadow.keep(request.inputs)

        def watched(response: InferResponse, final: bool) -> None:
            if not final:
                on_response(response, False)
                return
            now_ns = time.monotonic_ns()
            side.note(response.error, now_ns - began_ns)
            if self.references and response.release == self._canary and response.error is None:
                self.look(request.inputs, response.outputs, now_ns)
            try:
                on_response(response, True)
            finally:
                if shadow is not None and kept is not None:
                    _again(shadow, kept, response)

        return watched


def _again(shadow: Shadow, kept: Inputs, response: InferResponse) -> None:
    if response.error is None:
        shadow.ask(kept, response.outputs, response.generation)
    else:
        shadow.let_go(kept)
