"""All rollouts of the process: made with each table, looked at twice a second, ended, remembered.

Decides when to look; what becomes of a canary is ``rollout.judge``'s decision, and when that is
written ``rollout_keeping.py``'s. An end takes effect at once, without another generation: what
serves is asked of the rollout. Used from the event loop only.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from edged.config.rollout import RolloutConfig
from edged.config.schema import Config
from edged.errors import ApplyError, EdgedError, ModelNotFoundError, ModelNotReadyError
from edged.rollout.drift import Reference, drift_of, psi_of, references, strange_of, told
from edged.rollout.judge import OVER, Phase, Sides, Verdict, judge, missing
from edged.rollout.ledger import Entry, Ledger
from edged.serving.release import ServedRelease
from edged.serving.rollout import Rollout
from edged.serving.rollout_keeping import Health, Keeping
from edged.serving.served import Served
from edged.serving.standing import Standing
from edged.store.stored import Stored

log = logging.getLogger("edged.rollout")

_LOOK_S = 0.5
_P99 = 0.99


class Rollouts:
    """See above; without ``open`` nothing is remembered and nothing ends."""

    def __init__(self) -> None:
        self.active: Callable[[], Mapping[str, Rollout]] = dict
        """By model, those of the table that serves."""
        self._ledger: Ledger | None = None
        self._health: Health | None = None
        self._stored: Callable[[ServedRelease], Stored] | None = None
        self._on_change: Callable[[], None] = _nothing
        self._made: dict[tuple[str, str], Entry] = {}
        self._references: dict[str, Mapping[str, Reference]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._keeping: Keeping | None = None
        self._reading: set[str] = set()
        self._told: set[str] = set()
        self._faulty: set[str] = set()
        """Models whose rollouts could not be judged at the last look; it is logged once."""
        self._looked_ns = 0

    def open(
        self,
        ledger: Ledger,
        health: Health,
        stored: Callable[[ServedRelease], Stored],
        on_change: Callable[[], None],
    ) -> None:
        """Remember, and end what is to end.

        Args:
            ledger: read already.
            health: told of a canary that was rolled back.
            stored: the bundle of a release.
            on_change: called after what answers has changed.
        """
        self._ledger, self._health, self._keeping = ledger, health, Keeping(ledger, health)
        self._stored, self._on_change = stored, on_change

    def of(
        self, model: str, section: RolloutConfig | None, releases: Mapping[int, Served]
    ) -> Rollout | None:
        """A model's rollout for a table that may come to serve; goes on where the last one was."""
        if section is None:
            return None
        identity = _identity(model, section, releases)
        entry = self._ledger.entry(model, identity) if self._ledger is not None else None
        entry = entry or self._made.get((model, identity))
        if entry is None:
            canary = section.canary.release if section.canary is not None else 0
            entry = Entry(identity, section.stable, canary, began=time.time())
            self._made[model, identity] = entry
        made = Rollout(model, section, releases, entry)
        canary_release = releases.get(entry.canary)
        if canary_release is not None:
            made.references = self._references.get(canary_release.key.digest)
        return made

    def configure(self, config: Config) -> None:
        """Look at them from now on, if there are any."""
        names = {name for name, model in config.models.items() if model.rollout is not None}
        for name in self._told - names:
            if self._health is not None:
                self._health.restore(f"rollout.{name}")
        self._told, self._looked_ns = names, 0
        self._faulty.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if names and self._ledger is not None:
            self._arm()

    def stop(self) -> None:
        """Write down what is not yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for model, rollout in self.active().items():
            if self._keeping is not None:
                self._keeping.now(model, rollout.entry)

    def look(self, now_ns: int) -> None:
        """Judge every rollout that is under way."""
        since_ns = now_ns - self._looked_ns if self._looked_ns else 0
        self._looked_ns = now_ns
        for model, rollout in self.active().items():
            try:
                self._look(model, rollout, now_ns, since_ns)
            except Exception as exc:
                # Of this one; the others are judged all the same, and this one again.
                if model not in self._faulty:
                    log.exception('model "%s": its rollout could not be judged', model)
                self._faulty.add(model)
                if self._health is not None:
                    text = f"it cannot be judged ({type(exc).__name__}); the log says more"
                    self._told.add(model)
                    self._health.degrade(f"rollout.{model}", text)
            else:
                self._faulty.discard(model)

    def _look(self, model: str, rollout: Rollout, now_ns: int, since_ns: int) -> None:
        if self._ledger is not None:
            self._ledger.begin(model, rollout.entry, time.time())
            self._made.pop((model, rollout.entry.identity), None)
        if not rollout.is_over:
            rollout.age(min(since_ns, int(10 * _LOOK_S * 1e9)))
            self._judge(rollout)
        if self._keeping is not None:
            self._keeping.look(model, rollout.entry.tally, now_ns)
        self._tell(rollout)  # last: what was told of a fault stays until all of it goes well

    def promote(self, model: str) -> dict[str, Any]:
        """Let the canary serve all; raises EdgedError where there is none under way."""
        rollout = self._under_way(model)
        canary = rollout.releases.get(rollout.entry.canary)
        if canary is None or not canary.answers:
            state = "not there" if canary is None else canary.state.value
            raise ModelNotReadyError(
                f'failed to promote "{model}": release {rollout.entry.canary} is {state}'
            )
        self._end(rollout, Verdict(Phase.PROMOTED, "by an operator"))
        return self.document(rollout)

    def abort(self, model: str) -> dict[str, Any]:
        """Let the stable release serve all; raises EdgedError where there is none under way."""
        rollout = self._under_way(model)
        self._end(rollout, Verdict(Phase.ABORTED, "by an operator"))
        return self.document(rollout)

    async def saved(self) -> None:
        """Wait until what was decided is on disk, or the health says that it is not."""
        if self._keeping is not None:
            await self._keeping.done()

    def as_list(self) -> list[dict[str, Any]]:
        """Every rollout, for the status page."""
        return [self.document(rollout) for rollout in self.active().values()]

    def document(self, rollout: Rollout) -> dict[str, Any]:
        """One rollout: where it is, why, and its figures."""
        before = self._ledger.before(rollout.model)[::-1] if self._ledger is not None else []
        config, entry = rollout.config, rollout.entry
        waits = ""
        if entry.phase is Phase.RUNNING and entry.canary:
            known = rollout.references or {}
            waits = missing(
                entry.tally, _sides(entry), config.guard, known, is_shadowed=_is_shadowed(rollout)
            )
        return {
            "model": rollout.model,
            **_told(entry),
            "shadow": config.shadow.release if config.shadow is not None else 0,
            "weights": {} if rollout.is_over else {str(n): w for n, w in config.weights.items()},
            "key": config.key or "",
            "window_s": config.guard.window / 1e9,
            "waits_for": waits,
            "drift": {
                name: _finite(drift_of(known, entry.tally.moments[name]))
                for name, known in (rollout.references or {}).items()
                if name in entry.tally.moments
            },
            "psi": {
                name: _finite(psi_of(known, entry.tally.moments[name]))
                for name, known in (rollout.references or {}).items()
                if name in entry.tally.moments
            },
            "nan": {
                name: strange_of(entry.tally.moments[name])
                for name in rollout.references or {}
                if name in entry.tally.moments
            },
            "before": [_told_of_before(one) for one in sorted(before, key=_last, reverse=True)],
        }

    def _under_way(self, model: str) -> Rollout:
        rollout = self.active().get(model)
        if rollout is None:
            raise ModelNotFoundError(
                f'no rollout of "{model[:64]}" is configured; see which there are: '
                "edged rollout status"
            )
        if not rollout.entry.canary:
            raise ApplyError(f'the rollout of "{model}" has no canary: change its section instead')
        if rollout.is_over:
            raise ApplyError(
                f'the rollout of "{model}" is over: {rollout.entry.phase.value} '
                f"({rollout.entry.reason})"
            )
        return rollout

    def _judge(self, rollout: Rollout) -> None:
        entry, guard = rollout.entry, rollout.config.guard
        if not entry.canary:
            return
        canary = rollout.releases.get(entry.canary)
        is_held = guard.drift is not None or guard.psi is not None
        if is_held and rollout.references is None:
            self._read(rollout, canary)
            return
        verdict = judge(
            entry.tally,
            _sides(entry),
            guard,
            rollout.references or {},
            is_shadowed=_is_shadowed(rollout),
            hopeless=canary.reason if canary is not None and canary.is_quarantined else "",
        )
        if verdict is not None and verdict.phase is not entry.phase:
            self._end(rollout, verdict)

    def _end(self, rollout: Rollout, verdict: Verdict) -> None:
        entry = rollout.entry
        entry.move(verdict.phase, verdict.reason, time.time())
        Standing.moves += 1  # whoever looked up a release before looks again
        log.warning(
            'model "%s": release %d is %s: %s',
            rollout.model, entry.canary, verdict.phase.value, verdict.reason,
        )  # fmt: skip
        self._tell(rollout)
        if self._keeping is not None:
            self._keeping.soon(rollout.model, entry)
        self._on_change()

    def _tell(self, rollout: Rollout) -> None:
        if self._health is None:
            return
        self._told.add(rollout.model)
        entry = rollout.entry
        if entry.phase is Phase.ROLLED_BACK:
            text = f"release {entry.canary} was rolled back: {entry.reason}"
            self._health.degrade(f"rollout.{rollout.model}", text)
        else:
            self._health.restore(f"rollout.{rollout.model}")

    def _read(self, rollout: Rollout, canary: Served | None) -> None:
        """Read the samples of a canary's bundle, once."""
        if not isinstance(canary, ServedRelease) or self._stored is None:
            return
        digest = canary.key.digest
        if isinstance(canary.manifest.statistics, dict):
            self._references.setdefault(digest, told(canary.manifest.statistics))
        if digest in self._references:
            rollout.references = self._references[digest]
        elif digest not in self._reading:
            self._reading.add(digest)
            task = asyncio.get_running_loop().create_task(
                self._read_samples(rollout, digest, self._stored(canary))
            )
            task.add_done_callback(lambda _: self._reading.discard(digest))

    async def _read_samples(self, rollout: Rollout, digest: str, stored: Stored) -> None:
        try:
            samples = await asyncio.to_thread(stored.golden)
            found = references(*samples) if samples is not None else {}
        except (EdgedError, OSError) as exc:
            log.error('model "%s": drift cannot be judged: %s', rollout.model, exc)
            return
        self._references[digest] = rollout.references = found

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._on_timer)

    def _on_timer(self) -> None:
        self._arm()
        try:
            self.look(time.monotonic_ns())
        except Exception:
            log.exception("rollouts could not be looked at")


