"""From a TensorFlow function to ONNX by tf2onnx, with what tf2onnx gets wrong put right.

NOTE: tf2onnx does not raise for an operator that it lacks: it logs, and writes a file that nothing
loads. What it left behind is found by the gate; what is known here is repaired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from converters.errors import ConversionError, UnsupportedModelError
from converters.samples import generate
from converters.sources.axes import name_axes, prove_axes
from converters.sources.base import (
    DEFAULT_OPSET,
    Exported,
    Remedy,
    SourceJob,
    fit_dtype,
    match_inputs,
)
from converters.sources.canonical import settle_form
from converters.walk import nodes
from edged.tensors import Array

MAX_OPSET = 18
"""tf2onnx 1.17 knows no later one."""
Call = Callable[[dict[str, Array]], dict[str, Array]]

ERFC = Remedy("erfc", "TensorFlow writes gelu with Erfc, which ONNX does not have; 1 - Erf is used")
CAPTURED = Remedy(
    "captured-inputs",
    "values that the trace captured (Normalization's mean and variance) became weights; tf2onnx "
    "leaves them as inputs that every client would have to send",
)
COUNTED_AXES = Remedy(
    "counted-axes", "axes that tf2onnx had counted were named after the inputs they belong to"
)


def settle() -> None:
    """One thread: the same numbers each time."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # it runs already, so it was settled before
        return


def opset_of(job: SourceJob) -> int:
    """The operator set to write.

    Raises:
        ConversionError: a later one than tf2onnx knows is asked for.
    """
    opset = job.opset or DEFAULT_OPSET
    if opset > MAX_OPSET:
        raise ConversionError(f"tf2onnx writes opset {MAX_OPSET} at most; ask for --opset 18")
    return opset


def versions() -> dict[str, str]:
    """Of what takes part in each conversion here."""
    return {"tensorflow": tf.__version__, "tf2onnx": tf2onnx.__version__}


def refuse_specs(specs: Sequence[Any], batch: str) -> None:
    """Refuse inputs of text and inputs whose axis 0 is fixed.

    Args:
        specs: anything with ``name``, ``dtype`` and ``shape``.
        batch: as in the job.

    Raises:
        UnsupportedModelError: names the input.
    """
    for spec in specs:
        if str(getattr(spec.dtype, "name", spec.dtype)) == "string":
            raise UnsupportedModelError(
                f'input "{spec.name}" holds text; bundles carry numbers only: encode text before '
                "the model"
            )
        if batch == "rows" and spec.shape.rank == 0:
            raise UnsupportedModelError(
                f'input "{spec.name}" has no axes, so no row axis; say --batch none if one call '
                "cannot be split into rows"
            )
        if batch == "rows" and spec.shape.rank and spec.shape[0] is not None:
            raise UnsupportedModelError(
                f'input "{spec.name}" has its batch axis frozen at {spec.shape[0]}: build the '
                "model without a batch_size, or say --batch none"
            )


def inputs_for(specs: Sequence[Any], samples: dict[str, Array], job: SourceJob) -> dict[str, Array]:
    """The samples as the model takes them, or made ones where there are none.

    Args:
        specs: anything with ``name``, ``dtype`` and ``shape``, in the model's order.
        samples: as the user brings them.
        job: says whether to make some.

    Raises:
        ConversionError: names or numbers do not fit.
    """
    if not samples and job.generate:
        signature = {spec.name: (spec.dtype.name, tuple(spec.shape[1:])) for spec in specs}
        samples = generate(signature, job.generate)
    matched = match_inputs(samples, [spec.name for spec in specs], "the model")
    return {s.name: fit_dtype(matched[s.name], s.dtype.name, s.name) for s in specs}


