"""TensorRT's package over a GPU in memory: its engines are ONNX models that ONNX Runtime runs.

It has the members that ``edged`` uses and no others; ``tests/runtimes/test_tensorrt_api.py`` holds each
of them against the real bindings of four releases. ``module(release)`` leaves out what a release lacks.
What TensorRT does badly it does badly too: failures are a None or False and a line to the logger, work
happens when the stream is waited for, and a wrong engine is not noticed until it is loaded.
"""

from __future__ import annotations

import enum
import json
import types
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.fakes.gpu import FakeGpu

_ONNX = {
    1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT64", 2: "UINT8", 9: "BOOL", 11: "DOUBLE",
}  # fmt: skip
_NUMPY = {
    "FLOAT": "f4", "HALF": "f2", "INT8": "i1", "INT32": "i4", "INT64": "i8", "UINT8": "u1", "BOOL": "?",
}  # fmt: skip
_INSPECTED = {
    "FLOAT": "Row major linear FP32",
    "HALF": "Row major linear FP16",
    "INT8": "Int8 NHWC4",
}


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    INT64 = 8


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class ProfilingVerbosity(enum.Enum):
    DETAILED = 2


class LayerInformationFormat(enum.Enum):
    JSON = 1


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        pass

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class ITensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        kind = value.type.tensor_type
        self.name = value.name
        self.dtype = getattr(DataType, _ONNX.get(kind.elem_type, ""), None)
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        self.is_shape_tensor = value.name == "shape"


class ILayer:
    def __init__(self, node: onnx.NodeProto, kind: str) -> None:
        self.type = f"LayerType.{ {'QuantizeLinear': 'QUANTIZE', 'Constant': 'CONSTANT'}.get(node.op_type, 'OTHER') }"
        self.num_outputs = 1
        self._kind = kind

    def get_output(self, index: int) -> Any:
        return types.SimpleNamespace(dtype=f"DataType.{self._kind}")


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._model: onnx.ModelProto | None = None
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._layers: list[ILayer] = []

    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._layers))

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]

    def unmark_output(self, tensor: ITensor) -> None:
        self._outputs.remove(tensor)


class ParserError:
    def __init__(self, node: int, words: str, operator: str, name: str) -> None:
        self._said = (node, words, operator, name)

    def node(self) -> int:
        return self._said[0]

    def desc(self) -> str:
        return self._said[1]

    def node_operator(self) -> str:
        return self._said[2]

    def node_name(self) -> str:
        return self._said[3]


class OnnxParser:
    refused = "Mod"
    """An operator that this TensorRT does not have."""

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes) -> bool:
        try:
            found = onnx.load_from_string(model)
            onnx.checker.check_model(found)
        except Exception:
            self._errors = [ParserError(-1, "Failed to parse\n the ONNX model", "", "")]
            return False
        for number, node in enumerate(found.graph.node):
            if node.op_type == self.refused:
                self._errors.append(ParserError(number, "no importer", node.op_type, node.name))
        kinds = {value.name: value.type.tensor_type.elem_type for value in found.graph.value_info}
        kinds |= {value.name: value.type.tensor_type.elem_type for value in found.graph.output}
        self._network._model = found
        self._network._inputs = [ITensor(value) for value in found.graph.input]
        self._network._outputs = [ITensor(value) for value in found.graph.output]
        self._network._layers = [
            ILayer(node, _ONNX.get(kinds.get(node.output[0], 1), "FLOAT"))
            for node in found.graph.node
        ]
        return not self._errors


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> bytes:
        return self._data


