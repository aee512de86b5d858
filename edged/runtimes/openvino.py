"""The OpenVINO backend: takes a bundle's ONNX file, or OpenVINO's own form of it (IR).

On the processor, or by another name on an Intel GPU or NPU (``openvino_device.py``).

Decides how models are compiled, and whether what a file declares is what its bundle promises. Never
opens a file, never keeps a cache on disk. Never sends anything: importing the package as it comes
reports the import over the network, through a part that is kept from loading here.

Left to itself the package computes float32 models in whatever is fast on the CPU at hand, bfloat16
on many, with three digits right. Here it is told float32 (float16 on the NPU, which has no other),
and a model for which it says otherwise is refused. What it has no kernels for it narrows without a
word: float64, which is refused at load, and 64-bit integers, whose inputs are refused where they do
not fit in 32 bits. What overflows
between an input and an output is not seen; golden samples are what tells.

Threads: a model has as many streams as runs of the asked number of threads fit on the cores. Runs
beyond that wait for one another.
"""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from edged.errors import LoadError
from edged.runtimes.absence import version_of, why_not
from edged.runtimes.base import Artefact, RuntimeInfo
from edged.runtimes.onnx_outside import keeps_weights_outside
from edged.runtimes.openvino_device import (
    PRECISION,
    TARGETS,
    Target,
    absence,
    ids_of,
    settings,
)
from edged.runtimes.openvino_session import OpenVinoSession, index_of, said
from edged.runtimes.signature import check_fit, check_names
from edged.system.cores import usable
from edged.tensors import Array, TensorSpec

_INSTALL = 'install it: pip install "edged[openvino]"'
_HOST = "CPU"
_SILENT = ("openvino.tools.ovc", "openvino_telemetry")
"""The first sends an event when it is imported, which the package does; the second is how."""
_SESSION_BYTES = 64 << 20
_COPIES = 4
"""Weights exist as the parsed model and in the layouts that kernels want: 69 MiB for a CNN of 14
MiB (measured)."""
_IR_HEAD = re.compile(rb"(?:<\?xml[^>]*>\s*)?<net [^<]*version=\"1[01]\"[^<]*>")
_IR_HEAD_BYTES = 4096
"""What the package itself looks for; what has no such head it would show to its other parsers."""
_NO_KERNELS = "can't protect"
"""What it says where memory cannot be made executable."""
_DTYPES = {
    "boolean": "bool",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
}

_import_lock = threading.Lock()
_core: Any = None
"""One for the process: it loads the CPU's plug-in, which takes longer than most models."""


def backend_module() -> Any:
    """The package, imported on first use without the part that reports it."""
    with _import_lock:
        if "openvino" not in sys.modules:
            for name in _SILENT:
                # None makes an import of it fail; the package goes on without.
                sys.modules.setdefault(name, None)  # type: ignore[arg-type]
        import openvino  # noqa: PLC0415 - megabytes that not every process needs

        return openvino


def _open_core(backend: Any) -> Any:
    global _core  # noqa: PLW0603 - see its words
    with _import_lock:
        if _core is None:
            _core = backend.Core()
        return _core


