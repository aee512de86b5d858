"""A bundle's report as files beside it: ``NAME.report.json`` and ``NAME.report.html``."""

from __future__ import annotations

from pathlib import Path

from converters.atomic import replace_file
from converters.report.evidence import Evidence, encode
from converters.report.page import render


def beside(bundle: Path, ending: str) -> Path:
    """``digits-1.edgb`` with ``json``: ``digits-1.report.json``."""
    return bundle.with_name(f"{bundle.name.removesuffix('.edgb')}.report.{ending}")


def write_report(evidence: Evidence, html: Path, data: Path | None = None) -> list[Path]:
    """Write the page, and the data where a place for it is named; each as a whole or not at all.

    Returns:
        What was written.

    Raises:
        ConversionError: a file cannot be written.
    """
    written = []
    if data is not None:
        replace_file(data, encode(evidence))
        written.append(data)
    replace_file(html, render(evidence).encode("utf-8"))
    return [*written, html]
