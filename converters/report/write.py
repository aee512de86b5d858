"""A bundle's report as files beside it: ``NAME.report.json`` and ``NAME.report.html``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from converters.errors import ConversionError
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
        _write(data, encode(evidence))
        written.append(data)
    _write(html, render(evidence).encode("utf-8"))
    return [*written, html]


def _write(path: Path, content: bytes) -> None:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123  (opened by descriptor)
                file.write(content)
                os.fchmod(file.fileno(), 0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise ConversionError(f"{path}: cannot be written: {exc.strerror}") from exc
