"""PyTorch: a ``torch.export`` archive (.pt2), or ``module:factory`` with a state dict.

Both run code when opened (a factory is code; ``torch.export.load`` unpickles constants and unusual
weights), so both ask for ``--trust``. A state dict itself is read as data: safetensors, or .pt with
``weights_only``. Exports under neutral names: a wanted name may clash with an inner one.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxscript
import torch
from torch.utils import _pytree as pytree

from converters.errors import ConversionError, UnsupportedModelError
from converters.recipe import is_factory
from converters.sources.base import (
    DEFAULT_OPSET,
    Exported,
    SourceJob,
    fit_dtype,
    match_inputs,
    run_in_rows,
)
from edged.tensors import BATCH, Array

Call = Callable[[dict[str, Array]], dict[str, Array]]


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Load, call and convert a PyTorch model.

    Raises:
        UnsupportedModelError: an operator, branch or output that cannot be converted.
        ConversionError: nothing that can be loaded, or samples that do not fit.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if is_factory(job.source):
        model = _build(job)
        inputs = _module_inputs(model, samples)
        call = _caller(lambda tensors: model(*tensors))
        program: Any = model
    else:
        program = _load_archive(Path(job.source))
        inputs = _archive_inputs(program, samples, job.batch)
        module = program.module()
        spec = program.call_spec.in_spec
        call = _caller(lambda tensors: _call_nested(module, tensors, spec))
    outputs = _reference(call, inputs, job.batch)
    return Exported(
        model=_to_onnx(program, inputs, job),
        inputs=inputs,
        outputs=outputs,
        framework={"torch": str(torch.__version__), "onnxscript": onnxscript.__version__},
        reference="the module's forward in eval mode",
        call=call,
    )


def _build(job: SourceJob) -> Any:
    module_name, _, factory_name = job.source.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
        model = factory()
    except Exception as exc:
        raise ConversionError(
            f"{job.source}: {type(exc).__name__}: {exc}; is the module importable from where "
            "edged-convert runs, and does the factory take no arguments?"
        ) from exc
    if not isinstance(model, torch.nn.Module):
        raise ConversionError(f"{job.source} gave a {type(model).__name__}, not a torch Module")
    if job.weights is not None:
        _load_weights(model, Path(job.weights))
    return model.eval()


def _load_weights(model: Any, path: Path) -> None:
    try:
        if path.suffix == ".safetensors":
            state = importlib.import_module("safetensors.torch").load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except Exception as exc:
        raise ConversionError(
            f'weights "{path.name}": {_first_lines(exc)}; expected the module\'s own state dict as '
            ".safetensors, or as .pt holding tensors alone"
        ) from exc


def _load_archive(path: Path) -> Any:
    try:
        return torch.export.load(path)
    except Exception as exc:
        raise ConversionError(
            f'"{path.name}" is not a torch.export archive of torch {torch.__version__}: '
            f"{_first_lines(exc)}; write it with torch.export.save"
        ) from exc


def _module_inputs(model: Any, samples: dict[str, Array]) -> dict[str, Array]:
    parameters = inspect.signature(model.forward).parameters.values()
    names = [
        p.name for p in parameters if p.default is p.empty and p.kind in (0, 1)
    ]  # positional ones without a default: what forward cannot do without
    inputs = match_inputs(samples, names, "forward")
    return {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in inputs.items()
    }


def _archive_inputs(program: Any, samples: dict[str, Array], batch: str) -> dict[str, Array]:
    names = list(program.graph_signature.user_inputs)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = match_inputs(samples, names, "the archive")
    for name in names:
        first = values[name].shape[0] if values[name].ndim else None
        if batch == "rows" and isinstance(first, int):
            raise UnsupportedModelError(
                f'input "{name}" has its batch axis frozen at {first}: export it again with '
                f'torch.export.export(model, args, dynamic_shapes={{"{name}": {{0: '
                'torch.export.Dim("batch")}}), or say --batch none'
            )
    dtypes = {name: str(values[name].dtype).removeprefix("torch.") for name in names}
    return {name: fit_dtype(array, dtypes[name], name) for name, array in inputs.items()}


def _caller(forward: Callable[[list[Any]], Any]) -> Call:
    def call(inputs: dict[str, Array]) -> dict[str, Array]:
        tensors = [torch.from_numpy(np.array(array)) for array in inputs.values()]
        with torch.no_grad():
            return _named(forward(tensors))

    return call


def _call_nested(module: Any, tensors: list[Any], spec: Any) -> Any:
    args, kwargs = pytree.tree_unflatten(tensors, spec)
    return module(*args, **kwargs)


def _named(value: Any) -> dict[str, Array]:
    """Outputs by name: a dict's keys, a named tuple's fields, or ``output``, ``output_1``, …."""
    if isinstance(value, torch.Tensor):
        named = {"output": value}
    elif isinstance(value, Mapping):
        named = {str(key): entry for key, entry in value.items()}
    elif isinstance(value, tuple | list):
        fields = getattr(value, "_fields", [f"output_{index}" for index in range(len(value))])
        named = dict(zip(fields, value, strict=True))
    else:
        named = {"output": value}
    for name, entry in named.items():
        if not isinstance(entry, torch.Tensor):
            raise UnsupportedModelError(
                f'output "{name}" is a {type(entry).__name__}, not a tensor; let forward return '
                "tensors alone, in a tuple or a flat dict"
            )
    return {name: entry.detach().numpy() for name, entry in named.items()}


def _reference(call: Call, inputs: dict[str, Array], batch: str) -> dict[str, Array]:
    """The model's own numbers; asked twice, because dropout left on changes them silently."""
    try:
        first = call({name: array[:2] for name, array in inputs.items()}) if batch == "rows" else {}
        again = call({name: array[:2] for name, array in inputs.items()}) if first else {}
        outputs = run_in_rows(call, inputs, batch)
    except ConversionError:
        raise
    except Exception as exc:
        shapes = ", ".join(f"{name} {list(array.shape[1:])}" for name, array in inputs.items())
        raise ConversionError(
            f"the model itself fails on the samples (rows of {shapes}): {_first_lines(exc)}"
        ) from exc
    for name, array in first.items():
        if not np.array_equal(array, again[name], equal_nan=array.dtype.kind == "f"):
            raise UnsupportedModelError(
                f'output "{name}" is another one each time: the model answers at random '
                "(exported in training mode?); call eval() before torch.export.export"
            )
    return outputs


