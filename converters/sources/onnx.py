"""ONNX as it comes: weights pulled inside, and a reference run of the file exactly as it is.

Opening an .onnx file runs nothing. The reference is ONNX Runtime on the untouched graph with its
optimisations off, so that cleaning and optimising are what parity proves.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import version_converter

from converters import graph
from converters.elements import refuse_many
from converters.errors import ConversionError, UnsupportedModelError
from converters.gate.operators import refuse_operators
from converters.gate.rows import declared, refuse_frozen
from converters.samples import generate
from converters.session import VERSION, Run, open_session
from converters.sources.base import (
    Exported,
    Remedy,
    SourceJob,
    fit_dtype,
    match_inputs,
    run_in_rows,
)
from converters.targets.table import find_target
from converters.walk import known_words
from edged.tensors import Array


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Read a file, run it as it is, and bring it to another opset when asked.

    Raises:
        UnsupportedModelError: it holds something that a bundle cannot carry.
        ConversionError: not an ONNX file, weights missing, or samples that do not fit.
    """
    model = _load(Path(job.source))
    graph.refuse_types(model.graph)
    model = graph.inline(model)
    refuse_operators(model, find_target(job.target))
    weights = {tensor.name for tensor in model.graph.initializer}
    wanted = {v.name: graph.dtype_of(v) for v in model.graph.input if v.name not in weights}
    are_made = bool(not samples and job.generate)
    if are_made:
        samples = generate(_signature(model, wanted), job.generate, known_words(model))
    inputs = {
        name: fit_dtype(array, wanted[name], name)
        for name, array in match_inputs(samples, list(wanted), "the model").items()
    }
    refuse_many("input", inputs.items())
    run = _open(model)
    if job.batch == "rows":
        _refuse_frozen(model, weights)
    try:
        outputs = run_in_rows(run, inputs, job.batch)
    except ConversionError as exc:
        if not are_made:
            raise
        text = "these rows were made, for there are no samples; bring rows that it takes: --samples"
        raise ConversionError(f"{exc.message}; {text}") from exc
    refuse_many("output", outputs.items())
    remedies = _forget_ranks(model, outputs)
    return Exported(
        model=_to_opset(model, job.opset),
        inputs=inputs,
        outputs=outputs,
        framework={"onnx": onnx.__version__, "onnxruntime": VERSION},
        reference="ONNX Runtime on the file as it came, optimisations off",
        remedies=remedies,
        call=run,
    )


def _open(model: onnx.ModelProto) -> Run:
    """The reference; of bfloat16 a processor computes little, and the way out is said."""
    try:
        return open_session(graph.serialize(model), optimise=False)
    except ConversionError as exc:
        values = (*model.graph.input, *model.graph.output)
        if "NOT_IMPLEMENTED" not in exc.message or "bfloat16" not in map(graph.dtype_of, values):
            raise
        raise UnsupportedModelError(
            f"{exc.message}: a processor computes little in bfloat16. Put a Cast to float32 before "
            "that operator and one back to bfloat16 behind it; inputs and outputs may stay as they "
            "are"
        ) from exc


def _forget_ranks(model: onnx.ModelProto, outputs: dict[str, Array]) -> list[Remedy]:
    """Take the shape off outputs that are declared without axes and have some (paddle2onnx)."""
    wrong = [
        value
        for value in model.graph.output
        if value.type.tensor_type.HasField("shape")
        and not value.type.tensor_type.shape.dim
        and outputs[value.name].ndim
    ]
    for value in wrong:
        value.type.tensor_type.ClearField("shape")
    what = "declared as a single number though it has axes, which are read off its runs"
    return [Remedy("no-axes", what, value.name) for value in wrong]


def _signature(
    model: onnx.ModelProto, wanted: dict[str, str]
) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """What rows are made of when the user brings none: dtype and axes by input."""
    values = {value.name: declared(value)[1:] for value in model.graph.input}
    return {
        name: (dtype, tuple(dim if isinstance(dim, int) else None for dim in values[name]))
        for name, dtype in wanted.items()
    }


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = graph.parse(path.read_bytes())
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as exc:
        raise ConversionError(
            f"weights that lie in a file beside the model could not be read: {exc}"
        ) from exc
    for tensor in model.graph.initializer:
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return model


def _refuse_frozen(model: onnx.ModelProto, weights: set[str]) -> None:
    """Say it before the runtime does: its message would not name the way out."""
    for value in model.graph.input:
        if value.name not in weights:
            refuse_frozen("input", value)


def _to_opset(model: onnx.ModelProto, opset: int | None) -> onnx.ModelProto:
    versions = [e.version for e in model.opset_import if e.domain in ("", "ai.onnx")]
    if opset is None or versions == [opset]:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as exc:
        first = str(exc).strip().split("\n", 1)[0]
        raise UnsupportedModelError(
            f"the model cannot be brought from opset {max(versions, default=1)} to {opset}: "
            f"{first}; leave --opset out to keep its own"
        ) from exc
