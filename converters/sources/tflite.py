"""TFLite files: read as data by TensorFlow's interpreter, converted by tf2onnx.

Nothing in such a file is code. The reference is the interpreter itself.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from converters.errors import ConversionError, UnsupportedModelError
from converters.sources import tracing
from converters.sources.base import Exported, SourceJob, run_model
from edged.tensors import Array


class _Tensor(NamedTuple):
    """An input or output: its name for people, its name in the file, and what it is."""

    name: str
    inner: str
    number: int
    dtype: Any
    shape: Any


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Load, call and convert a TFLite file.

    Raises:
        UnsupportedModelError: text, a fixed batch, or an operator that cannot be converted.
        ConversionError: not such a file, or samples that do not fit.
    """
    tracing.settle()
    opset = tracing.opset_of(job)
    path = Path(job.source)
    interpreter = _open(path)
    ins = _tensors(interpreter, "input")
    outs = _tensors(interpreter, "output")
    tracing.refuse_specs(ins, job.batch)
    inputs = tracing.inputs_for(ins, samples, job)
    call = _caller(interpreter, ins, outs)
    outputs = run_model(call, inputs, job.batch, tracing.first_line)
    exported = Exported(
        model=_to_onnx(path, ins, outs, opset),
        inputs=inputs,
        outputs=outputs,
        framework=tracing.versions(),
        reference="TensorFlow's TFLite interpreter",
    )
    return tracing.finish(exported, call)


def _open(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Plain kernels: the faster ones sum in another order.
            kind = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            interpreter = tf.lite.Interpreter(
                str(path), num_threads=1, experimental_op_resolver_type=kind
            )
        interpreter.allocate_tensors()
    except Exception as exc:
        first = tracing.first_line(exc)
        raise ConversionError(
            f'"{path.name}" is not a TFLite file that TensorFlow {tf.__version__} opens: {first}'
        ) from exc
    return interpreter


def _tensors(interpreter: Any, which: str) -> list[_Tensor]:
    """Inputs or outputs in the file's order, under the signature's names where it has one."""
    details = getattr(interpreter, f"get_{which}_details")()
    named: dict[int, str] = {}
    signatures = interpreter.get_signature_list()
    if len(signatures) == 1:
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        tensors = getattr(runner, f"get_{which}_details")()
        named = {detail["index"]: name for name, detail in tensors.items()}
    return [
        _Tensor(
            name=named.get(detail["index"], _plain(detail["name"])),
            inner=detail["name"],
            number=detail["index"],
            dtype=np.dtype(detail["dtype"]) if detail["dtype"] is not np.bytes_ else "string",
            shape=tf.TensorShape([None if n == -1 else n for n in detail["shape_signature"]]),
        )
        for detail in details
    ]


def _plain(name: str) -> str:
    return name.split(":", 1)[0].removeprefix("serving_default_").rsplit("/", 1)[-1]


def _caller(interpreter: Any, ins: list[_Tensor], outs: list[_Tensor]) -> tracing.Call:
    def call(rows: dict[str, Array]) -> dict[str, Array]:
        for tensor in ins:
            interpreter.resize_tensor_input(tensor.number, rows[tensor.name].shape)
        interpreter.allocate_tensors()
        for tensor in ins:
            interpreter.set_tensor(tensor.number, rows[tensor.name])
        interpreter.invoke()
        return {tensor.name: interpreter.get_tensor(tensor.number) for tensor in outs}

    return call


def _to_onnx(path: Path, ins: list[_Tensor], outs: list[_Tensor], opset: int) -> Any:
    try:
        proto, _ = tf2onnx.convert.from_tflite(str(path), opset=opset)
    except Exception as exc:
        first = tracing.first_line(exc)
        raise UnsupportedModelError(
            f"tf2onnx {tf2onnx.__version__} cannot convert this TFLite model: {first}; bring the "
            "model that it was made from, or an .onnx file"
        ) from exc
    _order(proto.graph.input, [tensor.inner for tensor in ins])
    _order(proto.graph.output, [tensor.inner for tensor in outs])
    return proto


def _order(values: Any, names: list[str]) -> None:
    """Bring inputs or outputs into the file's order."""
    found = {
        value.name: onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in values
    }
    if set(found) != set(names):
        raise UnsupportedModelError(
            f"the converted graph has {', '.join(found)}, the TFLite file {', '.join(names)}; "
            "bring an .onnx file"
        )
    del values[:]
    values.extend(found[name] for name in names)
