"""What the contract tests share: which runtimes there are, and tiny models as files for each.

A kind of artefact that is not listed in FILES fails there; a model that it cannot say is skipped.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from edged.runtimes.base import Artefact, Runtime
from edged.runtimes.registry import APART, ARTEFACT_KINDS, RUNTIME_NAMES
from tests.models import TinyModel

FILES: dict[str, Callable[[TinyModel], bytes | None]] = {"onnx": lambda model: model.data}
"""For each kind of artefact, a tiny model as such a file; None where the kind cannot say it."""
EXAMPLE = "numpy"
"""The example package of docs/examples, a runtime like any other."""
REFUSED = {
    "openvino": {"double-float64", "same-float64", "with-function"},
    EXAMPLE: {"image", "branching", "with-function"},
}
"""Models that a runtime says it does not take; its own tests hold the words."""
IN_ONE_FILE = {"openvino", EXAMPLE}
"""They take weights from memory only where they are in the model file itself."""
INSTALLED_FOR_ALL = {"openvino", "openvino-gpu", "openvino-npu"}
"""Their packages are there for ``make test-all`` only."""
PARAMS = [
    pytest.param(name, marks=pytest.mark.frameworks if name in INSTALLED_FOR_ALL else ())
    for name in (*RUNTIME_NAMES, EXAMPLE)
    # What takes nothing but whole folders that make texts has tests of its own for all this.
    if name not in APART and ARTEFACT_KINDS.get(name) != ("genai",)
]
"""Engines are made on the machine they run on: ``test_tensorrt.py`` runs every model on its fake."""


def is_old_onnxruntime(runtime: Runtime) -> bool:
    """Whether it takes one file from memory and no second, as the last one for Python 3.10."""
    if not runtime.name.startswith("onnxruntime"):
        return False
    backend = importlib.import_module("onnxruntime")
    return not hasattr(backend.SessionOptions, "add_external_initializers_from_files_in_memory")


def artefact(runtime: Runtime, model: TinyModel, **changes: object) -> Artefact:
    """A tiny model as a runtime takes it; skips where its kind of file cannot say it."""
    data = FILES[kind(runtime)](model)
    if data is None:
        pytest.skip(f"{runtime.name} cannot say {model.name}")
    made = Artefact(
        model.name,
        data,
        tuple(entry.spec() for entry in model.inputs),
        tuple(entry.spec() for entry in model.outputs),
    )
    return replace(made, **changes)


def kind(runtime: Runtime) -> str:
    """The kind of artefact that the tests give it: the plainest of those that it takes."""
    return ARTEFACT_KINDS.get(runtime.name, ("onnx",))[-1]