def _identity(model: str, section: RolloutConfig, releases: Mapping[int, Served]) -> str:
    """What is tried against what, and how it is judged; how many are given to it may change."""
    canary = section.canary
    if canary is not None:
        canary = msgspec.structs.replace(canary, traffic_percent=0, key=None)
    digests = {
        str(number): releases[number].key.digest
        for number in sorted(section.numbers)
        if number in releases
    }
    same = msgspec.structs.replace(section, canary=canary)
    data = msgspec.json.encode((model, digests, same), enc_hook=int, order="deterministic")
    return hashlib.sha256(data).hexdigest()


def _sides(entry: Entry) -> Sides:
    return Sides(entry.stable, entry.canary)


def _is_shadowed(rollout: Rollout) -> bool:
    shadow = rollout.config.shadow
    return shadow is not None and shadow.release == rollout.entry.canary and shadow.percent > 0


def _told(entry: Entry) -> dict[str, Any]:
    tally = entry.tally
    return {
        "stable": entry.stable,
        "canary": entry.canary,
        "phase": entry.phase.value,
        "reason": entry.reason,
        "began": entry.began,
        "ended": entry.ended,
        "elapsed_s": round(tally.elapsed_ns / 1e9, 1),
        "sides": {
            number: {
                "answers": side.answers,
                "errors": side.errors,
                "p99_ms": round(side.percentile_ns(_P99) / 1e6, 3),
            }
            for number, side in sorted(tally.sides.items())
        },
        "compared": tally.compared,
        "differing": tally.differing,
        "failed_again": tally.failed_again,
        "dropped": tally.dropped,
        "missed": tally.missed,
    }


def _told_of_before(entry: Entry) -> dict[str, Any]:
    """One that another took the place of: where it had come to then is not where it is."""
    phase = entry.phase if entry.phase in OVER else None
    return {**_told(entry), "phase": "replaced" if phase is None else phase.value}


def _last(entry: Entry) -> float:
    """When it was last heard of; an edged of before did not note when one was replaced."""
    return entry.ended or entry.began


def _finite(number: float) -> float | None:
    return round(number, 3) if math.isfinite(number) else None


def _nothing() -> None:
    pass
