"""A float32 graph and the ranges of its values become an int8 graph, for CPUs or for TensorRT.

For CPUs activations are uint8, weights int8 with a scale a channel (u8s8): with ONNX Runtime's
default of int8 activations a ResNet-18 shape was hardly faster than float32, with uint8 3.9 times.
TensorRT takes no zero point but 0 and puts its own kernels where it finds a pair of quantising
nodes: there activations and weights are symmetric (s8s8), each with its pair, and only before what
int8 makes quicker. Quantising is ONNX Runtime's own; what it writes is brought to the converter's
one form, so that the same input gives the same bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from converters import graph, naming
from converters.errors import UnsupportedModelError
from converters.precision.ranges import ValueRange, typed
from converters.session import write_optimised
from converters.targets.table import Target

# After converters.session, which switches ONNX Runtime's telemetry off before it is imported.
from onnxruntime.quantization import QDQQuantizer, QuantType  # isort: skip
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData  # isort: skip

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What int8 makes quicker; a model without any of them stays as it is."""
CARRIED = (
    *("Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu"),
    *("MaxPool", "Mul", "Pad", "Relu", "Reshape", "Resize", "Slice", "Split", "Squeeze"),
    *("Transpose", "Unsqueeze"),
)
"""What may stand between two of them without a way back to float32. Softmax, Sigmoid and the
normalisations stay in float32: 256 steps are too few for them, and they cost little."""


@dataclass(frozen=True)
class Scheme:
    """How numbers become int8.

    Args:
        key: names it in the bundle's ``parity`` and in what is left out.
        runtime: whose artefact it is.
        words: for people, in the provenance.
        activations: their type.
        operators: what is quantised.
        options: of ONNX Runtime's quantiser.
    """

    key: Literal["int8", "int8-tensorrt"]
    runtime: Literal["onnx", "tensorrt"]
    words: str
    activations: QuantType
    operators: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)


CPU = Scheme(
    key="int8",
    runtime="onnx",
    words="uint8 activations, int8 weights per channel, QDQ",
    activations=QuantType.QUInt8,
    operators=(*HEAVY, *CARRIED),
)
TENSORRT = Scheme(
    key="int8-tensorrt",
    runtime="tensorrt",
    words=f"int8, symmetric, weights per channel and in pairs, QDQ before {', '.join(HEAVY)} only",
    activations=QuantType.QInt8,
    operators=HEAVY,
    options={
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": True,
        "QuantizeBias": False,
        # A pair for each that reads a value: whoever else reads it (a residual) gets the float.
        "DedicatedQDQPair": True,
        # Only what goes in: TensorRT fuses what follows (a Relu) before it rounds again.
        "OpTypesToExcludeOutputQuantization": list(HEAVY),
    },
)


def prepare(data: bytes) -> onnx.ModelProto:
    """Fold constants and batch normalisation into the weights, and tell all types.

    Args:
        data: a proven float32 model.

    Raises:
        UnsupportedModelError: nothing in it gains from int8.
        ConversionError: it does not load.
    """
    with tempfile.TemporaryDirectory(prefix="edged-int8-") as folder:
        path = Path(folder, "folded.onnx")
        write_optimised(data, path)
        model = typed(graph.parse(path.read_bytes()))
    weights = {tensor.name for tensor in model.graph.initializer}
    if not any(_is_heavy(node, weights) for node in model.graph.node):
        raise UnsupportedModelError(
            f"int8 helps {', '.join(HEAVY)} with trained weights, and the model has none: convert "
            "it with precision float32"
        )
    return model


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, ValueRange],
    target: Target,
    scheme: Scheme = CPU,
) -> onnx.ModelProto:
    """Put quantised weights and the steps of every value into the graph.

    Args:
        model: as ``prepare`` gives it; is used up.
        ranges: of its inner values.
        target: the device that must read it.
        scheme: for whom.

    Raises:
        UnsupportedModelError: the target lacks an operator of the result.
    """
    outputs = [value.name for value in model.graph.output]
    inputs = [value.name for value in model.graph.input]
    shapes = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    kept = {name: value.SerializeToString(deterministic=True) for name, value in shapes.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=scheme.activations,
        tensors_range=_as_tensors_data(ranges),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=list(scheme.operators),
        extra_options=dict(scheme.options),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # it appends nodes in the order of its own work
    made = graph.clean(quantizer.model.model, None, target)
    naming.rename(made, inputs, outputs)
    naming.name_inner_values(made)
    for value in (*made.graph.input, *made.graph.output):
        value.ParseFromString(kept[value.name])
    return made


def _is_heavy(node: onnx.NodeProto, weights: set[str]) -> bool:
    return node.op_type in HEAVY and any(name in weights for name in node.input[1:])


def _as_tensors_data(ranges: Mapping[str, ValueRange]) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {
            name: TensorData(lowest=np.float32(span.low), highest=np.float32(span.high))
            for name, span in ranges.items()
        },
    )