class IBuilderConfig:
    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self.profiling_verbosity: Any = None
        self.hardware_compatibility_level: Any = None
        self._flags: set[str] = {"TF32"}
        self._pools: dict[Any, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        for low, usual, high in profile._shapes.values():
            if not all(a <= b <= c for a, b, c in zip(low, usual, high, strict=True)):
                return -1
        self._profiles.append(profile)
        return 0


class Builder:
    fault = ""
    """``build``: no engine comes out. ``float32``: half precision is forgotten without a word."""
    _is_weakly_typed = False

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        if self.fault == "build":
            self._logger.log(Severity.ERROR, "Could not find any implementation\nfor node Conv_0")
            return None
        config._cache = ITimingCache(b"timed " + (config._cache._data if config._cache else b""))
        built = [layer._kind for layer in network._layers]
        if self._is_weakly_typed:  # the builder's flags decide; without them all is float32
            allowed = {"HALF": "FP16", "INT8": "INT8"}
            built = [k if allowed.get(k, k) in {k, *config._flags} else "FLOAT" for k in built]
        if self.fault == "float32":
            built = ["FLOAT" for _ in built]
        if self.fault == "half":
            built = ["HALF" for _ in built]
        head = {
            "inputs": [tensor.name for tensor in network._inputs],
            "outputs": [tensor.name for tensor in network._outputs],
            "profile": config._profiles[0]._shapes if config._profiles else {},
            "built": built,
            "flags": sorted(config._flags),
            "network_flags": network._flags,
        }
        text = json.dumps(head).encode()
        return len(text).to_bytes(4, "little") + text + network._model.SerializeToString()


class Runtime:
    gpu = FakeGpu()
    engine: Any = None

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        try:
            length = int.from_bytes(serialized_engine[:4], "little")
            head = json.loads(serialized_engine[4 : 4 + length])
            model = onnx.load_from_string(serialized_engine[4 + length :])
        except Exception:
            self._logger.log(Severity.WARNING, "Using an engine plan file across different models")
            self._logger.log(Severity.ERROR, "Version tag does not match\nNote: Current Version: 1")
            return None
        return self.engine(head, model, self.gpu, self._logger)


class EngineInspector:
    def __init__(self, built: list[str]) -> None:
        self._built = built

    def get_engine_information(self, format: Any) -> str:  # noqa: A002
        layers = [
            {"Name": f"layer {n}", "Outputs": [{"Format/Datatype": _INSPECTED.get(kind, "?")}]}
            for n, kind in enumerate(self._built)
        ]
        return json.dumps({"Layers": [*layers, "a layer by name only"], "Bindings": []})


class ICudaEngine:
    device_memory_size_v2 = 4096

    def __init__(self, head: Any, model: onnx.ModelProto, gpu: FakeGpu, logger: ILogger) -> None:
        self._head = head
        self._gpu = gpu
        self._logger = logger
        values = {v.name: v for v in [*model.graph.input, *model.graph.output]}
        self._tensors = {name: ITensor(values[name]) for name in head["inputs"] + head["outputs"]}
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    num_io_tensors = property(lambda self: len(self._tensors))

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._head["inputs"] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name].dtype or "DataType.FP8"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
        return self._head["profile"][name]

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self._head["built"])

    def create_execution_context(self) -> IExecutionContext | None:
        if self._gpu.status("create_execution_context"):
            self._logger.log(Severity.ERROR, "out of memory")
            return None
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._is_busy = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine._head["profile"].get(name, [shape] * 3)
        if not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
            self._engine._logger.log(Severity.ERROR, f"{name} is not in the profile")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def infer_shapes(self) -> list[str]:
        tensors = self._engine._tensors
        return [
            n
            for n in self._engine._head["inputs"]
            if -1 in tensors[n].shape and n not in self._shapes
        ]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._engine._head["inputs"]:
            return self._shapes.get(name, self._engine._tensors[name].shape)
        zeros = {
            n: np.zeros(self.get_tensor_shape(n), self._dtype(n))
            for n in self._engine._head["inputs"]
        }
        if self._engine._tensors[name].shape and "unknown" in name:
            return (-1,)
        return self._engine._session.run([name], zeros)[0].shape

    def _dtype(self, name: str) -> str:
        return _NUMPY[self._engine._tensors[name].dtype.name]

    def execute_async_v3(self, stream_handle: int) -> bool:
        gpu = self._engine._gpu
        if gpu.status("execute_async_v3"):
            self._engine._logger.log(Severity.ERROR, "an illegal memory access was encountered")
            return False
        assert not self._is_busy, "one context ran twice at once"
        self._is_busy = True
        gpu.queue(stream_handle, self._work)
        return True

    def _work(self) -> None:
        engine, gpu = self._engine, self._engine._gpu
        inputs = {}
        for name in engine._head["inputs"]:
            shape, kind = self.get_tensor_shape(name), np.dtype(self._dtype(name))
            size = int(np.prod(shape)) * kind.itemsize
            data = bytes(gpu.find(self._addresses[name], size))
            inputs[name] = np.frombuffer(data, kind).reshape(shape)
        names = engine._head["outputs"]
        for name, array in zip(names, engine._session.run(names, inputs), strict=True):
            gpu.find(self._addresses[name], array.nbytes)[:] = array.tobytes()
        self._is_busy = False


CLASSES = (
    *(Builder, INetworkDefinition, IBuilderConfig, IOptimizationProfile, ITimingCache, OnnxParser),
    *(
        ParserError,
        Runtime,
        ICudaEngine,
        IExecutionContext,
        EngineInspector,
        ILogger,
        ITensor,
        ILayer,
    ),
    *(DataType, TensorIOMode, MemoryPoolType, ProfilingVerbosity, LayerInformationFormat),
)
_FLAGS = "TF32 VERSION_COMPATIBLE"
_OLD_FLAGS = "FP16 INT8 BF16 FP8 OBEY_PRECISION_CONSTRAINTS"
RELEASES = ("8.6", "10.3", "10.16", "11.4")


def enums(release: str) -> dict[str, Any]:
    """Enums whose members differ between releases."""
    number = tuple(map(int, release.split(".")))
    flags = _FLAGS + (f" {_OLD_FLAGS}" if number < (11,) else "")
    if number < (10,):
        flags = flags.replace(" BF16", "")
    network = {"EXPLICIT_BATCH": 0} if number < (11,) else {"STRONGLY_TYPED": 0}
    if (10,) <= number < (11,):
        network["STRONGLY_TYPED"] = 1
    levels = "NONE AMPERE_PLUS" + (" SAME_COMPUTE_CAPABILITY" if number >= (10, 16) else "")
    return {
        "BuilderFlag": enum.Enum("BuilderFlag", flags),
        "NetworkDefinitionCreationFlag": enum.IntEnum("NetworkDefinitionCreationFlag", network),
        "HardwareCompatibilityLevel": enum.Enum("HardwareCompatibilityLevel", levels),
    }


def module(release: str, gpu: FakeGpu, *, fault: str = "") -> Any:
    """The package of a release, whose engines run on ``gpu``."""
    made = {kind.__name__: kind for kind in CLASSES}
    made["Runtime"] = type("Runtime", (Runtime,), {"gpu": gpu})
    weak = {"_is_weakly_typed": release == "8.6"}
    made["Builder"] = type("Builder", (Builder,), {"fault": fault, **weak})
    has_size = {} if release != "8.6" else {"device_memory_size_v2": None}
    engine = type("ICudaEngine", (ICudaEngine,), has_size)
    made["ICudaEngine"] = engine
    made["Runtime"].engine = engine
    return types.SimpleNamespace(
        **made,
        **enums(release),
        __version__=f"{release}.0",
        get_nv_onnx_parser_version=lambda: 1003,
    )
