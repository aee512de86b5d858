"""ONNX Runtime as the converter uses it: one thread, so that numbers come out the same each time.

The only file of the converter that imports onnxruntime, but for ``precision/quantize.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from converters.errors import ConversionError
from edged.tensors import Array

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

Run = Callable[[Mapping[str, Array]], dict[str, Array]]
VERSION: str = ort.__version__


def open_session(model: bytes, *, optimise: bool = True) -> Run:
    """Load a model and return the function that runs it.

    Args:
        model: an ONNX file's bytes.
        optimise: off to run the graph as it is written (the reference of an .onnx source).

    Raises:
        ConversionError: the model does not load, in ONNX Runtime's words.
    """
    options = _options()
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = _load(model, options)
    names = [output.name for output in session.get_outputs()]
    call = _caller(session, names)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return dict(zip(names, call(inputs), strict=True))
        except Exception as exc:
            shapes = ", ".join(f"{name} {list(a.shape)}" for name, a in inputs.items())
            raise ConversionError(
                f"ONNX Runtime {VERSION} does not run the model on {shapes}: {_first_line(exc)}"
            ) from exc

    return run


def _caller(
    session: ort.InferenceSession, names: list[str]
) -> Callable[[Mapping[str, Array]], list[Any]]:
    """What runs it; strings and bfloat16 go in and come out as in the daemon."""
    types = {value.type for value in (*session.get_inputs(), *session.get_outputs())}
    if not types & {"tensor(string)", "tensor(bfloat16)"}:
        return lambda inputs: list(session.run(names, dict(inputs)))
    from edged.runtimes import onnxruntime_special as special  # noqa: PLC0415  (few models)

    if "tensor(bfloat16)" in types:
        return lambda inputs: [
            special.taken_array(value)
            for value in special.run_by_value(ort, session, names, inputs, None)
        ]
    return lambda inputs: [
        special.taken_array(value)
        for value in session.run(
            names, {name: special.given_array(name, array) for name, array in inputs.items()}
        )
    ]


def write_optimised(model: bytes, path: Path) -> None:
    """Write the model with what every machine may fold already folded (constants, normalisation).

    Args:
        model: an ONNX file's bytes.
        path: the file to write.

    Raises:
        ConversionError: it does not load.
    """
    options = _options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    _load(model, options)


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # shape warnings are judged by us, from the real outputs
    return options


def _load(model: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise ConversionError(
            f"ONNX Runtime {VERSION} does not load the converted model: {_first_line(exc)}"
        ) from exc


def _first_line(exc: Exception) -> str:
    return str(exc).strip().split("\n", 1)[0][:600]
