"""A report's evidence, from a bundle and, where it was made just now, from its conversion."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from converters.elements import settle_tolerance
from converters.report.evidence import (
    ArtefactEvidence,
    Evidence,
    OutputEvidence,
    StepEvidence,
    read,
)
from converters.report.measure import BUDGET_S, describe_machine, measure_artefact
from converters.report.numbers import output_evidence
from converters.sources.base import Remedy
from converters.verify import golden_part, run_member, shared_inputs
from edged.errors import IncompatibleError
from edged.manifest import ArtefactEntry, Manifest, Tolerance
from edged.store.bundle import bundle_digest, read_manifest, stage
from edged.store.golden import read_safetensors
from edged.store.trust_store import TrustStore
from edged.tensors import Array

if TYPE_CHECKING:
    from converters.workflow import Report


def gather_evidence(
    path: Path, report: Report | None = None, *, budget_s: float = BUDGET_S
) -> Evidence:
    """Everything a report says of a bundle.

    Args:
        path: the bundle; its hashes are checked before anything in it is run.
        report: its conversion; without it the numbers are those of the golden rows.
        budget_s: for measuring the latency of each file; 0 measures none.

    Raises:
        BundleError: not a whole bundle, or one without golden samples and an ONNX file.
        ConversionError: a file in it does not load or run here.
    """
    data, manifest, signatures = read_manifest(path)
    with tempfile.TemporaryDirectory(prefix="edged-report-") as name:
        folder = Path(name)
        stage(path, TrustStore.from_files([], threshold=1, required=False), folder)
        inputs, expected = _golden(manifest, folder)
        artefacts = tuple(
            measure_artefact(
                entry,
                (folder / entry.file).read_bytes(),
                _first_rows(manifest, entry, inputs),
                _first_rows(manifest, entry, expected),
                manifest,
                budget_s=budget_s,
            )
            for entry in manifest.artefacts
            if entry.runtime == "onnx"
        )
        outputs = (
            _from_conversion(report, manifest)
            if report is not None
            else _from_golden(manifest, folder, inputs, expected)
        )
    facts = {
        "name": manifest.name,
        "release": manifest.release,
        "version": manifest.version,
        "digest": bundle_digest(data),
        "size_bytes": path.stat().st_size,
        "signed": bool(signatures),
    }
    evidence = Evidence(
        bundle=facts,
        manifest={"parity": manifest.parity, "provenance": manifest.provenance},
        signature={
            "inputs": tuple(f"{e.name} {e.spec()}" for e in manifest.inputs),
            "outputs": tuple(f"{e.name} {e.spec()}" for e in manifest.outputs),
        },
        data="golden" if report is None else "samples",
        outputs=outputs,
        remedies=_remedies(manifest),
        artefacts=artefacts,
        machine=describe_machine(),
    )
    return evidence if report is None else _with_conversion(evidence, report)


def _with_conversion(evidence: Evidence, report: Report) -> Evidence:
    """Add what only the conversion itself knows."""
    steps = tuple(
        StepEvidence(step.name, round(step.seconds, 3), step.peak_bytes) for step in report.steps
    )
    return msgspec.structs.replace(
        evidence, checks=report.checks, warnings=report.warnings, steps=steps
    )


def evidence_for(path: Path, beside: Path) -> Evidence:
    """The report that lies beside a bundle when it is this bundle's; else measured anew.

    Raises:
        BundleError: not a whole bundle.
        ConversionError: it cannot be run here.
    """
    if beside.exists():
        kept = read(beside)
        data, _manifest, _signatures = read_manifest(path)
        if kept.bundle.get("digest") == bundle_digest(data):
            return kept
    return gather_evidence(path)


def by_precision(evidence: Evidence) -> tuple[ArtefactEvidence, ...]:
    """The model files, the most exact first."""
    order = {"float32": 0, "mixed": 1, "float16": 2, "int8": 3}
    return tuple(sorted(evidence.artefacts, key=lambda entry: order.get(entry.precision, 9)))


def _golden(manifest: Manifest, folder: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    if manifest.golden is None:
        raise IncompatibleError("the bundle has no golden samples: there is nothing to run")
    tensors = read_safetensors((folder / manifest.golden.file).read_bytes())
    return (
        golden_part(tensors, "in.", [entry.name for entry in manifest.inputs]),
        golden_part(tensors, "out.", [entry.name for entry in manifest.outputs]),
    )


def _first_rows(
    manifest: Manifest, entry: ArtefactEntry, arrays: dict[str, Array]
) -> dict[str, Array]:
    """The rows that a model file answers; held against the framework's, not its own answers."""
    promised = manifest.golden_of(entry)
    return shared_inputs(manifest, promised, arrays) if promised else arrays


def _from_conversion(report: Report, manifest: Manifest) -> tuple[OutputEvidence, ...]:
    # As the framework was compared with: golden rows of int8 have tolerances of their own.
    asked = Tolerance(rtol=manifest.parity["rtol"], atol=manifest.parity["atol"])
    return tuple(
        output_evidence(name, array, report.proven.got[name], settle_tolerance(array, asked))
        for name, array in report.proven.expected.items()
    )


def _from_golden(
    manifest: Manifest, folder: Path, inputs: dict[str, Array], expected: dict[str, Array]
) -> tuple[OutputEvidence, ...]:
    model = next((a.file for a in manifest.artefacts if a.runtime == "onnx"), None)
    if model is None or manifest.golden is None:
        raise IncompatibleError("the bundle has no ONNX file to run its golden samples on")
    got = run_member((folder / model).read_bytes(), inputs, list(expected), "")
    return tuple(
        output_evidence(name, array, got[name], manifest.golden.tolerances.get(name, Tolerance()))
        for name, array in expected.items()
    )


def _remedies(manifest: Manifest) -> tuple[Remedy, ...]:
    """The repaired traps of the provenance, which is free in form."""
    try:
        return msgspec.convert(manifest.provenance.get("remedies", ()), tuple[Remedy, ...])
    except msgspec.ValidationError:
        return ()
