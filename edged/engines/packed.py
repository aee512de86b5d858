"""The engines in a bundle: which of them were built for this very machine.

Decides by what the signed manifest says of each, so that one from elsewhere is not even read; the
worker that loads one decides again by the engine's own head (``runtimes/engine.py``). One that the
manifest says nothing of is left to the worker.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from edged import decoding
from edged.errors import IncompatibleError
from edged.manifest import ArtefactEntry, Manifest
from edged.runtimes.engine import Host, differences

_TOLD = 3
"""So many engines of other machines are named in an error; a fleet's bundle may hold dozens."""


class Packed(NamedTuple):
    """The engines of a bundle, as seen from one machine.

    Args:
        fits: those to try, the ones known to fit first.
        others: what keeps each of the rest from running here, by file.
    """

    fits: list[ArtefactEntry]
    others: dict[str, str]


def engines_of(manifest: Manifest) -> list[ArtefactEntry]:
    """The entries that are engines; an ONNX file to build one from is none."""
    types = {member.name: member.type for member in manifest.members}
    return [
        one
        for one in manifest.artefacts
        if one.runtime == "tensorrt" and types[one.file] == "tensorrt"
    ]


def match(manifest: Manifest, here: Host) -> Packed:
    """Sort a bundle's engines by whether they were built for this machine.

    Of those that fit, one is kept of each precision: the one that the manifest describes, or else
    all that it says nothing of, for the worker to look at.
    """
    known: list[ArtefactEntry] = []
    unknown: list[ArtefactEntry] = []
    others: dict[str, str] = {}
    for entry in engines_of(manifest):
        built = host_said(manifest, entry)
        if built is None:
            unknown.append(entry)
        elif wrong := differences(built, here):
            others[entry.file] = f"was built for {'; '.join(wrong)}"
        elif all(one.precision != entry.precision for one in known):
            known.append(entry)
    have = {entry.precision for entry in known}
    return Packed(known + [one for one in unknown if one.precision not in have], others)


def fitting(manifest: Manifest, here: Host) -> list[ArtefactEntry]:
    """The engines to try on this machine.

    Raises:
        IncompatibleError: none of them was built for it; says what differs.
    """
    found = match(manifest, here)
    if not found.fits:
        named = [f"{file} {why}" for file, why in found.others.items()]
        more = f" and {len(named) - _TOLD} more" if len(named) > _TOLD else ""
        raise IncompatibleError(
            f"no engine of the bundle was built for this device: {', '.join(named[:_TOLD])}{more}; "
            "build one on this device"
        )
    return found.fits


def host_said(manifest: Manifest, entry: ArtefactEntry) -> Host | None:
    """Where the manifest says that an engine was built; None where it says nothing that reads."""
    engines: Any = manifest.provenance.get("engines")
    told = engines.get(entry.file) if isinstance(engines, dict) else None
    if not isinstance(told, dict):
        return None
    try:
        return decoding.convert(told.get("host"), Host)
    except msgspec.ValidationError:
        return None
