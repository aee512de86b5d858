"""A runtime of one's own: small networks of dense layers, in NumPy alone.

Takes ONNX files of the operators in OPERATORS and refuses every other; docs/runtimes.md says what
is asked of a runtime, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edged.errors import LoadError, RunError
from edged.runtimes.base import Artefact, BoundRun, RuntimeInfo
from edged.runtimes.signature import check_fit, check_names
from edged.tensors import DTYPES, Array, TensorSpec

Operator = Callable[..., Array]
_OPSET = 13
"""From here on Softmax is along one axis; older files are told to be converted again."""


def _gemm(a: Array, b: Array, c: Array | None = None, **options: Any) -> Array:
    a = a.T if options.get("transA") else a
    b = b.T if options.get("transB") else b
    product = a @ b * a.dtype.type(options.get("alpha", 1))
    return product if c is None else product + c * a.dtype.type(options.get("beta", 1))


def _softmax(x: Array, axis: int = -1) -> Array:
    above = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(above / above.sum(axis, keepdims=True))


def _argmax(x: Array, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    if select_last_index:
        raise ValueError("ArgMax takes the first of several")
    return np.asarray(np.argmax(x, axis, keepdims=bool(keepdims)))


OPERATORS: dict[str, Operator] = {
    "Add": np.add,
    "ArgMax": _argmax,
    "Gemm": _gemm,
    "Greater": np.greater,
    "Identity": lambda x: x,
    "MatMul": np.matmul,
    "Mul": np.multiply,
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Softmax": _softmax,
    "Sub": np.subtract,
    "Tanh": np.tanh,
}


class Step(NamedTuple):
    """One node: what it computes, of which values, and what the result is called."""

    operator: Operator
    inputs: Sequence[str]
    options: Mapping[str, Any]
    output: str


class NumpyRuntime:
    """What the entry point names; made anew for each load.

    Args:
        threads: of one run; NumPy takes what it takes.
    """

    name = "numpy"
    kinds = ("onnx",)
    device = "cpu"

    def __init__(self, *, threads: int) -> None:
        del threads

    def info(self) -> RuntimeInfo:
        """Say what it runs on; NumPy is there, or this file would not have been imported."""
        return RuntimeInfo(self.name, np.__version__, ("cpu",))

    def estimate_bytes(self, artefact: Artefact) -> int:
        """Upper bound: the file as it is parsed, the weights as arrays, and a little."""
        size = len(artefact.data) + sum(map(len, artefact.sidecars.values()))
        return 4 * size + (1 << 20)

    def load(self, artefact: Artefact) -> NumpySession:
        """Read a model and hold its signature against the promised one.

        Raises:
            LoadError: it is not ONNX, needs another operator, or has another signature.
        """
        where = f'model "{artefact.model}"'
        try:
            graph = _graph(artefact)
            weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
            steps = [_step(node) for node in graph.node]
            inputs = [_spec(one) for one in graph.input if one.name not in weights]
            outputs = [_spec(one) for one in graph.output]
        except Exception as exc:
            raise LoadError(f"{where}: numpy refuses it: {exc}") from exc
        return NumpySession(
            where,
            steps,
            weights,
            _match(where, "input", artefact.inputs, inputs),
            _match(where, "output", artefact.outputs, outputs),
        )


class NumpySession:
    """A model that was read. Threads may share it: a run changes nothing.

    Args:
        where: the model, for messages.
        steps: in the order of the file, which ONNX promises to be that of the computation.
        weights: by name.
        inputs: of the file, in the promised order.
        outputs: likewise.
    """

    def __init__(
        self,
        where: str,
        steps: Sequence[Step],
        weights: Mapping[str, Array],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self._where, self._weights = where, weights
        self._steps: Sequence[Step] | None = steps

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch.

        Raises:
            RunError: the inputs do not fit, or a step fails on them.
        """
        steps = self._steps
        if steps is None:
            raise RunError(f"{self._where} failed while running: the session is closed")
        try:
            values = {**self._weights, **self._fitting(inputs)}
            with np.errstate(all="ignore"):  # infinities are answers, not warnings
                for step in steps:
                    values[step.output] = step.operator(
                        *(values[name] for name in step.inputs), **step.options
                    )
        except Exception as exc:
            raise RunError(f"{self._where} failed while running: {exc}") from exc
        # A copy: an output may be an input or a weight, and the caller keeps it.
        return {spec.name: np.array(values[spec.name]) for spec in self.outputs}

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> BoundRun | None:
        """Nothing is gained by fixed memory."""
        del inputs, outputs

    def close(self) -> None:
        """Let go of the weights."""
        self._steps, self._weights = None, {}

    def _fitting(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs; NumPy would broadcast what does not fit."""
        if len(inputs) != len(self.inputs):
            raise ValueError(f"it takes {', '.join(spec.name for spec in self.inputs)}")
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is None or array.dtype != DTYPES[spec.dtype].numpy or not _fits(array, spec):
                have = "missing" if array is None else f"{array.dtype}{list(array.shape)}"
                raise ValueError(f'input "{spec.name}" is {have}, expected {spec}')
        return dict(inputs)


def _graph(artefact: Artefact) -> onnx.GraphProto:
    model = onnx.load_model_from_string(artefact.data)
    opset = max((one.version for one in model.opset_import if not one.domain), default=0)
    if opset < _OPSET or not model.graph.output:
        raise ValueError(f"it is no ONNX file of opset {_OPSET} or newer")
    if artefact.sidecars or any(one.external_data for one in model.graph.initializer):
        raise ValueError("its weights lie in a second file; convert it into one")
    return model.graph


def _step(node: onnx.NodeProto) -> Step:
    operator = OPERATORS.get(node.op_type) if not node.domain else None
    if operator is None or len(node.output) != 1 or "" in node.input:
        raise ValueError(f"{node.op_type} is none of {', '.join(OPERATORS)}")
    options = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return Step(operator, tuple(node.input), options, node.output[0])


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or f"axis_{index}"
        for index, axis in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)


def _match(
    where: str, side: str, promised: Sequence[TensorSpec], declared: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """The declared tensors that the bundle promises, in its order; LoadError where they differ."""
    by_name = {spec.name: spec for spec in declared}
    check_names(where, side, promised, by_name)
    for spec in promised:
        check_fit(where, side, spec, by_name[spec.name])
    return [by_name[spec.name] for spec in promised]


def _fits(array: Array, spec: TensorSpec) -> bool:
    return len(array.shape) == len(spec.shape) and all(
        have == want or isinstance(want, str)
        for have, want in zip(array.shape, spec.shape, strict=True)
    )
