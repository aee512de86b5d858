"""PyTorch: a ``torch.export`` archive (.pt2), a pickled module, or ``module:factory``.

All run code when opened (a factory and a pickle are code; ``torch.export.load`` unpickles
constants and unusual weights), so all ask for ``--trust``. A state dict itself is read as data:
safetensors, or .pt with ``weights_only``. Exports under neutral names: a wanted name may clash
with an inner one.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxscript
import torch
from torch.utils import _pytree as pytree

from converters.errors import ConversionError, UnsupportedModelError
from converters.recipe import is_factory
from converters.samples import generate
from converters.sources.axes import name_axes, prove_axes
from converters.sources.base import (
    DEFAULT_OPSET,
    Exported,
    Remedy,
    SourceJob,
    fit_dtype,
    match_inputs,
    run_model,
)
from converters.sources.factory import build
from converters.sources.torch_reasons import explain, first_lines
from edged.tensors import BATCH, Array

Call = Callable[[dict[str, Array]], dict[str, Array]]
IN_EVAL = Remedy(
    "training-mode",
    "the module was in training mode, where dropout answers at random; eval() was called",
)
COUNTED_AXES = Remedy(
    "counted-axes", "axes that the exporter had counted were named after the inputs they belong to"
)
DICT_INPUT = Remedy(
    "trailing-dict", "forward takes a dict, which the exporter would take for keyword arguments"
)
_NO_KEYWORDS: tuple[dict[str, Any], ...] = ({},)
"""NOTE: the exporter takes a dict in the last place for keyword arguments, unless one follows."""


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Load, call and convert a PyTorch model.

    Raises:
        UnsupportedModelError: an operator, branch or output that cannot be converted.
        ConversionError: nothing that can be loaded, or samples that do not fit.
    """
    settle()
    path = Path(job.source)
    if is_factory(job.source):
        model = build(job.source)
        refuse_other_than_modules(model, job.source)
        if job.weights is not None:
            _load_weights(model, Path(job.weights))
        return export_module(model, job, samples)
    if path.suffix.lower() == ".pt2" or _is_archive(path):
        return _export_archive(_load_archive(path), job, samples)
    return export_module(_load_pickled(path), job, samples)


def settle() -> None:
    """One thread and one seed: the same numbers each time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


def refuse_other_than_modules(model: Any, source: str) -> None:
    """Take a plain ``torch.nn.Module`` only.

    Raises:
        ConversionError: says what it is instead.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedModelError(
            f"{source} gave a TorchScript module, which the exporter takes from a file only: save "
            "it with its save() as .pt and give that file, or return the module before scripting"
        )
    if not isinstance(model, torch.nn.Module):
        raise ConversionError(
            f"{source} gave a {type(model).__name__}, not a torch Module; where it is another "
            "framework's, say --kind"
        )


def export_module(
    model: Any, job: SourceJob, samples: dict[str, Array], packages: Mapping[str, str] | None = None
) -> Exported:
    """Convert a module that is at hand.

    Args:
        model: a ``torch.nn.Module``; brought to eval mode.
        job: for opset, batch and free axes.
        samples: not yet matched with the inputs.
        packages: versions of what took part beside PyTorch.

    Raises:
        UnsupportedModelError: an operator, branch or output that cannot be converted.
        ConversionError: samples that do not fit.
    """
    remedies = [IN_EVAL] if model.training else []
    model.eval()
    names, is_nested = _parameters(model, samples)
    if is_nested:
        remedies.append(DICT_INPUT)
    inputs = {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in match_inputs(samples, names, "forward").items()
    }

    def pack(tensors: list[Any]) -> tuple[Any, ...]:
        return (dict(zip(names, tensors, strict=True)),) if is_nested else tuple(tensors)

    call = caller(lambda tensors: model(*pack(tensors)))
    outputs = reference(call, inputs, job.batch)
    axes: Any = [_free(job, name) for name in names]
    shapes = (dict(zip(names, axes, strict=True)),) if is_nested else tuple(axes)
    rows = 2 if job.batch == "rows" else None
    # From two rows: an example of one may be taken for a constant.
    example = pack([torch.from_numpy(np.array(array[:rows])) for array in inputs.values()])
    options = {"dynamic_shapes": shapes} if any(axes) else {}
    proto = _to_onnx(model, (*example, *_NO_KEYWORDS) if is_nested else example, job, options)
    exported = Exported(
        model=proto,
        inputs=inputs,
        outputs=outputs,
        framework={**_versions(), **(packages or {})},
        reference="the module's forward in eval mode",
        remedies=remedies,
        call=call,
    )
    return finish(exported, call)


def _versions() -> dict[str, str]:
    return {"torch": str(torch.__version__), "onnxscript": onnxscript.__version__}


def _free(job: SourceJob, name: str) -> dict[int, str]:
    """The axes of an input that the exporter leaves free, with their names."""
    rows = {0: BATCH} if job.batch == "rows" else {}
    return {**rows, **job.free_axes.get(name, {})}


def finish(exported: Exported, call: Call) -> Exported:
    """Name and prove the free axes of an exported model, and say what was done.

    Raises:
        UnsupportedModelError: an axis is free in name only.
    """
    if name_axes(exported.model, exported.inputs):
        exported.remedies.append(COUNTED_AXES)
    exported.warnings += prove_axes(exported.model, call, exported.inputs)
    return exported


