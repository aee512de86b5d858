"""What a change of the configuration costs: loads, memory and subscriptions. For ``edged diff``.

Reads manifests and what the state directory knows of earlier loads; asks no daemon and loads
nothing. What never ran here is told by the size of its files, and so said to be a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.config.load import Snapshot
from edged.errors import EdgedError
from edged.generation.history import History
from edged.manifest import Manifest
from edged.serving.desired import Desired
from edged.serving.lifecycle import ReleaseKey
from edged.store.bundle import bundle_digest, read_manifest
from edged.store.footprints import Footprints
from edged.tensors import TensorSpec

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """One release.

    Args:
        name: of the model.
        number: of the release.
        size: bytes, once it is loaded.
        is_measured: whether it was loaded on this device before; else by its files.
        tensors: what it takes and gives, in words.
    """

    name: str
    number: int
    size: int
    is_measured: bool
    tensors: str = ""

    def __str__(self) -> str:
        """As a line says it."""
        how = "" if self.is_measured else ", by its files"
        return f"{self.name} release {self.number} ({self.size / _MB:.1f} MB{how})"


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What a release is read from; enough for ``Desired``."""

    manifest: Manifest


def format_costs(applied: Snapshot, wanted: Snapshot, state_dir: Path, history: Path) -> list[str]:
    """Lines of what the way from one to the other takes.

    Args:
        applied: the configuration in effect.
        wanted: the one that is to come.
        state_dir: the daemon's.
        history: the folder of its generations.
    """
    served = _served(History(history))
    footprints = Footprints(state_dir / "footprints")
    before = dict(_releases(applied, footprints, served))
    after = dict(_releases(wanted, footprints, {}))
    loads = [after[key] for key in after.keys() - before.keys()]
    there = {cost.name for cost in after.values()}
    unread = sorted(wanted.config.models.keys() - there)
    ends = [before[key] for key in before.keys() - after.keys() if before[key].name not in unread]
    coming, going = (sum(one.size for one in many) for many in (loads, ends))
    lines = [f"{name}: none of its bundles can be read; see edged check" for name in unread]
    lines += [f"loads {one}" for one in sorted(loads, key=_order)]
    lines += [f"ends {one}" for one in sorted(ends, key=_order)]
    lines += _changed_tensors(sorted(loads, key=_order), sorted(before.values(), key=_order))
    if loads or ends:
        lines.append(
            f"memory: {coming / _MB:+.1f} MB until what ends is unloaded, "
            f"{(coming - going) / _MB:+.1f} MB after"
        )
    old, new = _filters(applied), _filters(wanted)
    lines += [f"subscribes to {name}" for name in sorted(new - old)]
    lines += [f"unsubscribes from {name}" for name in sorted(old - new)]
    return lines


def _changed_tensors(loads: Sequence[Cost], before: Sequence[Cost]) -> Iterator[str]:
    """Whoever asks such a model has to ask it in another way from then on."""
    for one in loads:
        known = [other.tensors for other in before if other.name == one.name]
        if known and one.tensors not in known:
            yield (
                f"{one.name} release {one.number} takes and gives other tensors than what serves: "
                f"{one.tensors}; it was {known[-1]}"
            )


def _order(cost: Cost) -> tuple[str, int]:
    return cost.name, cost.number


def _served(history: History) -> Mapping[str, frozenset[str]]:
    """By model, the digests of the generation in effect: its files may have been replaced since."""
    entries = history.entries()
    if not entries:
        return {}
    newest = max(entries, key=lambda entry: entry.generation)
    return {model: frozenset(digests) for model, digests in newest.releases.items()}


def _releases(
    snapshot: Snapshot, footprints: Footprints, served: Mapping[str, frozenset[str]]
) -> Iterator[tuple[ReleaseKey, Cost]]:
    for name, config in snapshot.config.models.items():
        for path in snapshot.bundle_paths(name):
            try:
                data, manifest, _ = read_manifest(path)
            except (EdgedError, OSError):
                continue  # a reload says what is wrong with it
            digest = bundle_digest(data)
            if name in served and digest not in served[name]:
                continue  # came after what serves was loaded
            bundle: Any = _Bundle(manifest)
            yield Desired(digest, bundle, config).key, _cost(name, digest, manifest, footprints)


def _cost(name: str, digest: str, manifest: Manifest, footprints: Footprints) -> Cost:
    known = [figures[1] for figures in footprints.all(digest).values() if figures is not None]
    tensors = f"{_words(manifest.input_specs())} -> {_words(manifest.output_specs())}"
    if known:
        return Cost(name, manifest.release, known[-1], is_measured=True, tensors=tensors)
    files = {entry.file for entry in manifest.artefacts[:1]}
    size = sum(m.size for m in manifest.members if m.name in files or m.type == "onnx-data")
    return Cost(name, manifest.release, size, is_measured=False, tensors=tensors)


def _words(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec}" for spec in specs)


def _filters(snapshot: Snapshot) -> set[str]:
    return {binding.from_ for binding in snapshot.config.bindings}
