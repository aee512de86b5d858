"""Builds a TensorRT engine out of an ONNX model, and looks at what came out.

The graph alone says the precision: casts to float16 and quantisation nodes are in it, and a
release that can is told to keep to them. TensorRT has built float32 where float16 was asked,
without a word; so the engine's layers are looked at afterwards, and one without the asked precision
is refused.

The shapes an engine is made for are those of ``tensorrt_ranges.py``. Runs where it is called, for
minutes and with gigabytes: call it in a worker process. Only ``tensorrt_api.py`` knows of releases.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import msgspec

from edged.errors import LoadError
from edged.runtimes.base import Artefact
from edged.runtimes.engine import BuildOptions, Engine, Fingerprint, Host, Io, sha256
from edged.runtimes.signature import check_names
from edged.runtimes.tensorrt_api import DTYPES, TensorRt, Words, make_logger
from edged.runtimes.tensorrt_ranges import ranges_of

_LOW = {"HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "FP8": "float8", "INT4": "int4"}
_FLAGS_BY_TYPE = {"HALF": "FP16", "BF16": "BF16", "INT8": "INT8", "FP8": "FP8"}
"""The builder's flag that a release without strong typing needs before it may use a type."""
_ON_DLA = ("HALF", "INT8")
"""What a Jetson's deep learning accelerator computes in."""
_BUILT_WORDS = (
    ("HALF", ("fp16", "half")),
    ("BF16", ("bf16", "bfloat16")),
    ("INT8", ("int8",)),
    ("FP8", ("fp8",)),
    ("FLOAT", ("fp32", "float")),
)
"""How the inspector's ``Format/Datatype`` spells the types, by release."""


class Built(msgspec.Struct, frozen=True):
    """An engine, and the timing cache that makes the next build of such layers fast."""

    engine: Engine
    timing_cache: bytes


def build_engine(
    trt: TensorRt,
    host: Host,
    artefact: Artefact,
    options: BuildOptions,
    timing_cache: bytes = b"",
) -> Built:
    """Build, inspect and describe.

    Args:
        trt: the package.
        host: this machine.
        artefact: an ONNX model in one file, with its signature.
        options: how.
        timing_cache: of an earlier build here; another machine's is ignored with a warning.

    Raises:
        LoadError: TensorRT cannot read or build it, or built another precision than was asked;
            says the node and TensorRT's words.
    """
    return _Build(trt, host, artefact, options).run(timing_cache)


