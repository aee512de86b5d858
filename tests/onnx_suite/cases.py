"""The backend tests of the onnx package as cases: a model, what it is asked and what is expected.

Makes no session and asks nobody. Where the package's own runner works out inputs or loads files,
this does the same.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

KINDS = ("node", "real", "simple", "pytorch-converted", "pytorch-operator")
DTYPES = {
    onnx.TensorProto.BOOL: "bool",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.UINT16: "uint16",
    onnx.TensorProto.UINT32: "uint32",
    onnx.TensorProto.UINT64: "uint64",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.STRING: "string",
}
"""The types of the Open Inference Protocol; FP8, 4 bits and complex numbers are none of them."""

Array = np.ndarray[Any, np.dtype[Any]]
DataSet = tuple[list[Array], list[Array]]
"""Inputs in the order of the graph's, without its initialisers, and the expected outputs."""


class Case(NamedTuple):
    """One test of the package.

    Args:
        name: as the package calls it.
        kind: one of KINDS.
        rtol: that the package allows.
        atol: likewise.
        source: its own description.
    """

    name: str
    kind: str
    rtol: float
    atol: float
    source: Any

    def model(self) -> onnx.ModelProto:
        """The model; read or made anew at each call."""
        if self.source.model is not None:
            return self.source.model  # type: ignore[no-any-return]
        return onnx.load(_model_path(self.source))

    def data(self, model: onnx.ModelProto) -> list[DataSet]:
        """What it is asked, and what is expected."""
        source = self.source
        if source.data_sets is not None:
            return [
                ([_array(one) for one in inputs], [_array(one) for one in outputs])
                for inputs, outputs in source.data_sets
            ]
        if _is_light(source):
            return [_light(source, model)]
        folders = sorted(Path(source.model_dir).glob("test_data_set*"))
        return [
            (
                _tensors(folder, "input", list(model.graph.input)),
                _tensors(folder, "output", list(model.graph.output)),
            )
            for folder in folders
        ]


def every() -> Iterator[Case]:
    """All cases of the package that is installed; making them takes it some seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package divides by zero to make infinities
        for kind in KINDS:
            for one in load_model_tests(kind=kind):
                yield Case(one.name, kind, one.rtol, one.atol, one)


def strange_types(model: onnx.ModelProto) -> str:
    """Why no inference protocol carries what it takes or gives; empty when it does."""
    for value in (*model.graph.input, *model.graph.output):
        what = value.type.WhichOneof("value") or "nothing"
        if what != "tensor_type":
            return f'"{value.name}" is a {what.removesuffix("_type")}'
        code = value.type.tensor_type.elem_type
        if code not in DTYPES:
            return f'"{value.name}" is of {onnx.TensorProto.DataType.Name(code)}'
    return ""


def differences(case: Case, expected: list[Array], found: list[Array]) -> str:
    """What the package itself has against these answers; empty when nothing."""
    try:
        Runner.assert_similar_outputs(expected, found, case.rtol, case.atol)
    except (AssertionError, TypeError) as exc:
        return " ".join(str(exc).split())[:200] or type(exc).__name__
    return ""


def _is_light(source: Any) -> bool:
    return bool(source.url) and source.url.startswith("onnx/backend/test/data/light/")


def _model_path(source: Any) -> Path:
    if _is_light(source):
        return Path(onnx.__file__).parent.parent / source.url
    return Path(source.model_dir) / "model.onnx"


def _light(source: Any, model: onnx.ModelProto) -> DataSet:
    """The architectures without weights: their inputs are made up, their outputs lie beside them."""
    weights = {one.name for one in model.graph.initializer}
    inputs = [
        Runner.generate_dummy_data(value, seed=0, name=source.model_name, random=False)
        for value in model.graph.input
        if value.name not in weights
    ]
    path = _model_path(source)
    files = [f"{path.stem}_output_{index}.pb" for index in range(len(model.graph.output))]
    return inputs, [_array(onnx.load_tensor(str(path.with_name(file)))) for file in files]


def _tensors(folder: Path, word: str, values: list[Any]) -> list[Array]:
    files = [folder / f"{word}_{index}.pb" for index in range(len(values))]
    return [_array(onnx.load_tensor(str(file))) for file in files if file.exists()]


def _array(value: Any) -> Array:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value)


@functools.cache
def by_name() -> dict[str, Case]:
    """The same, made once."""
    return {case.name: case for case in every()}
