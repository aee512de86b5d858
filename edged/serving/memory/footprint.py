"""What memory a release takes: a bound from its files first, then what it was seen to take.

Bounds only fall: what was measured replaces a larger bound and never a smaller one. Runs on the
loader's thread, like all that measures.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from edged.device.memory import Taken, taken
from edged.errors import EdgedError
from edged.loading import Footprint, Pick, artefact_of, entries_for
from edged.runtimes.base import Runtime, Session
from edged.store.stored import Stored
from edged.workers.isolation import WorkerSession

_SPARE = 4
"""One part in so many is added to what was measured: larger batches take larger tensors between
the layers than the golden samples did, and a heap is never quite full."""
_GRAIN = 256 << 10
"""Sizes are multiples of that: two loads of one model differ by less."""
PROCESS_BYTES = 64 << 20
"""What a process of its own takes beside the model: an interpreter, NumPy and the runtime."""


class Kept(Protocol):
    """What is known from before; see ``store/footprints.py``."""

    def get(self, digest: str, setting: str) -> tuple[int, int, int] | None:
        """None when it was not measured with this setting."""
        ...

    def note(self, digest: str, setting: str, value: tuple[int, int, int]) -> None:
        """Remember that."""
        ...


class Prepared(NamedTuple):
    """What was found before a load.

    Args:
        footprint: what it takes, at most.
        is_proven: whether it ran somewhere and gave the promised numbers.
    """

    footprint: Footprint
    is_proven: bool


class Sizing(NamedTuple):
    """Whose size, and what it depends on.

    Args:
        digest: of the release.
        setting: runtimes, precision and threads, as one text.
        stored: the bundle.
        runtimes: names in order of preference.
        pick: which model files are tried; see ``loading.Pick``.
        is_apart: whether it has a process of its own.
        is_on_host: whether it takes the memory that can be measured here; that of a GPU cannot.
    """

    digest: str
    setting: str
    stored: Stored
    runtimes: Sequence[str]
    pick: Pick
    is_apart: bool
    is_on_host: bool = True


class Watch(NamedTuple):
    """When a load began, and what this process had then."""

    began_ns: int
    before: Taken | None


class Sizes:
    """What is known of the releases of this device.

    Args:
        create_runtime: makes a runtime by name.
        kept: outlives the process.
    """

    def __init__(self, create_runtime: Callable[[str], Runtime], kept: Kept) -> None:
        self._create_runtime = create_runtime
        self._kept = kept
        self._estimates: dict[tuple[str, str], tuple[Footprint, int]] = {}
        self._seen: dict[tuple[str, str], Footprint] = {}
        """What was half measured, and is not worth to outlive the process."""

    def bound(self, one: Sizing) -> Footprint:
        """What it takes at most: as measured, or as its files let one fear."""
        return self._known(one) or self._estimate(one)[0]

    def tried(self, one: Sizing, session: Session) -> None:
        """It was loaded and run in a process that did nothing else and is still there."""
        if not one.is_on_host:
            return
        after = taken(session.pid) if isinstance(session, WorkerSession) else None
        before = session.memory_before if isinstance(session, WorkerSession) else None
        if before is not None and after is not None:
            self._learn(one, bounded(grown(before, after), *self._estimate(one)))

    def watch(self) -> Watch:
        """A load begins."""
        return Watch(time.monotonic_ns(), taken())

    def loaded(self, one: Sizing, watch: Watch, session: Session) -> Footprint:
        """The load is over; returns what it holds.

        What a trial measured is the truer figure: this process also does other things meanwhile.
        """
        load_ns = time.monotonic_ns() - watch.began_ns
        known = self._known(one)
        if known is not None:
            return self._learn(one, known._replace(load_ns=load_ns))
        estimate, floor = self._estimate(one)
        found = estimate
        if not one.is_on_host:
            pass
        elif isinstance(session, WorkerSession):
            after, before = taken(session.pid), session.memory_before
            if after is not None and not one.is_apart and before is not None:
                found = bounded(grown(before, after), estimate, floor)
            elif after is not None:
                found = bounded(Footprint(after.peak - after.files, after.private), estimate, floor)
        else:
            after = taken()
            if after is not None and watch.before is not None:
                held = after.private - watch.before.private
                found = bounded(Footprint(estimate.peak, held), estimate, floor)
                # Only the fear of its files: nobody saw the peak, so it is none to refuse it for.
                found = found._replace(is_measured=False)
        return self._learn(one, found._replace(load_ns=load_ns))

    def _known(self, one: Sizing) -> Footprint | None:
        figures = self._kept.get(one.digest, one.setting)
        if figures is None:
            return self._seen.get((one.digest, one.setting))
        return Footprint(*figures, is_measured=one.is_on_host)

    def _learn(self, one: Sizing, found: Footprint) -> Footprint:
        """Take over what is less than what was known; the time as it is now."""
        before = self._known(one)
        after = found
        if before is not None:
            held = min(found.held, before.held)
            peak = max(held, min(found.peak, before.peak))
            is_measured = before.is_measured or found.is_measured
            after = Footprint(peak, held, found.load_ns, is_measured)
        if one.is_on_host and not after.is_measured:
            self._seen[one.digest, one.setting] = after
        elif before is None or after[:2] != before[:2] or _differ(after.load_ns, before.load_ns):
            self._kept.note(one.digest, one.setting, (after.peak, after.held, after.load_ns))
        return after

    def _estimate(self, one: Sizing) -> tuple[Footprint, int]:
        """The bound before anything was measured, and the bytes of the smallest of its files."""
        key = (one.digest, one.setting)
        if key not in self._estimates:
            self._estimates[key] = self._read(one)
        return self._estimates[key]

    def _read(self, one: Sizing) -> tuple[Footprint, int]:
        bounds, sizes = [1], []
        for name in one.runtimes:
            # None for this runtime: the load says so, and why.
            with contextlib.suppress(EdgedError):
                for entry in one.pick(name, entries_for(one.stored.manifest, name)):
                    artefact = artefact_of(one.stored, entry)
                    bounds.append(self._create_runtime(name).estimate_bytes(artefact))
                    sizes.append(len(artefact.data) + sum(map(len, artefact.sidecars.values())))
        most = max(bounds) + (PROCESS_BYTES if one.is_apart else 0)
        return Footprint(most, most), min(sizes, default=0)


def _differ(one_ns: int, other_ns: int) -> bool:
    """By more than a third: a time that is only read to be told needs no write at each load."""
    return not other_ns * 2 // 3 <= one_ns <= other_ns * 4 // 3


def grown(before: Taken, after: Taken) -> Footprint:
    """What a load took of a process that did nothing else.

    Args:
        before: with the peak forgotten there.
        after: with the model loaded and run.
    """
    held = after.private - before.private
    # Pages of a library that was first used now are no memory that the model takes.
    peak = after.peak - before.peak - max(0, after.files - before.files)
    return Footprint(peak, held)


def bounded(found: Footprint, estimate: Footprint, floor: int) -> Footprint:
    """What was measured as upper bounds.

    Args:
        found: as measured.
        estimate: what it cannot exceed.
        floor: bytes of the model's files; a heap that had room already grows by less than it holds.
    """
    held = min(_with_spare(max(found.held, floor)), estimate.held)
    peak = min(_with_spare(max(found.peak, found.held, floor)), estimate.peak)
    return Footprint(max(peak, held), held, found.load_ns, is_measured=True)


def _with_spare(size: int) -> int:
    return -(-(size + size // _SPARE) // _GRAIN) * _GRAIN