class _Build:
    def __init__(
        self, trt: TensorRt, host: Host, artefact: Artefact, options: BuildOptions
    ) -> None:
        self._trt = trt
        self._host = host
        self._artefact = artefact
        self._options = options
        self._where = f'model "{artefact.model}"'
        self._words = Words()
        self._logger = make_logger(trt, self._words)
        self._flags: list[str] = []
        self._placed: dict[str, int] = {}
        # On an accelerator the builder's flags choose types: a strict graph would keep it out.
        self._is_typed = trt.is_strongly_typed and options.dla < 0

    def run(self, timing_cache: bytes) -> Built:
        began = time.monotonic()
        builder = self._make("builder", self._trt.module.Builder, self._logger)
        network = self._parsed(builder)
        self._trim(network)
        asked = count_asked(network)
        config = self._config(builder, network, asked)
        cache = config.create_timing_cache(timing_cache)
        if cache is not None:
            # True: one that was made elsewhere is refused by TensorRT and must not end the build.
            config.set_timing_cache(cache, True)
        self._words.clear()
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise LoadError(
                f"{self._where}: {self._trt.words} cannot build it: {self._words.said()}"
            )
        data = bytes(memoryview(plan))
        seconds = time.monotonic() - began
        built, io, device_bytes = self._inspected(data)
        check_precision(self._where, self._trt, asked, built)
        fingerprint = Fingerprint(
            host=self._host,
            onnx_sha256=sha256(self._artefact.data),
            plan_sha256=sha256(data),
            plan_bytes=len(data),
            options=self._options,
            flags=tuple(self._flags),
            asked=asked,
            built=built,
            io=io,
            timing_cache_sha256=sha256(timing_cache) if timing_cache else "",
            device_bytes=device_bytes,
            seconds=round(seconds, 3),
            placed=self._placed,
        )
        fresh = config.get_timing_cache()
        kept = bytes(memoryview(fresh.serialize())) if fresh is not None else b""
        return Built(Engine(fingerprint, data), kept)

    def _refused(self, what: str) -> LoadError:
        return LoadError(f"{self._where}: {self._trt.words} {what}: {self._words.said()}")

    def _make(self, what: str, kind: Any, *arguments: Any) -> Any:
        """Make an object; the package raises TypeError where the library gave none."""
        try:
            made = kind(*arguments)
        except TypeError as exc:
            raise LoadError(
                f"{self._where}: {self._trt.words} gives no {what}: {self._words.said()}"
            ) from exc
        return made

    def _parsed(self, builder: Any) -> Any:
        if self._artefact.sidecars:
            raise LoadError(
                f"{self._where} keeps weights in a second file, which TensorRT's parser looks for "
                "on disk: convert it into one file"
            )
        network = builder.create_network(self._trt.network_flags(is_typed=self._is_typed))
        parser = self._make("ONNX parser", self._trt.module.OnnxParser, network, self._logger)
        if not parser.parse(self._artefact.data):
            problems = [_problem(parser.get_error(n)) for n in range(parser.num_errors)]
            words = "; ".join(problems) or self._words.said()
            raise LoadError(f"{self._where}: {self._trt.words} cannot take it: {words}")
        return network

    def _trim(self, network: Any) -> None:
        """Leave the promised outputs only, and hold the names against the promise."""
        inputs = [network.get_input(n) for n in range(network.num_inputs)]
        outputs = [network.get_output(n) for n in range(network.num_outputs)]
        promised = {spec.name for spec in self._artefact.outputs}
        check_names(self._where, "input", self._artefact.inputs, [one.name for one in inputs])
        check_names(self._where, "output", self._artefact.outputs, [one.name for one in outputs])
        for one in outputs:
            if one.name not in promised:
                network.unmark_output(one)

    def _config(self, builder: Any, network: Any, asked: dict[str, int]) -> Any:
        trt, options = self._trt, self._options
        config = builder.create_builder_config()
        pool = trt.module.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, options.workspace_bytes)
        config.builder_optimization_level = options.level
        config.profiling_verbosity = trt.module.ProfilingVerbosity.DETAILED
        if options.tf32:
            self._set(config, "TF32")
        else:
            config.clear_flag(trt.module.BuilderFlag.TF32)
        if options.is_version_compatible:
            self._set(config, "VERSION_COMPATIBLE")
        self._set_hardware(config)
        if not self._is_typed:
            for kind, flag in _FLAGS_BY_TYPE.items():
                if asked.get(kind):
                    self._set(config, flag)
            self._set(config, "OBEY_PRECISION_CONSTRAINTS")
        self._add_profiles(builder, network, config)
        self._place(builder, network, config, asked)
        return config

    def _set(self, config: Any, name: str) -> None:
        flag = self._trt.member("BuilderFlag", name)
        if flag is None:
            raise LoadError(f"{self._where}: {self._trt.words} has no builder flag {name}")
        config.set_flag(flag)
        self._flags.append(name)

    def _set_hardware(self, config: Any) -> None:
        name = self._options.hardware.upper()
        level = self._trt.member("HardwareCompatibilityLevel", name)
        if level is None:
            raise LoadError(
                f'{self._where}: {self._trt.words} has no hardware compatibility level "{name}"'
            )
        if name != "NONE":
            config.hardware_compatibility_level = level
            self._flags.append(f"HARDWARE_{name}")

    def _add_profiles(self, builder: Any, network: Any, config: Any) -> None:
        """The optimisation profiles: the ranges of every free axis."""
        tensors = [network.get_input(number) for number in range(network.num_inputs)]
        for tensor in tensors:
            if tensor.is_shape_tensor:
                raise LoadError(
                    f'{self._where}: input "{tensor.name}" decides shapes inside the model, which '
                    "would need a range of its values; fix it to a constant when converting"
                )
        specs = {spec.name: spec for spec in self._artefact.inputs}
        shapes = {tensor.name: tuple(tensor.shape) for tensor in tensors}
        for ranges in ranges_of(self._where, specs, shapes, self._options):
            profile = builder.create_optimization_profile()
            for name, (low, usual, high) in ranges.items():
                profile.set_shape(name, low, usual, high)
            if config.add_optimization_profile(profile) < 0:
                raise LoadError(
                    f"{self._where}: {self._trt.words} refuses the range of its shapes: "
                    f"{self._words.said()}"
                )
        sharing = self._trt.member("PreviewFeature", "PROFILE_SHARING_0806")
        if sharing is not None:
            # Else 8.6 gives a profile to one context only; later releases do so by themselves.
            config.set_preview_feature(sharing, True)

    def _place(self, builder: Any, network: Any, config: Any, asked: dict[str, int]) -> None:
        """Put on an accelerator what it takes, and leave the rest to the GPU."""
        core = self._options.dla
        if core < 0:
            return
        if core >= (there := int(builder.num_DLA_cores)):
            raise LoadError(
                f"{self._where}: core {core} of a deep learning accelerator is asked for; this "
                f"device has {there}"
            )
        if not any(asked.get(kind) for kind in _ON_DLA):
            raise LoadError(
                f"{self._where}: a deep learning accelerator computes in float16 and int8 only, "
                f"and the model has {', '.join(asked) or 'neither'}: build from another precision"
            )
        config.default_device_type = self._trt.module.DeviceType.DLA
        config.DLA_core = core
        self._set(config, "GPU_FALLBACK")
        layers = [network.get_layer(number) for number in range(network.num_layers)]
        on_dla = sum(bool(config.can_run_on_DLA(layer)) for layer in layers)
        if not on_dla:
            raise LoadError(
                f"{self._where}: {self._trt.words} can run none of its {len(layers)} layers on the "
                "deep learning accelerator; build it for the GPU"
            )
        self._placed = {"dla": on_dla, "gpu": len(layers) - on_dla}

    def _inspected(self, plan: bytes) -> tuple[dict[str, int], tuple[Io, ...], int]:
        """Load the plan once, and tell its layers, its tensors and its memory."""
        self._words.clear()
        runtime = self._make("runtime", self._trt.module.Runtime, self._logger)
        if self._options.dla >= 0:
            runtime.DLA_core = self._options.dla
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise LoadError(
                f"{self._where}: {self._trt.words} built an engine that it does not load: "
                f"{self._words.said()}"
            )
        layout = self._trt.module.LayerInformationFormat.JSON
        text = engine.create_engine_inspector().get_engine_information(layout)
        device_bytes = int(getattr(engine, "device_memory_size_v2", None) or 0)
        return count_built(text), read_io(self._trt, engine), device_bytes


