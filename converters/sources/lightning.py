"""Lightning: ``module:Class`` with a checkpoint, or ``module:factory`` that gives a module.

A checkpoint names no class, so its class is given beside it. It is read with ``weights_only``: the
class is trusted, the checkpoint need not be. A loaded module is in training mode: eval is called.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import torch

from converters.errors import ConversionError
from converters.sources.base import Exported, SourceJob
from converters.sources.factory import build, named
from converters.sources.torch import export_module, refuse_other_than_modules, settle
from converters.sources.torch_reasons import first_lines
from edged.tensors import Array


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Load, call and convert a LightningModule.

    Raises:
        UnsupportedModelError: an operator, branch or output that cannot be converted.
        ConversionError: no such class, a checkpoint that does not fit it, or samples that do not.
    """
    settle()
    package = _package()
    if job.weights is None:
        model = build(job.source)
    else:
        model = _load(named(job.source), job.source, Path(job.weights))
    refuse_other_than_modules(model, job.source)
    return export_module(model, job, samples, {package.__name__: package.__version__})


def _package() -> Any:
    """``lightning``, or ``pytorch_lightning`` where only that is installed."""
    try:
        return importlib.import_module("lightning")
    except ImportError:
        return importlib.import_module("pytorch_lightning")


def _load(owner: Any, source: str, path: Path) -> Any:
    if not (inspect.isclass(owner) and hasattr(owner, "load_from_checkpoint")):
        raise ConversionError(
            f"{source} is no LightningModule class, which a checkpoint needs: give module:Class"
        )
    try:
        return owner.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except Exception as exc:
        raise ConversionError(
            f'checkpoint "{path.name}": {first_lines(exc)}; expected one that {source} wrote, '
            "holding tensors and plain values alone, with every argument of its __init__ saved "
            f"by save_hyperparameters() (torch {torch.__version__})"
        ) from exc
