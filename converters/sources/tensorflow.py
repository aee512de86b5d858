"""TensorFlow without Keras: a SavedModel folder, or a ``tf.Module`` built by ``module:factory``.

A SavedModel is a program (it may read files), so it asks for ``--trust``. Those that Keras 2 wrote
load only after tf_keras is imported. What is converted is one signature, under its own names.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from converters.errors import ConversionError, UnsupportedModelError
from converters.recipe import is_factory
from converters.sources import tracing
from converters.sources.base import (
    Exported,
    Remedy,
    SourceJob,
    match_inputs,
    name_outputs,
    run_model,
)
from converters.sources.factory import build
from edged.tensors import Array

SIGNATURES = ("serving_default", "serve", "predict", "call")
"""What is taken when a SavedModel has several, in this order."""
KERAS2 = Remedy("keras-2", "it was written by Keras 2 and loads only after tf_keras is imported")


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Load, call and convert a SavedModel or a ``tf.Module``.

    Raises:
        UnsupportedModelError: text, an operator or a signature that cannot be converted.
        ConversionError: nothing that can be loaded, or samples that do not fit.
    """
    tracing.settle()
    if not is_factory(job.source):
        return _export_saved(Path(job.source), job, samples)
    module = build(job.source)
    if hasattr(module, "layers") and hasattr(module, "load_weights"):
        keras_source = importlib.import_module("converters.sources.keras")
        keras_source.load_weights(module, job)
        exported: Exported = keras_source.export_model(module, job, samples)
        return exported
    if job.weights is not None:
        raise ConversionError("--weights is for Keras models; let the factory read its own")
    if not callable(module):
        raise ConversionError(
            f"{job.source} gave a {type(module).__name__}, which cannot be called"
        )
    specs = _module_specs(module, job, samples)
    return _convert(module, specs, job, samples, [])


def _export_saved(path: Path, job: SourceJob, samples: dict[str, Array]) -> Exported:
    remedies = []
    if (path / "keras_metadata.pb").is_file():
        with contextlib.suppress(ImportError):
            importlib.import_module("tf_keras")
            remedies.append(KERAS2)
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as exc:
        hint = "" if remedies else "; one that Keras 2 wrote needs tf_keras (edged[convert-tf])"
        raise ConversionError(
            f'"{path.name}" is not a SavedModel that TensorFlow {tf.__version__} loads: '
            f"{tracing.first_line(exc)}{hint}"
        ) from exc
    signature = _signature(loaded, path)
    named = signature.structured_input_signature[1]
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in named.items()]
    tracing.refuse_specs(specs, job.batch)
    names = list(named)

    def forward(*tensors: Any) -> Any:
        return signature(**dict(zip(names, tensors, strict=True)))

    return _convert(forward, specs, job, samples, remedies)


def _signature(loaded: Any, path: Path) -> Any:
    """The signature to convert; a folder of one function without any has that function."""
    found = dict(loaded.signatures)
    for name in SIGNATURES:
        if name in found:
            return found[name]
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UnsupportedModelError(
            f'"{path.name}" has the signatures {", ".join(sorted(found))}: save it again with '
            "one, named serving_default"
        )
    function = getattr(loaded, "__call__", None)  # noqa: B004  (a restored function, not callable())
    traces = getattr(function, "concrete_functions", [])
    if len(traces) == 1:
        return _by_name(traces[0])
    raise UnsupportedModelError(
        f'"{path.name}" has no signature: save it with tf.saved_model.save(module, folder, '
        "signatures=module.__call__.get_concrete_function(tf.TensorSpec([None, ...])))"
    )


class _by_name:  # noqa: N801  (stands for a function)
    """A restored function of positional tensors, called by the names of its arguments."""

    def __init__(self, function: Any) -> None:
        flat = tf.nest.flatten(function.structured_input_signature)
        specs = [spec for spec in flat if isinstance(spec, tf.TensorSpec)]
        self._function = function
        self.structured_input_signature = ((), {spec.name: spec for spec in specs})

    def __call__(self, **tensors: Any) -> Any:
        return self._function(*tensors.values())


def _module_specs(module: Any, job: SourceJob, samples: dict[str, Array]) -> list[Any]:
    """The inputs of a module: as its tf.function declares them, or as the samples have them."""
    traced = hasattr(module, "input_signature")
    function: Any = module if traced else type(module).__call__
    declared = getattr(function, "input_signature", None)
    plain = getattr(function, "python_function", function)
    names = [
        name
        for name, parameter in inspect.signature(plain).parameters.items()
        if parameter.default is parameter.empty and parameter.kind in (0, 1) and name != "self"
    ]
    if declared is not None:
        specs = [
            tf.TensorSpec(spec.shape, spec.dtype, name=spec.name or name)
            for spec, name in zip(declared, names, strict=False)
        ]
        tracing.refuse_specs(specs, job.batch)
        return specs
    inputs = match_inputs(samples, names, "the module")
    rows = [None] if job.batch == "rows" else []
    specs = []
    for name, array in inputs.items():
        dtype = "float32" if array.dtype.kind == "f" else array.dtype.name
        shape = [*rows, *array.shape[len(rows) :]]
        for axis in job.free_axes.get(name, {}):
            shape[axis] = None
        specs.append(tf.TensorSpec(shape, dtype, name=name))
    return specs


def _convert(
    forward: Callable[..., Any],
    specs: list[Any],
    job: SourceJob,
    samples: dict[str, Array],
    remedies: list[Remedy],
) -> Exported:
    opset = tracing.opset_of(job)
    inputs = tracing.inputs_for(specs, samples, job)

    def call(rows: dict[str, Array]) -> dict[str, Array]:
        value = forward(*(tf.constant(array) for array in rows.values()))
        names = [str(name) for name in sorted(value)] if isinstance(value, dict) else []
        flat = [np.asarray(entry) for entry in tf.nest.flatten(value)]
        return name_outputs(flat, names)

    outputs = run_model(call, inputs, job.batch, tracing.first_line)
    _refuse_text(outputs)
    proto, repaired = tracing.trace_to_onnx(
        lambda *tensors: list(tf.nest.flatten(forward(*tensors))),
        specs,
        opset,
        "the operators in its signature are TensorFlow's own",
    )
    exported = Exported(
        model=proto,
        inputs=inputs,
        outputs=outputs,
        framework=tracing.versions(),
        reference="the signature called in TensorFlow",
        remedies=[*remedies, *repaired],
    )
    return tracing.finish(exported, call)


def _refuse_text(outputs: dict[str, Array]) -> None:
    for name, array in outputs.items():
        if array.dtype.kind not in "biuf":
            raise UnsupportedModelError(
                f'output "{name}" holds text or objects; bundles carry numbers only: give class '
                "numbers and name them with --labels"
            )