class OpenVinoRuntime:
    """Loads ONNX and IR files on one device.

    Args:
        threads: threads of one run; 0 for one a core this process may use.
        name: of the runtime, which says the device.
    """

    def __init__(self, *, threads: int, name: str = "openvino") -> None:
        self.name = name
        self._target = TARGETS[name]
        cores = len(usable())
        self._threads = threads or cores
        self._streams = max(1, cores // self._threads)

    def info(self) -> RuntimeInfo:
        """Say whether package and device are there, and what it would compute in by itself."""
        target = self._target
        try:
            backend = backend_module()
            # The release without the build that follows it.
            version = version_of(backend).partition("-")[0]
            core = _open_core(backend)
            available = list(core.available_devices)
            devices = ids_of(target, available)
            if not devices:
                problem = absence(target, version, available, _complaint(core, target.device))
                return RuntimeInfo(self.name, "", (), problem)
            note = f"computes in {target.dtype}, as it is told"
            if target.device == _HOST:
                own = _words(core.get_property(_HOST, PRECISION))
                note += f"; its own choice here is {own}"
            note += f"; it sees {', '.join(available)}"
            return RuntimeInfo(self.name, version, devices, note=note)
        except (Exception, SystemExit) as exc:
            why = said(why_not("openvino", exc))
            return RuntimeInfo(self.name, "", (), f"openvino {why}; {_INSTALL}")

    def estimate_bytes(self, artefact: Artefact) -> int:
        """Upper bound of what loading takes, without the tensors of a run."""
        size = len(artefact.data) + sum(map(len, artefact.sidecars.values()))
        return _COPIES * size + _SESSION_BYTES

    def load(self, artefact: Artefact) -> OpenVinoSession:
        """Compile a model and hold its signature against the artefact's.

        Raises:
            LoadError: no package, a file that it refuses, another signature than promised, or one
                with numbers that it would narrow.
        """
        info = self.info()
        if info.problem:
            raise LoadError(info.problem)
        backend = backend_module()
        where = f'model "{artefact.model}"'
        weights = _weights(where, artefact)
        core = _open_core(backend)
        try:
            if weights is None:
                model = _read_onnx(artefact.data)
            else:
                model = core.read_model(artefact.data, backend.Tensor(weights))
            inputs = _match(where, "input", artefact.inputs, model.inputs)
            outputs = _match(where, "output", artefact.outputs, model.outputs)
            _fix(where, self._target, model, artefact.inputs)
            asked = settings(self._target, self._threads, self._streams)
            compiled = core.compile_model(model, self._target.device, asked)
            got = _words(compiled.get_property(PRECISION))
        except LoadError:
            raise
        except Exception as exc:
            why = said(exc)
            if why == _NO_KERNELS:
                why += (
                    " memory: it writes its kernels while it runs, which the service forbids "
                    "(set MemoryDenyWriteExecute=no in a drop-in)"
                )
            raise LoadError(f"{where}: openvino {info.version} refuses it: {why}") from exc
        if got != self._target.dtype:
            raise LoadError(
                f"{where}: openvino {info.version} was told to compute in {self._target.dtype} and "
                f"computes in {got}; name the runtime onnxruntime for it"
            )
        return OpenVinoSession(backend, compiled, where, inputs, outputs)


def _complaint(core: Any, device: str) -> str:
    """Why the package does not see a device, e.g. a driver's library that is missing."""
    try:
        core.get_property(device, "FULL_DEVICE_NAME")
    except Exception as exc:
        words = said(exc)
        return words if "load library" in words else ""
    return ""


def _fix(where: str, target: Target, model: Any, promised: Sequence[TensorSpec]) -> None:
    """Give a model the promised lengths, where the device takes fixed ones alone.

    Raises:
        LoadError: a promised one is free.
    """
    if not target.is_fixed:
        return
    for spec in promised:
        if not all(isinstance(axis, int) for axis in spec.shape):
            raise LoadError(
                f'{where}: input "{spec.name}" is {spec}, and the {target.device} takes models of '
                "fixed lengths alone; convert it with every axis fixed, or name another runtime"
            )
    model.reshape({spec.name: list(spec.shape) for spec in promised})


def _read_onnx(data: bytes) -> Any:
    """Parse an ONNX file.

    With the one parser that is for it: ``read_model`` shows what this refuses to those of other
    formats, and one of them ruined the heap on half a file (seen with 2025.4).
    """
    from openvino.frontend import FrontEndManager  # noqa: PLC0415 - see backend_module

    if not data:
        raise ValueError("the file is empty")
    if keeps_weights_outside(data):
        # It would look for them in the working directory.
        raise ValueError("it refers to weights in another file, which the bundle has not")
    parser = FrontEndManager().load_by_framework("onnx")
    stream = io.BytesIO(data)
    return parser.convert(parser.load(stream))


def _weights(where: str, artefact: Artefact) -> Array | None:
    """The weights of an IR; None for an ONNX file, which has them inside."""
    # No ONNX file begins so: it would be the end of a group that never began.
    is_ir = artefact.data[:1] == b"<"
    if is_ir and not _IR_HEAD.match(artefact.data[:_IR_HEAD_BYTES]):
        raise LoadError(f"{where}: openvino refuses it: it begins like XML and is no IR")
    if is_ir and len(artefact.sidecars) == 1:
        return np.frombuffer(bytearray(*artefact.sidecars.values()), np.uint8)
    if is_ir:
        have = len(artefact.sidecars)
        raise LoadError(f"{where}: the weights of an IR are one file beside it; it has {have}")
    if artefact.sidecars:
        # It would look for them in the working directory.
        raise LoadError(
            f"{where} keeps weights in a second file; openvino takes an ONNX file from memory only "
            "where it is a single one: convert it into one file"
        )
    return None


def _match(
    where: str, side: str, promised: Sequence[TensorSpec], declared: Sequence[Any]
) -> tuple[TensorSpec, ...]:
    """Hold a promised signature against the declared one.

    Returns:
        The declared signature of the promised tensors, in the promised order.

    Raises:
        LoadError: names the tensor, what the bundle promises and what the model declares.
    """
    wanted = {spec.name for spec in promised}
    # A tensor has every name that it had in any step; those that were promised count.
    names = [next((n for n in sorted(port.names) if n in wanted), "") or _a_name(port)
             for port in declared]  # fmt: skip
    check_names(where, side, promised, names)
    return tuple(
        _match_one(where, side, spec, declared[index_of(declared, spec.name)]) for spec in promised
    )


def _match_one(where: str, side: str, spec: TensorSpec, port: Any) -> TensorSpec:
    kind = port.element_type.get_type_name()
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise LoadError(
            f'{where}: {side} "{spec.name}" is {kind}, not a dense tensor of numbers; convert the '
            "model without it"
        )
    shape: tuple[int | str, ...] = spec.shape
    if not port.partial_shape.rank.is_dynamic:
        # A free axis has no name here; the promise has.
        shape = tuple(
            axis.get_length() if axis.is_static else _axis(spec, index)
            for index, axis in enumerate(port.partial_shape)
        )
    found = TensorSpec(spec.name, dtype, shape)
    check_fit(where, side, spec, found)
    if dtype == "float64":
        raise LoadError(
            f'{where}: {side} "{spec.name}" is {found}, and openvino would compute it in float32; '
            "name the runtime onnxruntime for it"
        )
    return found


def _axis(spec: TensorSpec, index: int) -> str:
    name = spec.shape[index] if index < len(spec.shape) else ""
    return name if isinstance(name, str) and name else f"axis_{index}"


def _a_name(port: Any) -> str:
    return min(port.names, default="")


def _words(precision: Any) -> str:
    """A precision as NumPy calls it, e.g. ``float32``; or as the package does."""
    kind: str = precision.get_type_name()
    return {"bf16": "bfloat16", "dynamic": "the model's own"}.get(kind) or _DTYPES.get(kind, kind)
