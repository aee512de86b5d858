"""A stored release with the engines that this device built of it, as if its bundle had them.

Whoever loads sees one more model file for TensorRT; its bytes are those that the cache verified
just now. The manifest that clients and signatures know stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edged.engines.cache import EngineCache
from edged.engines.sources import Wish
from edged.manifest import ArtefactEntry, Manifest, Member
from edged.runtimes.engine import Host, sha256
from edged.store.stored import Stored
from edged.tensors import Array


class Dressed:
    """See above.

    Args:
        stored: the release.
        engines: each with the model file that it was built from.
        host: what all of them were built for.
    """

    def __init__(self, stored: Stored, engines: Sequence[tuple[Wish, bytes]], host: Host) -> None:
        self._stored = stored
        self._files: dict[str, bytes] = {}
        self._entries: dict[str, ArtefactEntry] = {}
        told: dict[str, object] = {}
        for wish, data in engines:
            precision = wish.entry.precision
            name = f"device-{precision}-{sha256(data)[:12]}.engine"
            self._files[name] = data
            entry = msgspec.structs.replace(
                wish.entry, runtime="tensorrt", file=name, opset=None, ir=None
            )
            self._entries[name] = entry
            told[name] = {"model": wish.entry.file, "host": msgspec.to_builtins(host)}
        self.manifest = _extended(stored.manifest, self._entries, self._files, told)

    def artefact(self, runtime: str, precision: str = "") -> bytes:
        """As the bundle has it; else the engine."""
        if not any(one.runtime == runtime for one in self._stored.manifest.artefacts):
            for name, entry in self._entries.items():
                if entry.runtime == runtime and precision in ("", entry.precision):
                    return self._files[name]
        return self._stored.artefact(runtime, precision)

    def read_member(self, name: str) -> bytes:
        """A file of the bundle, or an engine."""
        data = self._files.get(name)
        return data if data is not None else self._stored.read_member(name)

    def sidecars(self, entry: ArtefactEntry) -> dict[str, bytes]:
        """Engines have none."""
        return {} if entry.file in self._files else self._stored.sidecars(entry)

    def golden(
        self, entry: ArtefactEntry | None = None
    ) -> tuple[dict[str, Array], dict[str, Array]] | None:
        """An engine is held against what its model file is held against."""
        return self._stored.golden(entry)


def dress(stored: Stored, wishes: list[Wish], cache: EngineCache, host: Host) -> Stored:
    """A release with those of its engines that the cache has for this device."""
    engines = []
    for wish in wishes:
        data = cache.find(wish.source, host).data
        if data is not None:
            engines.append((wish, data))
    return Dressed(stored, engines, host) if engines else stored


def _extended(
    manifest: Manifest,
    entries: Mapping[str, ArtefactEntry],
    files: Mapping[str, bytes],
    told: Mapping[str, object],
) -> Manifest:
    members = [Member(name, "tensorrt", len(data), sha256(data)) for name, data in files.items()]
    known = manifest.provenance.get("engines")
    engines = {**(known if isinstance(known, dict) else {}), **told}
    return msgspec.structs.replace(
        manifest,
        artefacts=(*manifest.artefacts, *entries.values()),
        members=(*manifest.members, *members),
        provenance={**manifest.provenance, "engines": engines},
    )
