"""Which of a bundle's model files engines are built from, and how.

Decides from the manifest and the model's section alone. Precisions of TensorRT's own come first: an
int8 file for CPUs has zero points that TensorRT does not take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from edged.engines.entry import Source
from edged.engines.job import BuildJob
from edged.manifest import ArtefactEntry, Manifest
from edged.runtimes.engine import BuildOptions

_MEASURED_ROWS = 32
"""As many rows as a release is measured and warmed with; an engine takes no more than it was built
for."""

_USUAL_ROWS = 8
"""What an engine is tuned for, beside the one row of whoever asks alone, which has a profile of its
own."""


class Wish(NamedTuple):
    """One engine that could be built.

    Args:
        entry: the model file.
        source: the same, as the cache names it.
    """

    entry: ArtefactEntry
    source: Source


def buildable(manifest: Manifest) -> dict[str, ArtefactEntry]:
    """The ONNX files that engines can be built from, by precision."""
    types = {member.name: member.type for member in manifest.members}
    found: dict[str, ArtefactEntry] = {}
    for entry in manifest.artefacts:
        if entry.runtime == "tensorrt" and types[entry.file] == "onnx":
            found[entry.precision] = entry
        elif entry.runtime == "onnx" and entry.precision in ("float32", "float16"):
            found.setdefault(entry.precision, entry)
    return found


def wishes(
    manifest: Manifest, digest: str, precision: str = "auto", max_batch: int = 0
) -> list[Wish]:
    """The engines that a device builds of a bundle, in the order of the manifest.

    Args:
        manifest: of the bundle.
        digest: of the manifest.
        precision: the only one, or ``auto``.
        max_batch: most rows that requests are batched to.
    """
    if manifest.golden is None or any(one.type == "onnx-data" for one in manifest.members):
        return []  # nothing to hold an engine against; a second file, which no build takes
    hashes: Mapping[str, str] = {member.name: member.sha256 for member in manifest.members}
    options = options_for(manifest, max_batch)
    return [
        Wish(
            entry,
            Source(
                bundle=digest,
                onnx_sha256=hashes[entry.file],
                precision=entry.precision,
                options=options,
            ),
        )
        for entry in buildable(manifest).values()
        if precision in ("auto", entry.precision)
    ]


def why_none(manifest: Manifest) -> str:
    """Why a bundle has nothing that an engine is built from; empty where it has."""
    if manifest.golden is None:
        return "the bundle has no golden samples to hold an engine against"
    if any(one.type == "onnx-data" for one in manifest.members):
        return "the bundle keeps weights in a second file: convert it into one file"
    if not buildable(manifest):
        return "the bundle has no ONNX file that TensorRT could take"
    return ""


def options_for(manifest: Manifest, max_batch: int) -> BuildOptions:
    """How a device builds: for every batch that the daemon will ever run."""
    if not manifest.is_row_wise or manifest.golden is None:
        return BuildOptions(max_batch=1)
    rows = max(_MEASURED_ROWS, max_batch, manifest.golden.rows)
    usual = min(_USUAL_ROWS, max_batch or rows)
    return BuildOptions(max_batch=rows, usual_batch=usual, exact=(1,) if usual > 1 else ())


def job_for(manifest: Manifest, options: BuildOptions, memory_bytes: int) -> BuildJob:
    """What the building process is told."""
    return BuildJob(
        model=manifest.name,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        options=options,
        chunk=options.max_batch if manifest.is_row_wise else 0,
        memory_mib=memory_bytes >> 20,
        is_background=True,
    )