def trace_to_onnx(
    forward: Callable[..., list[Any]], specs: list[Any], opset: int, layers: str
) -> tuple[onnx.ModelProto, list[Remedy]]:
    """Trace a function of tensors and convert it.

    Args:
        forward: from tensors to a list of tensors.
        specs: what it is traced with, in the order of its arguments.
        opset: the operator set to write.
        layers: what the model is made of, for the refusal.

    Returns:
        The model, its inputs and outputs in the order of the function's; and what was repaired.

    Raises:
        UnsupportedModelError: tf2onnx gave up, in its words.
    """
    remedies: list[Remedy] = []

    def erfc(context: Any, node: Any, name: str, _arguments: Any) -> None:
        if ERFC not in remedies:
            remedies.append(ERFC)
        _replace_erfc(context, node, name)

    function = tf.function(forward, autograph=False)
    # Neutral names: tf2onnx may otherwise reorder or clash.
    neutral = [tf.TensorSpec(s.shape, s.dtype, name=f"edged_in{i}") for i, s in enumerate(specs)]
    try:
        proto, _ = tf2onnx.convert.from_function(
            function,
            input_signature=neutral,
            opset=opset,
            custom_op_handlers={"Erfc": (erfc, [])} if HANDLE_ERFC else None,
        )
    except Exception as exc:
        first = first_line(exc)
        raise UnsupportedModelError(
            f"tf2onnx {tf2onnx.__version__} cannot convert this model: {first}; {layers}: replace "
            "the one it names, or bring an .onnx file"
        ) from exc
    if _fix_captured(proto, function.get_concrete_function(*neutral), len(specs)):
        remedies.append(CAPTURED)
    return proto, remedies


HANDLE_ERFC = True
"""Off only to see that the gate catches what the handler repairs."""


def _fix_captured(proto: onnx.ModelProto, traced: Any, inputs: int) -> bool:
    """Make weights of the values that the trace captured; says whether there were any."""
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
    _refuse_tables(proto)
    if len(own) != inputs:
        names = ", ".join(value.name for value in proto.graph.input)
        raise UnsupportedModelError(
            f"the converted graph takes {names}, the model takes {inputs} inputs; is each of them "
            "used? If so, bring an .onnx file"
        )
    found = len(own) < len(proto.graph.input)
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in own]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    return found


def _refuse_tables(proto: onnx.ModelProto) -> None:
    """A table is no tensor: its content would be missing, or numbered otherwise."""
    for node in nodes(proto.graph):
        if not node.op_type.startswith("LookupTable"):
            continue
        path = [part for part in node.name.split("/")[:-1] if part not in _NO_LAYERS]
        who = f'"{path[-1]}"' if path else "the model"
        raise UnsupportedModelError(
            f"{who} looks up in a table (StringLookup, IntegerLookup, tf.lookup), which tf2onnx "
            "leaves outside the graph: look up before the model"
        )


_NO_LAYERS = {"StatefulPartitionedCall", "PartitionedCall", "None_Lookup"}
"""What TensorFlow puts into a node's path that no user has written."""


def _replace_erfc(context: Any, node: Any, name: str) -> None:
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


_SAYS_NOTHING = ("Exception encountered when calling", "A total of ")
"""How the lines begin in which Keras wraps the one that tells."""


def first_line(exc: Exception) -> str:
    """What an error says first; Keras wraps others' errors in a line that says nothing."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(exc))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(_SAYS_NOTHING)]
    return (told or lines or [type(exc).__name__])[0][:300]


def finish(exported: Exported, call: Call) -> Exported:
    """Name and prove the free axes, and let the gate ask for more rows.

    Raises:
        UnsupportedModelError: an axis is free in name only.
    """
    exported.call = call
    settle_form(exported.model)
    if name_axes(exported.model, exported.inputs):
        exported.remedies.append(COUNTED_AXES)
    if not foreign(exported.model):
        exported.warnings += prove_axes(exported.model, call, exported.inputs)
    return exported


def foreign(proto: onnx.ModelProto) -> list[str]:
    """Operators that tf2onnx left as TensorFlow's own; the gate refuses them by name."""
    return sorted({n.op_type for n in proto.graph.node if not onnx.defs.has(n.op_type, n.domain)})