def _export_archive(program: Any, job: SourceJob, samples: dict[str, Array]) -> Exported:
    inputs = _archive_inputs(program, samples, job)
    module = program.module()
    spec = program.call_spec.in_spec

    def nested(tensors: list[Any]) -> Any:
        args, kwargs = pytree.tree_unflatten(tensors, spec)
        return module(*args, **kwargs)

    call = caller(nested)
    outputs = reference(call, inputs, job.batch)
    proto = _to_onnx(program, (), job, {})
    exported = Exported(
        model=proto,
        inputs=inputs,
        outputs=outputs,
        framework=_versions(),
        reference="the archive's own module",
        call=call,
    )
    return finish(exported, call)


def _load_weights(model: Any, path: Path) -> None:
    try:
        if path.suffix == ".safetensors":
            state = importlib.import_module("safetensors.torch").load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except Exception as exc:
        raise ConversionError(
            f'weights "{path.name}": {first_lines(exc)}; expected the module\'s own state dict as '
            ".safetensors, or as .pt holding tensors alone"
        ) from exc


def _is_archive(path: Path) -> bool:
    try:
        return bool(torch._C.PyTorchFileReader(str(path)).has_record("archive_format"))  # noqa: SLF001
    except (RuntimeError, AttributeError):
        return False


def _load_archive(path: Path) -> Any:
    try:
        return torch.export.load(path)
    except Exception as exc:
        raise ConversionError(
            f'"{path.name}" is not a torch.export archive of torch {torch.__version__}: '
            f"{first_lines(exc)}; write it with torch.export.save"
        ) from exc


def _load_pickled(path: Path) -> Any:
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as exc:
        raise ConversionError(
            f'"{path.name}" is not a module saved with torch.save that torch {torch.__version__} '
            f"opens: {first_lines(exc)}; its classes must be importable from where edged-convert "
            "runs"
        ) from exc
    refuse_other_than_modules(model, f'"{path.name}"')
    return model


def _parameters(model: Any, samples: Mapping[str, Array]) -> tuple[list[str], bool]:
    """Names of forward's inputs, and whether they come as one dict."""
    names = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.default is p.empty and p.kind in (0, 1)
    ]  # positional ones without a default: what forward cannot do without
    if len(names) == 1 and len(samples) > 1 and names[0] not in samples:
        return list(samples), True
    return names, False


def _archive_inputs(program: Any, samples: dict[str, Array], job: SourceJob) -> dict[str, Array]:
    names = list(program.graph_signature.user_inputs)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    dtypes = {name: str(values[name].dtype).removeprefix("torch.") for name in names}
    if job.batch == "rows":
        _refuse_frozen(names, values)
    if not samples and job.generate:
        shapes = {name: values[name].shape[1:] for name in names}
        samples = generate(
            {
                name: (dtypes[name], tuple(n if isinstance(n, int) else None for n in shape))
                for name, shape in shapes.items()
            },
            job.generate,
        )
    inputs = match_inputs(samples, names, "the archive")
    return {name: fit_dtype(array, dtypes[name], name) for name, array in inputs.items()}


def _refuse_frozen(names: list[str], values: Mapping[str, Any]) -> None:
    for name in names:
        first = values[name].shape[0] if values[name].ndim else None
        if isinstance(first, int):
            raise UnsupportedModelError(
                f'input "{name}" has its batch axis frozen at {first}: export it again with '
                f'torch.export.export(model, args, dynamic_shapes={{"{name}": {{0: '
                'torch.export.Dim("batch")}}), or say --batch none'
            )


def caller(forward: Callable[[list[Any]], Any]) -> Call:
    """Make arrays in and out of a call with tensors."""

    def call(inputs: dict[str, Array]) -> dict[str, Array]:
        tensors = [torch.from_numpy(np.array(array)) for array in inputs.values()]
        with torch.no_grad():
            return _named(forward(tensors))

    return call


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


def reference(call: Call, inputs: dict[str, Array], batch: str) -> dict[str, Array]:
    """The model's own numbers; asked twice, because dropout left on changes them silently.

    Raises:
        UnsupportedModelError: it answers at random, or an output has no row axis.
        ConversionError: it fails on the samples.
    """
    outputs = run_model(call, inputs, batch, first_lines)
    few = {name: array[:2] if batch == "rows" else array for name, array in inputs.items()}
    first, again = call(few), call(few)
    _refuse_random(first, again)
    return outputs


def _refuse_random(first: Mapping[str, Array], again: Mapping[str, Array]) -> None:
    for name, array in first.items():
        if not np.array_equal(array, again[name], equal_nan=array.dtype.kind == "f"):
            raise UnsupportedModelError(
                f'output "{name}" is another one each time: the model answers at random '
                "(exported in training mode?); call eval() before torch.export.export"
            )


def _to_onnx(
    program: Any, arguments: tuple[Any, ...], job: SourceJob, options: dict[str, Any]
) -> onnx.ModelProto:
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
        raise UnsupportedModelError(explain(exc, program, arguments)) from exc
    model: onnx.ModelProto = exported.model_proto
    return model
