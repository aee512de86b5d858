"""What a bundle offers to the runtimes that are here: the model files that could be loaded. Pure.

Decides who takes part in a contest, and on what a contest's outcome depends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edged.errors import EdgedError
from edged.loading import entries_for
from edged.manifest import ArtefactEntry, Manifest
from edged.runtimes.base import Runtime, RuntimeInfo
from edged.serving.choosing.choice import Choice, Pair

CreateRuntime = Callable[[str], Runtime]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a bundle offers to the runtimes that are here.

    Args:
        entries: the model files by what they would be loaded as: by precision as the bundle lists
            them, and of each by runtime in order of preference.
        absent: runtimes that are not here or get nothing of the bundle, with the reason.
        ids: of all runtimes that were asked, by their names: with their versions.
    """

    entries: Mapping[Pair, ArtefactEntry]
    absent: Mapping[str, str]
    ids: Mapping[str, str]


def offer(manifest: Manifest, infos: Sequence[RuntimeInfo], precision: str) -> Offer:
    """What a bundle offers to those runtimes of a list that are here.

    Args:
        manifest: of the bundle.
        infos: what the runtimes say of themselves, in order of preference.
        precision: the only one that counts; ``auto`` for all.
    """
    absent: dict[str, str] = {}
    found: dict[Pair, ArtefactEntry] = {}
    for info in infos:
        try:
            entries = _entries(manifest, info.name, precision)
        except EdgedError as exc:
            absent[info.name] = exc.message
            continue
        if info.problem:
            # What to install stands in `edged device`; here only why it takes no part.
            absent[info.name] = info.problem.partition("; ")[0]
            continue
        for entry in entries:
            found.setdefault(Pair(info.name, entry.precision), entry)
    listed: list[str] = [entry.precision for entry in manifest.artefacts]
    ordered = sorted(found, key=lambda pair: listed.index(pair.precision))
    ids = {info.name: _ids([info]) for info in infos}
    return Offer({pair: found[pair] for pair in ordered}, absent, ids)


def _entries(manifest: Manifest, name: str, precision: str) -> list[ArtefactEntry]:
    entries = entries_for(manifest, name)
    fit = [one for one in entries if precision in ("auto", one.precision)]
    return fit or Choice((name,), (precision,), is_strict=True).pick(name, entries)


def trial_id(one: Offer, pair: Pair) -> str:
    """What a trial was passed on."""
    return f"{one.ids[pair.runtime]}, {pair.precision}"


def by_preference(one: Offer) -> tuple[Pair, ...]:
    """All there is where nothing was measured: runtimes in their order, float32 before less."""
    rank = {name: place for place, name in enumerate(one.ids)}
    return tuple(sorted(one.entries, key=lambda pair: rank[pair.runtime]))


def with_absent(why: str, one: Offer) -> str:
    """The same, and what takes no part."""
    if not one.absent:
        return why
    told = ", ".join(f"{name} ({reason})" for name, reason in one.absent.items())
    return "; ".join(filter(None, (why, f"left out: {told}")))


def setting_of(one: Offer, precision: str, threads: int, device: str) -> str:
    """All that a contest depends on beside the bytes of the model."""
    wanted = f" {precision}" if precision != "auto" else ""
    return f"{', '.join(one.ids.values())}{wanted}, {told_threads(threads)}, {device}"


def told_threads(threads: int) -> str:
    """How many threads a run has."""
    return f"{threads} threads" if threads else "a thread a core"


def runtime_ids(create_runtime: CreateRuntime, names: Sequence[str]) -> str:
    """Runtimes with their versions, as one text."""
    return _ids([create_runtime(name).info() for name in names])


def _ids(infos: Sequence[RuntimeInfo]) -> str:
    return ", ".join(f"{info.name} {info.version or 'missing'}" for info in infos)
