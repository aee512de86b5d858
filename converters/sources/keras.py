"""Keras models in the .keras format, on the TensorFlow backend, by way of tf2onnx.

Keras' safe mode stays on: a file that asks for code (Lambda layers) is refused, not trusted. The
model is traced by us, because the stock exporters write broken files without saying so (gelu,
augmentation layers, Normalization).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from converters.errors import ConversionError, UnsupportedModelError
from converters.sources.base import (
    DEFAULT_OPSET,
    Exported,
    SourceJob,
    fit_dtype,
    match_inputs,
    name_outputs,
    run_in_rows,
)
from edged.tensors import Array

MAX_OPSET = 18
"""tf2onnx 1.17 knows no later one."""


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Load, call and convert a Keras model.

    Raises:
        UnsupportedModelError: a layer that needs code, or one that cannot be converted.
        ConversionError: not a Keras file, or samples that do not fit.
    """
    opset = job.opset or DEFAULT_OPSET
    if opset > MAX_OPSET:
        raise ConversionError(f"tf2onnx writes opset {MAX_OPSET} at most; ask for --opset 18")
    model = _open(Path(job.source))
    specs = _input_specs(model, job.batch)
    inputs = {
        spec.name: fit_dtype(array, spec.dtype.name, spec.name)
        for spec, array in zip(
            specs,
            match_inputs(samples, [spec.name for spec in specs], "the model").values(),
            strict=True,
        )
    }
    names = _output_names(model)
    structure = _structure(model, "input")

    def forward(*tensors: Any) -> list[Any]:
        packed = tf.nest.pack_sequence_as(structure, list(tensors))
        return list(tf.nest.flatten(model(packed, training=False)))

    def call(rows: dict[str, Array]) -> dict[str, Array]:
        values = forward(*(tf.constant(array) for array in rows.values()))
        return name_outputs((np.asarray(value) for value in values), names)

    return Exported(
        model=_to_onnx(model, forward, specs, opset),
        inputs=inputs,
        outputs=run_in_rows(call, inputs, job.batch),
        framework={
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "tf2onnx": tf2onnx.__version__,
        },
        reference="the model called with training=False",
        call=call,
    )


def _open(path: Path) -> Any:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as exc:
        text = str(exc).strip()
        if "unsafe" in text or "Lambda" in text or "safe_mode" in text:
            raise UnsupportedModelError(
                "the model holds code (a Lambda layer), which is not run: replace it by a "
                "built-in layer, or by a registered layer without code in the file"
            ) from exc
        raise ConversionError(
            f"not a .keras file that Keras {keras.__version__} opens: {text.splitlines()[0][:300]}"
        ) from exc


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


def _input_specs(model: Any, batch: str) -> list[Any]:
    """The inputs as the trace sees them: their own names, axis 0 free."""
    specs = []
    for tensor in tf.nest.flatten(_structure(model, "input")):
        name = tensor.name.split(":", 1)[0]
        if tensor.dtype == "string":
            raise UnsupportedModelError(
                f'input "{name}" holds text; bundles carry numbers only: encode text before the '
                "model"
            )
        if batch == "rows" and tensor.shape[0] is not None:
            raise UnsupportedModelError(
                f'input "{name}" has its batch axis frozen at {tensor.shape[0]}: build the model '
                "without a batch_size, or say --batch none"
            )
        specs.append(tf.TensorSpec(tensor.shape, tensor.dtype, name=name))
    return specs


def _to_onnx(
    model: Any, forward: Callable[..., list[Any]], specs: list[Any], opset: int
) -> onnx.ModelProto:
    function = tf.function(forward, autograph=False)
    try:
        proto, _ = tf2onnx.convert.from_function(
            function,
            input_signature=specs,
            opset=opset,
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
    except Exception as exc:
        first = str(exc).strip().split("\n", 1)[0][:300]
        layers = ", ".join(sorted({type(layer).__name__ for layer in model.layers}))
        raise UnsupportedModelError(
            f"tf2onnx {tf2onnx.__version__} cannot convert this model: {first}; its layers are "
            f"{layers}: replace the one it names, or bring an .onnx file"
        ) from exc
    return _fix_captured(proto, function.get_concrete_function(*specs), len(specs))


def _fix_captured(proto: onnx.ModelProto, traced: Any, inputs: int) -> onnx.ModelProto:
    """Make weights of the values that the trace captured (Normalization's mean and variance).

    NOTE: tf2onnx leaves them behind as inputs that every client would have to send.
    """
    values = traced.captured_inputs
    tensors = traced.inputs[len(traced.inputs) - len(values) :]
    captured = {
        tensor.name: value
        for tensor, value in zip(tensors, values, strict=True)
        if tensor.dtype != tf.resource
    }
    own = [value for value in proto.graph.input if value.name not in captured]
    for value in proto.graph.input:
        if value.name in captured:
            array = np.asarray(captured[value.name])
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    if len(own) != inputs:
        names = ", ".join(value.name for value in proto.graph.input)
        raise UnsupportedModelError(
            f"the converted graph takes {names}, the model takes {inputs} inputs; bring an .onnx "
            "file"
        )
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in own]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    return proto


def _erfc(context: Any, node: Any, name: str, _arguments: Any) -> None:
    """TensorFlow writes gelu with Erfc, which ONNX does not have; 1 - Erf is the same."""
    shapes, dtypes = node.output_shapes, node.output_dtypes
    outputs, inputs = list(node.output), list(node.input)
    context.remove_node(node.name)
    dtype = tf2onnx.utils.map_onnx_to_numpy_type(dtypes[0])
    one = context.make_const(f"{name}/one", np.array(1.0, dtype))
    erf = context.make_node("Erf", inputs, name=f"{name}/erf", shapes=shapes, dtypes=dtypes)
    context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        outputs=outputs,
        name=name,
        shapes=shapes,
        dtypes=dtypes,
    )