def _problem(error: Any) -> str:
    name = getattr(error, "node_name", None)
    operator = getattr(error, "node_operator", None)
    where = f"node {error.node()}"
    if callable(name) and callable(operator):
        where += f' ({operator()} "{name()}")'
    return f"{where}: {' '.join(str(error.desc()).split())}"


def count_asked(network: Any) -> dict[str, int]:
    """Layers of a parsed network by the element type of their first output."""
    kinds: Counter[str] = Counter()
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        if layer.num_outputs and str(layer.type).rsplit(".", 1)[-1] != "CONSTANT":
            kinds[str(layer.get_output(0).dtype).rsplit(".", 1)[-1]] += 1
    return dict(sorted(kinds.items()))


def count_built(text: str) -> dict[str, int]:
    """Layers of an engine by the element type of their first output, from the inspector's JSON.

    Layers that are told by name only, and types that NumPy and we do not know, are not counted.
    """
    try:
        layers = msgspec.json.decode(text).get("Layers", [])
    except (msgspec.DecodeError, AttributeError):
        return {}
    kinds: Counter[str] = Counter()
    for layer in layers:
        outputs = layer.get("Outputs") if isinstance(layer, dict) else None
        if not outputs or not isinstance(outputs[0], dict):
            continue
        said = str(outputs[0].get("Format/Datatype", outputs[0].get("Datatype", ""))).lower()
        kind = next((kind for kind, words in _BUILT_WORDS if any(w in said for w in words)), "")
        if kind:
            kinds[kind] += 1
    return dict(sorted(kinds.items()))


def check_precision(
    where: str, trt: TensorRt, asked: dict[str, int], built: dict[str, int]
) -> None:
    """Hold what was built against what the graph asks for.

    Raises:
        LoadError: a low precision that the graph has is nowhere in the engine, or the engine has
            one that the graph has not.
    """
    if not built:
        return
    low_asked = {kind for kind in asked if kind in _LOW}
    low_built = {kind for kind in built if kind in _LOW}
    missing, extra = sorted(low_asked - low_built), sorted(low_built - low_asked)
    if missing and not (low_asked & low_built):
        raise LoadError(
            f"{where} asks for {_LOW[missing[0]]}; {trt.words} built no layer of it "
            f"({', '.join(f'{n} {kind}' for kind, n in built.items())})"
        )
    if extra:
        raise LoadError(
            f"{where} does not ask for {_LOW[extra[0]]}; {trt.words} built "
            f"{built[extra[0]]} layers of it"
        )


def read_io(trt: TensorRt, engine: Any) -> tuple[Io, ...]:
    """Inputs and outputs of a loaded engine.

    Raises:
        LoadError: an element type that NumPy does not have.
    """
    found = []
    for number in range(engine.num_io_tensors):
        name = engine.get_tensor_name(number)
        kind = str(engine.get_tensor_dtype(name)).rsplit(".", 1)[-1]
        if kind not in DTYPES:
            raise LoadError(f'the engine\'s tensor "{name}" is {kind}, which NumPy does not have')
        is_input = engine.get_tensor_mode(name) == trt.module.TensorIOMode.INPUT
        shape = tuple(int(n) for n in engine.get_tensor_shape(name))
        ranges: list[tuple[tuple[int, ...], ...]] = []
        if is_input and -1 in shape:
            ranges = [
                tuple(
                    tuple(int(n) for n in end)
                    for end in engine.get_tensor_profile_shape(name, which)
                )
                for which in range(engine.num_optimization_profiles)
            ]
        first, more = (ranges[0], tuple(ranges[1:])) if ranges else ((), ())
        found.append(Io(name, DTYPES[kind], is_input, shape, first, more))
    return tuple(found)