def _to_onnx(program: Any, inputs: dict[str, Array], job: SourceJob) -> onnx.ModelProto:
    """Export with a free axis 0, from two rows: an example of one may be taken for a constant."""
    options: dict[str, Any] = {}
    arguments: tuple[Any, ...] = ()
    if isinstance(program, torch.nn.Module):
        rows = 2 if job.batch == "rows" else None
        arguments = tuple(torch.from_numpy(np.array(array[:rows])) for array in inputs.values())
        if job.batch == "rows":
            options["dynamic_shapes"] = tuple({0: BATCH} for _ in arguments)
    try:
        exported = torch.onnx.export(
            program,
            arguments,
            dynamo=True,
            opset_version=job.opset or DEFAULT_OPSET,
            external_data=False,
            verbose=False,
            **options,
        )
    except Exception as exc:
        raise UnsupportedModelError(_explain(exc)) from exc
    model: onnx.ModelProto = exported.model_proto
    return model


def _explain(exc: BaseException) -> str:
    """Find the operator and the line of the user's code in the chain of an exporter's error."""
    causes = list(_chain(exc))
    text = "\n".join(str(cause) for cause in causes)
    operator = re.search(r"aten(?:::|\.)[\w.]+", text)
    place = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', text)
    own = [
        entry for entry in place if "/torch/" not in entry[0] and "/site-packages/" not in entry[0]
    ]
    parts = [f"PyTorch {torch.__version__} cannot export this model: {_first_lines(causes[-1])}"]
    if operator is not None:
        parts.append(f"operator {operator[0]}")
    if own:
        file, line, function = own[-1]
        parts.append(f"in {function}, {Path(file).name}:{line}")
    if re.search(r"data.dependent|GuardOnDataDependent|dynamic control flow", text, re.IGNORECASE):
        parts.append(
            "a branch depends on the values of a tensor: use torch.where or torch.cond instead"
        )
    else:
        parts.append("replace that operation in the module, or bring an .onnx file")
    return "; ".join(parts)


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__


def _first_lines(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return f"{type(exc).__name__}: {' '.join(lines[:2])[:400]}"
