"""What a report says, as data: the numbers behind a bundle and how it ran on one machine.

Lies beside the bundle, never in it: times and last digits belong to the machine, and the bundle's
digest must be the same everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from converters.errors import ConversionError
from converters.gate.checks import Check
from converters.records import read_record
from converters.sources.base import Remedy

FORMAT = "edged-report-v1"
CAP_BYTES = 16 << 20
"""A report of a model with many outputs has some hundred kilobytes."""


class WorstRow(Struct, frozen=True):
    """One row among the nearest to failing: what both sides gave, the values that differ most."""

    row: int
    framework: tuple[float | None, ...]
    converted: tuple[float | None, ...]
    max_abs: float | None
    share: float | None


class OutputEvidence(Struct, frozen=True):
    """How one output compares.

    Args:
        name: the output.
        rows: rows compared.
        max_abs: largest absolute difference.
        max_rel: largest relative difference.
        rows_beyond: rows beyond the tolerance.
        label_agreement: share of rows with the same best class, where there is one.
        is_constant: whether the framework gave the same for every row.
        bins: lower ends of the histogram's bins: shares of the allowed difference that a row used.
        counts: rows in each.
        worst: the rows nearest to failing.
    """

    name: str
    rows: int
    max_abs: float | None
    max_rel: float | None
    rows_beyond: int
    label_agreement: float | None
    is_constant: bool
    bins: tuple[float, ...]
    counts: tuple[int, ...]
    worst: tuple[WorstRow, ...]


class Latency(Struct, frozen=True):
    """How long one run of so many rows took here, the median of several."""

    rows: int
    milliseconds: float


class ArtefactEvidence(Struct, frozen=True):
    """One model file of the bundle, run on the golden rows here.

    Args:
        file: the member.
        precision: as the manifest says.
        size_bytes: of the file.
        weights_bytes: of its weights alone.
        opset: of its main operators.
        nodes: how many, by operator, the most first.
        max_abs: largest difference from the framework on the golden rows.
        label_agreement: share of golden rows with the same best class, where there is one.
        latency: by rows, one thread.
    """

    file: str
    precision: str
    size_bytes: int
    weights_bytes: int
    opset: int | None
    nodes: dict[str, int]
    max_abs: float | None
    label_agreement: float | None
    latency: tuple[Latency, ...]


class StepEvidence(Struct, frozen=True):
    """One step of the conversion as it went here."""

    name: str
    seconds: float
    peak_bytes: int


class Evidence(Struct, frozen=True, kw_only=True):
    """A whole report.

    Args:
        format: ``edged-report-v1``.
        bundle: name, release, version, digest and file size.
        manifest: parity and provenance, as the bundle has them.
        signature: inputs and outputs in words.
        data: what the numbers below were made on: ``samples`` (all rows of the conversion) or
            ``golden`` (the rows in the bundle).
        outputs: the numbers, per output.
        checks: what the gate looked at; empty where only the bundle is there.
        remedies: traps that were met and repaired.
        warnings: what the framework had to say.
        artefacts: the model files.
        steps: time and memory of the conversion.
        machine: where it was measured.
    """

    format: Literal["edged-report-v1"] = "edged-report-v1"
    bundle: dict[str, Any]
    manifest: dict[str, Any]
    signature: dict[str, tuple[str, ...]]
    data: Literal["samples", "golden"]
    outputs: tuple[OutputEvidence, ...]
    checks: tuple[Check, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    warnings: tuple[str, ...] = ()
    artefacts: tuple[ArtefactEvidence, ...] = ()
    steps: tuple[StepEvidence, ...] = ()
    machine: dict[str, str]


def encode(evidence: Evidence) -> bytes:
    """The JSON file; numbers that are not finite become null."""
    return msgspec.json.format(msgspec.json.encode(evidence), indent=1) + b"\n"


def read(path: Path) -> Evidence:
    """Read a report's JSON file.

    Raises:
        ConversionError: not one.
    """
    found = read_record(path, Evidence, CAP_BYTES, "a report")
    if found is None:
        raise ConversionError(f"{path}: No such file or directory")
    return found
