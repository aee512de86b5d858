"""JAX (experimental): a pure function or a flax nnx module from ``module:factory``.

jax2onnx writes opset 18 where the model's operators are in it, else 23: TensorRT before 10.13
reads no 23, ONNX Runtime 1.23 and later do.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jax
import jax2onnx
import numpy as np
import onnx

from converters.errors import ConversionError, UnsupportedModelError
from converters.gate.operators import refuse_operators
from converters.sources.axes import prove_axes
from converters.sources.base import (
    DEFAULT_OPSET,
    Exported,
    Remedy,
    SourceJob,
    match_inputs,
    name_outputs,
    run_model,
)
from converters.sources.factory import build
from converters.walk import nodes
from edged.errors import first_line
from edged.tensors import BATCH, Array

LATE_OPSET = 23
"""What jax2onnx 0.17 is made for."""
COMPLEX = {onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}
SENTINEL = "JAX2ONNX_DYNAMIC_DIM_SENTINEL"
NAMED_STATIC = Remedy(
    "dim-sentinel", "an axis that jax2onnx called dynamic, though it is not, got its length back"
)
LATER = Remedy(
    "opset-23", "the model needs operators of opset 23, which TensorRT before 10.13 does not read"
)


@dataclass(frozen=True)
class _Spec:
    """An input as jax2onnx takes it: words for free axes."""

    shape: tuple[int | str, ...]
    dtype: Any


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Build, call and convert a function.

    Raises:
        UnsupportedModelError: a primitive that cannot be converted, or is converted wrongly.
        ConversionError: nothing that can be called, or samples that do not fit.
    """
    function = build(job.source)
    if not callable(function):
        raise ConversionError(f"{job.source} gave a {type(function).__name__}, not a function")
    if job.weights is not None:
        raise ConversionError("--weights is not for JAX: let the factory read its parameters")
    if hasattr(function, "eval"):
        function.eval()  # flax nnx: dropout and batch norm as when they serve
    names = _parameters(function)
    inputs = {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in match_inputs(samples, names, "the function").items()
    }
    inputs = {name: _narrow(name, array) for name, array in inputs.items()}

    def call(rows: dict[str, Array]) -> dict[str, Array]:
        return _named(function(*(jax.numpy.asarray(array) for array in rows.values())))

    outputs = run_model(call, inputs, job.batch, _first)
    proto, remedies = _to_onnx(function, inputs, job)
    _refuse_other_ranks(proto, inputs)
    _refuse_complex(proto)
    if _settle_sentinels(proto, outputs):
        remedies.append(NAMED_STATIC)
    return Exported(
        model=proto,
        inputs=inputs,
        outputs=outputs,
        framework={"jax": jax.__version__, "jax2onnx": _version()},
        reference="the function itself, on the CPU",
        warnings=[
            "JAX sources are experimental",
            *prove_axes(proto, call, inputs),
        ],
        remedies=remedies,
        call=call,
    )


def _version() -> str:
    return version("jax2onnx")  # the package does not say it itself


def _parameters(function: Any) -> list[str]:
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind in (0, 1)
    ]


def _narrow(name: str, array: Array) -> Array:
    """JAX counts in 32 bits unless told otherwise."""
    if array.dtype.itemsize < 8:
        return array
    narrow = array.astype(f"{array.dtype.kind}4")
    if not np.array_equal(narrow, array):
        raise ConversionError(
            f'samples: input "{name}" holds whole numbers beyond 32 bits, which JAX does not keep'
        )
    return narrow


def _named(value: Any) -> dict[str, Array]:
    """Outputs by a dict's keys (sorted, as JAX flattens them), or ``output``, ``output_1``, …."""
    leaves = jax.tree_util.tree_leaves(value)
    flat_dict = isinstance(value, Mapping) and len(value) == len(leaves)
    names = [str(name) for name in sorted(value)] if flat_dict else []
    return name_outputs((np.asarray(leaf) for leaf in leaves), names)


def _to_onnx(
    function: Any, inputs: dict[str, Array], job: SourceJob
) -> tuple[onnx.ModelProto, list[Remedy]]:
    opset = job.opset or DEFAULT_OPSET
    proto = _convert(function, inputs, job, opset)
    if job.opset is not None or not _is_beyond(proto):
        return proto, []
    return _convert(function, inputs, job, LATE_OPSET), [LATER]


def _is_beyond(proto: onnx.ModelProto) -> bool:
    """Whether operators were written that the opset in the file does not have."""
    try:
        refuse_operators(proto)
        onnx.checker.check_model(proto)
    except (UnsupportedModelError, onnx.checker.ValidationError):
        return True
    return False


def _convert(
    function: Any, inputs: dict[str, Array], job: SourceJob, opset: int
) -> onnx.ModelProto:
    specs = []
    for name, array in inputs.items():
        shape: list[int | str] = list(array.shape)
        if job.batch == "rows":
            shape[0] = BATCH
        for axis, word in job.free_axes.get(name, {}).items():
            shape[axis] = word
        specs.append(_Spec(tuple(shape), array.dtype))
    try:
        proto: onnx.ModelProto = jax2onnx.to_onnx(function, inputs=specs, opset=opset)
    except Exception as exc:
        raise UnsupportedModelError(
            f"jax2onnx {_version()} (JAX {jax.__version__}) cannot convert this function: "
            f"{_first(exc)}; write it with other operations, or bring an .onnx file"
        ) from exc
    return proto


def _refuse_other_ranks(proto: onnx.ModelProto, inputs: dict[str, Array]) -> None:
    """NOTE: jax2onnx 0.17 writes real FFTs with one input axis more than there is."""
    values = list(proto.graph.input)
    if len(values) != len(inputs):
        raise UnsupportedModelError(
            f"the converted graph has {len(values)} inputs, the function {len(inputs)}; is each of "
            "them used?"
        )
    for value, (name, array) in zip(values, inputs.items(), strict=True):
        rank = len(value.type.tensor_type.shape.dim)
        if rank != array.ndim:
            raise UnsupportedModelError(
                f'jax2onnx {_version()} gives input "{name}" {rank} axes where it has {array.ndim} '
                "(known for rfft): do that step before the model"
            )


def _refuse_complex(proto: onnx.ModelProto) -> None:
    """NOTE: jax2onnx 0.17 casts to complex numbers before a DFT, which takes none."""
    for node in nodes(proto.graph):
        if node.op_type == "Cast" and any(entry.i in COMPLEX for entry in node.attribute):
            raise UnsupportedModelError(
                f"jax2onnx {_version()} writes complex numbers, which ONNX Runtime does not "
                "compute with (known for fft): do that step before the model"
            )


def _settle_sentinels(proto: onnx.ModelProto, outputs: dict[str, Array]) -> bool:
    found = False
    for value, array in zip(proto.graph.output, outputs.values(), strict=True):
        dims = value.type.tensor_type.shape.dim
        for axis, (dim, size) in enumerate(zip(dims, array.shape, strict=False)):
            if axis and re.search(SENTINEL, dim.dim_param):
                found = True
                dim.dim_value = size
    return found


def _first(exc: Exception) -> str:
    first = first_line(exc)
    return f"{type(exc).__name__}: {first}"
