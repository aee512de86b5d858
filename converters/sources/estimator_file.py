"""The files that estimators come in: joblib, pickle, and skops. Only for the throw-away process."""

from __future__ import annotations

import importlib
import zipfile
from typing import Any

import joblib

from converters.errors import ConversionError


def open_estimator(path: str) -> Any:
    """Open a file, which runs whatever it says.

    Raises:
        ConversionError: skops is needed and not installed.
        Exception: whatever the file's own code raises.
    """
    if not is_skops(path):
        return joblib.load(path)
    try:
        skops: Any = importlib.import_module("skops.io")
    except ImportError as exc:
        raise ConversionError(
            "a .skops file needs skops, which is not installed: pip install 'edged[convert-skops]'"
        ) from exc
    # NOTE: the list comes out of the file itself; --trust is what allows it, not the format.
    return skops.load(path, trusted=skops.get_untrusted_types(file=path))


def is_skops(path: str) -> bool:
    """Whether a file is a skops archive; lists its names."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "schema.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False
