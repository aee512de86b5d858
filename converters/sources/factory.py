"""``module:factory``: import the module, call the factory; the model's author wrote both."""

from __future__ import annotations

import importlib
from typing import Any

from converters.errors import ConversionError


def named(source: str) -> Any:
    """What ``module:name`` names.

    Raises:
        ConversionError: no such module or name, or the module fails while it is imported.
    """
    module_name, _, name = source.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except Exception as exc:
        raise ConversionError(_explain(source, exc)) from exc


def build(source: str) -> Any:
    """What the factory gives.

    Raises:
        ConversionError: it cannot be found, or fails.
    """
    factory = named(source)
    try:
        return factory()
    except Exception as exc:
        raise ConversionError(_explain(source, exc)) from exc


def _explain(source: str, exc: Exception) -> str:
    return (
        f"{source}: {type(exc).__name__}: {exc}; is the module importable from where "
        "edged-convert runs, and does the factory take no arguments?"
    )
