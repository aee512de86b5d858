"""Keras models (.keras, .h5, or built by ``module:factory``), on the TensorFlow backend.

Keras' safe mode stays on: a file that asks for code (Lambda layers) is refused, not trusted. The
model is traced by us, because the stock exporters write broken files without saying so (gelu,
augmentation layers, Normalization).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from converters.errors import ConversionError, UnsupportedModelError
from converters.recipe import is_factory
from converters.sources import tracing
from converters.sources.base import (
    Exported,
    Remedy,
    SourceJob,
    name_outputs,
    run_model,
)
from converters.sources.factory import build
from edged.tensors import Array

CODE = (
    "the model holds code ({layer}), which is not run: replace it by a built-in layer, or by a "
    "registered layer without code in the file"
)


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Load, call and convert a Keras model.

    Raises:
        UnsupportedModelError: a layer that needs code, or one that cannot be converted.
        ConversionError: not a Keras file, or samples that do not fit.
    """
    tracing.settle()
    if not is_factory(job.source):
        return export_model(_open(Path(job.source)), job, samples)
    model = build(job.source)
    if not isinstance(model, keras.Model):
        raise ConversionError(f"{job.source} gave a {type(model).__name__}, not a keras Model")
    load_weights(model, job)
    return export_model(model, job, samples)


def load_weights(model: Any, job: SourceJob) -> None:
    """Read ``.weights.h5`` into a model that a factory built.

    Raises:
        ConversionError: they do not fit.
    """
    if job.weights is None:
        return
    try:
        model.load_weights(job.weights)
    except Exception as exc:
        raise ConversionError(
            f'weights "{Path(job.weights).name}": {tracing.first_line(exc)}; expected what '
            "save_weights wrote, ending in .weights.h5"
        ) from exc


def export_model(model: Any, job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Convert a model that is at hand.

    Raises:
        UnsupportedModelError: a layer that cannot be converted.
        ConversionError: samples that do not fit.
    """
    opset = tracing.opset_of(job)
    specs = _input_specs(model)
    tracing.refuse_specs(specs, job.batch)
    inputs = tracing.inputs_for(specs, samples, job)
    names = _output_names(model)
    structure = _structure(model, "input")

    def forward(*tensors: Any) -> list[Any]:
        packed = tf.nest.pack_sequence_as(structure, list(tensors))
        return list(tf.nest.flatten(model(packed, training=TRAINING)))

    def call(rows: dict[str, Array]) -> dict[str, Array]:
        values = forward(*(tf.constant(array) for array in rows.values()))
        return name_outputs((np.asarray(value) for value in values), names)

    kinds = sorted({type(layer).__name__ for layer in _layers(model)})
    outputs = run_model(call, inputs, job.batch, tracing.first_line)
    proto, remedies = tracing.trace_to_onnx(
        forward, specs, opset, f"its layers are {', '.join(kinds)}"
    )
    exported = Exported(
        model=proto,
        inputs=inputs,
        outputs=outputs,
        framework={"keras": keras.__version__, **tracing.versions()},
        reference="the model called with training=False",
        remedies=[*_left_out(kinds), *remedies],
    )
    return tracing.finish(exported, call)


TRAINING = False
"""On only to see that the gate catches what it changes."""


def _left_out(kinds: list[str]) -> list[Remedy]:
    """Layers that only act while training."""
    random = [kind for kind in kinds if kind.startswith("Random")]
    if not random:
        return []
    what = "layers that vary pictures while training are left out of the converted model"
    return [Remedy("augmentation-layers", what, ", ".join(random))]


def _open(path: Path) -> Any:
    if path.suffix.lower() != ".keras":
        _refuse_code(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as exc:
        text = str(exc).strip()
        if "Lambda" in text or "lambda" in text:
            raise UnsupportedModelError(CODE.format(layer="a Lambda layer")) from exc
        if "unsafe" in text or "safe_mode" in text:
            raise UnsupportedModelError(
                f'"{path.name}" asks for what Keras\' safe mode does not allow, which stays on: '
                f"{tracing.first_line(exc)}"
            ) from exc
        raise ConversionError(
            f'"{path.name}" is not a model that Keras {keras.__version__} opens: '
            f"{tracing.first_line(exc)}"
        ) from exc


def _refuse_code(path: Path) -> None:
    """Look for code in an HDF5 model before Keras does: its older versions ran it."""
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
        config = None if text is None else json.loads(text)
    except (OSError, ValueError, TypeError, RecursionError) as exc:
        raise ConversionError(
            f'"{path.name}" is not an HDF5 model: {tracing.first_line(exc)}'
        ) from exc
    if config is None:
        raise ConversionError(
            f'"{path.name}" holds weights alone: give module:factory and --weights {path.name}'
        )
    for part in _parts(config):
        layer = part.get("class_name")
        if layer in CODE_LAYERS:
            raise UnsupportedModelError(CODE.format(layer=f"a {layer} layer"))


CODE_LAYERS = ("Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Layers whose configuration is a program or a pickle."""


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a configuration, however deep."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _layers(model: Any) -> Iterator[Any]:
    """All layers, those of models within too."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _structure(model: Any, which: str) -> Any:
    """The nesting of a model's inputs or outputs; a Sequential has one of each and no nesting."""
    value = getattr(model, which, None)
    flat = getattr(model, f"{which}s", None)
    if value is None and flat:
        value = flat[0] if len(flat) == 1 else flat
    if value is None:
        raise UnsupportedModelError(
            f"the model does not say its {which}s: build it with the functional API, or as "
            "Sequential with an Input"
        )
    return value


def _output_names(model: Any) -> list[str]:
    """Keys of a dict in flattening order, Keras' own names, or the last layer's."""
    output = _structure(model, "output")
    if isinstance(output, dict):
        return sorted(str(name) for name in output)
    names = getattr(model, "output_names", None) or [model.layers[-1].name]
    return [str(name) for name in names]


def _input_specs(model: Any) -> list[Any]:
    """The inputs with their own names, in flattening order."""
    return [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name.split(":", 1)[0])
        for tensor in tf.nest.flatten(_structure(model, "input"))
    ]
