"""TensorRT's package over a GPU in memory: its engines are ONNX models that ONNX Runtime runs.

The classes here say what is done, not what there is: ``module(release)`` makes them out of the surface
of that release's real bindings (``tensorrt_surface.py``), so that a member that they lack fails a test
that asks for it. What TensorRT does badly it does badly too: failures are a None or False and a line to the logger, work
happens when the stream is waited for, and a wrong engine is not noticed until it is loaded.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.fakes import tensorrt_stubs as stubs
from tests.fakes import tensorrt_surface as surface
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


class _Part:
    """What every class knows of its package."""

    _trt: Any
    """The package that it is a class of."""

    def _log(self, severity: str, text: str) -> None:
        logger: Any = self._logger  # type: ignore[attr-defined]
        logger.log(getattr(self._trt.ILogger.Severity, severity), text)


class ILogger(_Part):
    Severity: Any = None
    ERROR = INFO = INTERNAL_ERROR = VERBOSE = WARNING = None
    """The surface has them, for a release."""

    def __init__(self) -> None:
        pass

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class ITensor(_Part):
    name = ""
    dtype = property(lambda self: self._dtype)
    shape = property(lambda self: self._shape)
    is_shape_tensor = property(lambda self: self.name == "shape")

    def __init__(self, name: str, element: int, shape: tuple[int, ...]) -> None:
        self.name = name
        self._shape = shape
        kind = _ONNX.get(element, "")
        # A release without 64-bit integers computes them in 32 bits.
        self._dtype = getattr(self._trt.DataType, kind, None)
        if kind == "INT64" and self._dtype is None:
            self._dtype = self._trt.DataType.INT32


def _tensor(trt: Any, value: onnx.ValueInfoProto) -> ITensor:
    kind = value.type.tensor_type
    shape = (d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    return trt.ITensor(value.name, kind.elem_type, tuple(shape))


class ILayer(_Part):
    type = property(lambda self: getattr(self._trt.LayerType, self._called))
    num_outputs = property(lambda self: 1)

    def __init__(self, node: onnx.NodeProto, element: int) -> None:
        self._called = {"QuantizeLinear": "QUANTIZE", "Constant": "CONSTANT"}.get(
            node.op_type, "ELEMENTWISE"
        )
        self._output = self._trt.ITensor(node.output[0], element, ())
        self._kind = self._output._dtype.name if self._output._dtype else "FLOAT"

    def get_output(self, index: int) -> Any:
        return self._output


class INetworkDefinition(_Part):
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


class ParserError(_Part):
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


class OnnxParser(_Part):
    _refused = "Mod"
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
            self._errors = [self._trt.ParserError(-1, "Failed to parse\n the ONNX model", "", "")]
            return False
        for number, node in enumerate(found.graph.node):
            if node.op_type == self._refused:
                error = self._trt.ParserError(number, "no importer", node.op_type, node.name)
                self._errors.append(error)
        told = onnx.shape_inference.infer_shapes(found).graph.value_info
        kinds = {value.name: value.type.tensor_type.elem_type for value in told}
        kinds |= {value.name: value.type.tensor_type.elem_type for value in found.graph.output}
        self._network._model = found
        self._network._inputs = [_tensor(self._trt, v) for v in found.graph.input]
        self._network._outputs = [_tensor(self._trt, v) for v in found.graph.output]
        self._network._layers = [
            self._trt.ILayer(node, kinds.get(node.output[0], 1)) for node in found.graph.node
        ]
        return not self._errors


class IOptimizationProfile(_Part):
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))


class ITimingCache(_Part):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> bytes:
        return self._data


class IBuilderConfig(_Part):
    builder_optimization_level = 3
    profiling_verbosity: Any = None
    hardware_compatibility_level: Any = None
    default_device_type: Any = None
    DLA_core = -1

    def __init__(self) -> None:
        self._flags: set[str] = {"TF32"}
        self._pools: dict[Any, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._features: set[str] = set()
        self._cache: ITimingCache | None = None

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        assert enable
        self._features.add(feature.name)

    def can_run_on_DLA(self, layer: ILayer) -> bool:  # noqa: N802
        return layer._kind in ("HALF", "INT8")

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return self._trt.ITimingCache(serialized_timing_cache)

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


class Builder(_Part):
    _fault = ""
    """``build``: no engine comes out. ``float32``: half precision is forgotten without a word."""

    _dla = 0
    num_DLA_cores = property(lambda self: self._dla)  # noqa: N815

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        return self._trt.INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return self._trt.IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return self._trt.IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        if self._fault == "build":
            self._log("ERROR", "Could not find any implementation\nfor node Conv_0")
            return None
        before = config._cache._data if config._cache else b""
        config._cache = self._trt.ITimingCache(b"timed " + before)
        built = [layer._kind for layer in network._layers]
        typed = getattr(self._trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        if typed is None or (
            hasattr(self._trt.BuilderFlag, "FP16") and not network._flags >> int(typed) & 1
        ):
            # The builder's flags decide; without them all is float32.
            allowed = {"HALF": "FP16", "INT8": "INT8"}
            built = [k if allowed.get(k, k) in {k, *config._flags} else "FLOAT" for k in built]
        if self._fault == "float32":
            built = ["FLOAT" for _ in built]
        if self._fault == "half":
            built = ["HALF" for _ in built]
        head = {
            "inputs": [tensor.name for tensor in network._inputs],
            "outputs": [tensor.name for tensor in network._outputs],
            "profiles": [one._shapes for one in config._profiles] or [{}],
            "shares": not hasattr(self._trt.BuilderFlag, "STRICT_TYPES")
            or "PROFILE_SHARING_0806" in config._features,
            "dla": config.DLA_core,
            "built": built,
            "flags": sorted(config._flags),
            "network_flags": network._flags,
        }
        text = json.dumps(head).encode()
        return len(text).to_bytes(4, "little") + text + network._model.SerializeToString()


class Runtime(_Part):
    _gpu = FakeGpu()
    _dla = 0
    engine_host_code_allowed = True
    tempfile_control_flags = 3
    DLA_core = -1
    num_DLA_cores = property(lambda self: self._dla)  # noqa: N815

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self._gpu.status("deserialize_cuda_engine")
        try:
            length = int.from_bytes(serialized_engine[:4], "little")
            head = json.loads(serialized_engine[4 : 4 + length])
            model = onnx.load_from_string(serialized_engine[4 + length :])
        except Exception:
            self._log("WARNING", "Using an engine plan file across different models")
            self._log("ERROR", "Version tag does not match\nNote: Current Version: 1")
            return None
        if head["dla"] != self.DLA_core:
            self._log("ERROR", "the engine was built for another DLA core")
            return None
        return self._trt.ICudaEngine(head, model, self._gpu, self._logger)


class EngineInspector(_Part):
    def __init__(self, built: list[str]) -> None:
        self._built = built

    def get_engine_information(self, format: Any) -> str:  # noqa: A002
        layers = [
            {"Name": f"layer {n}", "Outputs": [{"Format/Datatype": _INSPECTED.get(kind, "?")}]}
            for n, kind in enumerate(self._built)
        ]
        return json.dumps({"Layers": [*layers, "a layer by name only"], "Bindings": []})


class ICudaEngine(_Part):
    device_memory_size_v2 = property(lambda self: 4096)

    def __init__(self, head: Any, model: onnx.ModelProto, gpu: FakeGpu, logger: ILogger) -> None:
        self._head = head
        self._gpu = gpu
        self._logger = logger
        values = {v.name: v for v in [*model.graph.input, *model.graph.output]}
        self._tensors = {
            name: _tensor(self._trt, values[name]) for name in head["inputs"] + head["outputs"]
        }
        self._elements = {name: values[name].type.tensor_type.elem_type for name in values}
        self._contexts = 0
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def _taken(self, name: str) -> Any:
        """The type of a tensor in the model, which a release may compute in a narrower one."""
        return onnx.helper.tensor_dtype_to_np_dtype(self._elements[name])

    num_io_tensors = property(lambda self: len(self._tensors))

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        mode = self._trt.TensorIOMode
        return mode.INPUT if name in self._head["inputs"] else mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name].dtype or "DataType.FP8"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    num_optimization_profiles = property(lambda self: len(self._head["profiles"]))

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
        return self._head["profiles"][profile_index][name]

    def create_engine_inspector(self) -> EngineInspector:
        return self._trt.EngineInspector(self._head["built"])

    def create_execution_context(self) -> IExecutionContext | None:
        if self._gpu.status("create_execution_context"):
            self._log("ERROR", "out of memory")
            return None
        self._contexts += 1
        if self._contexts > len(self._head["profiles"]) and not self._head["shares"]:
            self._log("ERROR", "Profile 0 has been chosen by another IExecutionContext")
            return None
        return self._trt.IExecutionContext(self)


class IExecutionContext(_Part):
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._profile = 0
        self._is_busy = False
        self._has_run = False
        """With these shapes: else what it queues includes what no graph can hold."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if profile_index >= len(self._engine._head["profiles"]):
            self._engine._log("ERROR", "there is no such profile")
            return False
        self._profile = profile_index
        self._shapes = {}
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine._head["profiles"][self._profile].get(name, [shape] * 3)
        if not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
            self._engine._log("ERROR", f"{name} is not in the profile")
            return False
        self._has_run = self._has_run and self._shapes.get(name) == tuple(shape)
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
            n: np.zeros(self.get_tensor_shape(n), self._engine._taken(n))
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
            self._engine._log("ERROR", "an illegal memory access was encountered")
            return False
        shapes = {n: self.get_tensor_shape(n) for n in self._engine._head["inputs"]}
        work = functools.partial(self._work, shapes, dict(self._addresses))
        if stream_handle in gpu.capturing:
            if not self._has_run:
                self._engine._log("ERROR", "operation not permitted when stream is capturing")
                return False
            gpu.queue(stream_handle, work)
            return True
        assert not self._is_busy, "one context ran twice at once"
        self._is_busy = self._has_run = True
        gpu.queue(stream_handle, work)
        return True

    def _work(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        """With the shapes and at the addresses of the moment when it was queued."""
        engine, gpu = self._engine, self._engine._gpu
        inputs = {}
        for name, shape in shapes.items():
            kind = np.dtype(self._dtype(name))
            size = int(np.prod(shape)) * kind.itemsize
            data = bytes(gpu.find(addresses[name], size))
            inputs[name] = np.frombuffer(data, kind).reshape(shape).astype(engine._taken(name))
        names = engine._head["outputs"]
        for name, computed in zip(names, engine._session.run(names, inputs), strict=True):
            array = computed.astype(self._dtype(name))
            gpu.find(addresses[name], array.nbytes)[:] = array.tobytes()
        self._is_busy = False


def get_nv_onnx_parser_version() -> int:
    return 1003


RELEASES = tuple(stubs.RELEASES)
BEHAVIOURS: dict[str, Any] = {
    name: globals()[name] for name in (*surface.CLASSES, *surface.FUNCTIONS)
}


def module(release: str, gpu: FakeGpu, *, fault: str = "", dla: int = 0) -> Any:
    """The package of a release, whose engines run on ``gpu``, beside so many DLA cores."""
    made = surface.build(surface.read(release), BEHAVIOURS)
    made.Runtime._gpu = gpu
    made.Builder._fault = fault
    made.Builder._dla = made.Runtime._dla = dla
    made.__version__ = f"{release}.0"
    return made
