"""The steps as ONNX nodes in front of a model. Decides which nodes; ``proof`` judges them.

The picture becomes float first, because TensorRT does nothing else with uint8, and NCHW before it
is resized, because that is the one order in which every runtime resizes.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converters.baked.words import Bake
from converters.errors import ConversionError, UnsupportedModelError
from edged.tensors import Array

RESIZE_OPSET, ANTIALIAS_OPSET = 13, 18
"""Below 13 Resize cannot leave its scales out; ``antialias`` came with 18."""
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_RAW = {"uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "float32": TensorProto.FLOAT}


class Front:
    """Nodes that make ``result`` from ``raw``, with their weights.

    Args:
        name: what the raw input is called; all other names begin with ``bake/NAME/``.
        work: the steps.
        channels: of the picture.
        elem: the ONNX type of the result.
    """

    def __init__(self, name: str, work: Bake, channels: int, elem: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.result = name
        self._prefix = f"bake/{name}/"
        self._add("Cast", to=TensorProto.FLOAT)
        inner = work.layout
        if work.resize is not None or work.model_layout == "NCHW":
            inner = "NCHW"
        self._lay_out(work.layout, inner)
        if work.resize is not None:
            self._resize(work)
        axes = (channels, 1, 1) if inner == "NCHW" else (channels,)
        if work.factor != 1:
            self._compute("Mul", "scale", (work.factor,), axes)
        if any(work.mean):
            self._compute("Sub", "mean", work.mean, axes)
        if any(value != 1 for value in work.std):
            self._compute("Div", "std", work.std, axes)
        self._lay_out(inner, work.model_layout)
        if elem != TensorProto.FLOAT:
            self._add("Cast", to=elem)

    def _add(self, operator: str, *more: str, **attributes: object) -> str:
        result = f"{self._prefix}{operator}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, [self.result, *more], [result], result, **attributes)
        )
        self.result = result
        return result

    def _weight(self, name: str, array: Array) -> str:
        whole = f"{self._prefix}{name}"
        self.weights.append(numpy_helper.from_array(array, whole))
        return whole

    def _lay_out(self, given: str, wanted: str) -> None:
        if given != wanted:
            self._add("Transpose", perm=[given.index(axis) for axis in wanted])

    def _compute(
        self, operator: str, name: str, values: tuple[float, ...], axes: tuple[int, ...]
    ) -> None:
        array = np.asarray(values, np.float32)
        self._add(operator, self._weight(name, array.reshape(() if len(array) == 1 else axes)))

    def _resize(self, work: Bake) -> None:
        """Rows and channels keep their number, which is read off the picture: rows are free."""
        assert work.resize is not None
        picture = self.result
        self._add("Shape")
        start, end = (self._weight(n, np.array([v], np.int64)) for n, v in (("from", 0), ("to", 2)))
        kept = self._add("Slice", start, end)
        size = self._weight("size", np.array([work.resize.height, work.resize.width], np.int64))
        self.result = kept
        sizes = self._add("Concat", size, axis=0)
        self.result = picture
        # Else the edge's pixel is repeated under a wide triangle: 13 levels off at the edges.
        smooth = {"antialias": 1, "exclude_outside": 1} if work.resize.antialias else {}
        self._add(
            "Resize",
            *("", "", sizes),
            mode="linear",
            coordinate_transformation_mode="half_pixel",
            **smooth,
        )


def raw_value(
    name: str, work: Bake, shape: tuple[int, ...], batch: str, sides: tuple[int | str, int | str]
) -> onnx.ValueInfoProto:
    """The declaration of a raw input.

    Args:
        name: of the input.
        work: the steps.
        shape: of the raw samples.
        batch: the name of the row axis.
        sides: height and width, or the names of free ones.
    """
    by_letter = {
        "N": batch,
        "C": shape[work.channel_axis],
        "H": sides[0],
        "W": sides[1],
    }
    return helper.make_tensor_value_info(
        name, _RAW[work.dtype], [by_letter[letter] for letter in work.layout]
    )


def put_in_front(
    model: onnx.ModelProto, works: dict[str, Bake], shapes: dict[str, tuple[int, ...]], opset: int
) -> None:
    """Put the steps in front of a model, whose inputs keep their names and now take raw pictures.

    Args:
        model: changed in place.
        works: the steps by input.
        shapes: of the raw samples by input.
        opset: of the model's main operators.

    Raises:
        ConversionError: the model's input is no picture.
        UnsupportedModelError: the opset lacks a step.
    """
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    for value in graph.input:
        work = works.get(value.name)
        if work is None:
            continue
        _refuse_opset(value.name, work, opset)
        name, elem = value.name, value.type.tensor_type.elem_type
        sides = _sides(value, work)
        batch = value.type.tensor_type.shape.dim[0].dim_param or "batch"
        front = Front(name, work, shapes[name][work.channel_axis], elem)
        for node in graph.node:
            _read_from(node, name, front.result)
        nodes += front.nodes
        graph.initializer.extend(front.weights)
        value.CopyFrom(raw_value(name, work, shapes[name], batch, sides))
    # A node may be added to the end only: the model's own nodes follow anew.
    nodes += [_copy(node) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _sides(value: onnx.ValueInfoProto, work: Bake) -> tuple[int | str, int | str]:
    """Height and width of the raw picture: free where they are resized, else as the model's."""
    name, elem = value.name, value.type.tensor_type.elem_type
    dims = value.type.tensor_type.shape.dim
    if elem not in FLOATS:
        kind = TensorProto.DataType.Name(elem).lower()
        raise ConversionError(
            f'bake "{name}": the model takes {kind}; expected a float type: give it raw pictures '
            "without bake"
        )
    if len(dims) != len(work.layout):
        raise ConversionError(
            f'bake "{name}": the model\'s input has {len(dims)} axes; expected {len(work.layout)}, '
            f"{work.model_layout}"
        )
    if work.resize is not None:
        return f"{name}_height", f"{name}_width"
    own = {
        letter: dim.dim_value or dim.dim_param or f"{name}_{letter.lower()}"
        for letter, dim in zip(work.model_layout, dims, strict=True)
    }
    return own["H"], own["W"]


def _refuse_opset(name: str, work: Bake, opset: int) -> None:
    if work.resize is None:
        return
    needed = ANTIALIAS_OPSET if work.resize.antialias else RESIZE_OPSET
    if opset < needed:
        what = "resize with antialias" if work.resize.antialias else "resize"
        raise UnsupportedModelError(
            f'bake "{name}": {what} needs opset {needed}, the model has {opset}; ask for --opset '
            f"{needed}"
        )


def _read_from(node: onnx.NodeProto, old: str, new: str) -> None:
    node.input[:] = [new if name == old else name for name in node.input]
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            for child in inner.node:
                _read_from(child, old, new)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
