"""An ONNX file as Triton's clients see it: names, types and shapes checked, ``reshape`` built in.

``dims`` is what a client sends, without the batch axis; ``reshape.shape`` is what the model takes.
The two become Reshape nodes at the rim of the graph, so that the bundle has the client's view.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converters.errors import ConversionError, UnsupportedModelError
from converters.graph import dtype_of as onnx_dtype
from converters.registries.files import file_inside
from converters.registries.triton_model import TritonModel, dtype_of
from edged.errors import first_line
from edged.tensors import BATCH

Dims = list[int | None]


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, weights beside it included.

    Raises:
        ConversionError: not an ONNX file.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    file_inside(path.parent, entry.value, "weights beside the model")
        onnx.load_external_data_for_model(model, str(path.parent))
    except ConversionError:
        raise
    except Exception as exc:
        # protobuf, onnx and the file system raise each their own.
        first = first_line(exc, 200)
        raise ConversionError(
            f'"{path.parent.name}/{path.name}" is not an ONNX file that can be read: {first}'
        ) from exc
    return model


def could_batch(model: onnx.ModelProto) -> bool:
    """Whether every input and output has a free first axis."""
    shapes = [_dims(value) for value in (*_inputs(model), *model.graph.output)]
    return all(shape and shape[0] is None for shape in shapes)


def fit(model: TritonModel, graph: onnx.ModelProto, rows: int) -> None:
    """Give the graph the client's view, in place.

    Args:
        model: whose configuration says it.
        graph: the file's content.
        rows: max_batch_size; 0 when shapes are exactly as written.

    Raises:
        UnsupportedModelError: the configuration contradicts the file; names the tensor and both.
    """
    for kind, entries, values in (
        ("input", model.config.input, _inputs(graph)),
        ("output", model.config.output, list(graph.graph.output)),
    ):
        there = {value.name: value for value in values}
        said = [entry.name for entry in entries]
        unknown = [name for name in said if name not in there]
        if unknown:
            raise UnsupportedModelError(
                f'{kind} "{unknown[0]}" is not in the model file, which has {", ".join(there)}'
            )
        missing = [name for name in there if entries and name not in said]
        if missing and kind == "input":
            raise UnsupportedModelError(
                f'input "{missing[0]}" of the model file is not in the configuration'
            )
        if missing:
            model.differences.append(
                f"output: {', '.join(missing)} are not in the configuration; the bundle has them"
            )
        for entry in entries:
            _fit_tensor(kind, entry, there[entry.name], graph, rows)
    if model.config.output:
        _order_outputs(graph, [entry.name for entry in model.config.output])


def _fit_tensor(kind: str, entry: Any, value: Any, graph: onnx.ModelProto, rows: int) -> None:
    dtype = dtype_of(entry)
    if dtype and dtype != onnx_dtype(value):
        raise UnsupportedModelError(
            f'{kind} "{entry.name}": data_type is {dtype}, the model file has {onnx_dtype(value)}'
        )
    batch: list[Any] = [BATCH] if rows else []
    seen = [None if size < 0 else int(size) for size in entry.dims]
    inner = seen
    if entry.HasField("reshape"):
        inner = [None if size < 0 else int(size) for size in entry.reshape.shape]
        _check_reshape(kind, entry.name, seen, inner)
    elif not entry.dims:
        raise UnsupportedModelError(f'{kind} "{entry.name}": dims is empty and there is no reshape')
    _check_dims(kind, entry.name, [*([None] if rows else []), *inner], _dims(value))
    if inner != seen:
        view = [*batch, *(f"{entry.name}_{i}" if s is None else s for i, s in enumerate(seen))]
        target = [*([0] if rows else []), *_sizes(inner if kind == "input" else seen)]
        _reshape(kind, entry.name, graph, view, target)


def _check_reshape(kind: str, name: str, seen: Dims, inner: Dims) -> None:
    free = [shape.count(None) for shape in (seen, inner)]
    sizes = [int(np.prod([size for size in shape if size is not None])) for shape in (seen, inner)]
    if max(free) > 1 or free[0] != free[1] or sizes[0] != sizes[1]:
        raise UnsupportedModelError(
            f'{kind} "{name}": dims {_sizes(seen)} cannot be reshaped to {_sizes(inner)}'
        )


def _check_dims(kind: str, name: str, said: Dims, real: Dims | None) -> None:
    """The file must take what the configuration says; a free axis of the file takes any size."""
    if real is None:
        return
    fits = len(said) == len(real) and all(
        want == have or have is None for want, have in zip(said, real, strict=True)
    )
    if not fits:
        shown = [-1 if size is None else size for size in real]
        raise UnsupportedModelError(
            f'{kind} "{name}": the configuration means {_sizes(said)} (with the batch axis where '
            f"max_batch_size is not 0), the model file has {shown}"
        )


def _reshape(
    kind: str, name: str, graph: onnx.ModelProto, view: list[Any], target: list[int]
) -> None:
    """Put a Reshape between the client's view and the model's; 0 keeps the batch axis."""
    values = graph.graph.input if kind == "input" else graph.graph.output
    value = next(value for value in values if value.name == name)
    inside, shape = f"{name}__inside", f"{name}__shape"
    _rename(graph.graph, name, inside)
    sizes = np.asarray(target, dtype=np.int64)
    graph.graph.initializer.append(numpy_helper.from_array(sizes, shape))
    ends = (name, inside) if kind == "input" else (inside, name)
    node = helper.make_node("Reshape", [ends[0], shape], [ends[1]], name=f"{name}__reshape")
    nodes = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([node, *nodes] if kind == "input" else [*nodes, node])
    elem = value.type.tensor_type.elem_type or TensorProto.FLOAT
    value.CopyFrom(helper.make_tensor_value_info(name, elem, view))


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a tensor where it is read or made, in inner graphs too."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, old, new)


def _order_outputs(graph: onnx.ModelProto, said: list[str]) -> None:
    """The configuration's order first: labels and bindings mean the first output."""
    outputs = {value.name: value for value in graph.graph.output}
    ordered = [outputs[name] for name in (*said, *(n for n in outputs if n not in said))]
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in ordered]
    del graph.graph.output[:]
    graph.graph.output.extend(copies)


def _inputs(model: onnx.ModelProto) -> list[Any]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _dims(value: Any) -> Dims | None:
    """Sizes, None for a free axis; None where the file does not even say the rank."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return [int(d.dim_value) if d.HasField("dim_value") else None for d in kind.shape.dim]


def _sizes(dims: Dims) -> list[int]:
    return [-1 if size is None else size for size in dims]


def metadata(graph: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """Names, types and shapes, for the report."""
    return {
        kind: [
            {"name": v.name, "dtype": onnx_dtype(v), "shape": _sizes(_dims(v) or [])}
            for v in values
        ]
        for kind, values in (("inputs", _inputs(graph)), ("outputs", graph.graph.output))
    }
