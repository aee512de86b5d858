"""The ONNX Runtime backend, on the CPU; ``onnxruntime_cuda.py`` puts it on an NVIDIA GPU.

Decides how sessions are set up, and whether what a model file declares is what its bundle
promises. Never opens a file: it gets verified bytes, and a model that names other files finds only
the ones that were handed in. Never sends anything: telemetry is off before the package is imported.

Threads: a run uses the caller's thread, and a session's own pool when more than one is asked for.
The pool that all sessions could share spins for some 25 ms after every run, and the Python package
has no way to stop that (session options do not reach it; seen with 1.23 and 1.32): a run of 0.1 ms
would cost 20 ms of a core. A session's own pool can be told to sleep, and costs nothing asleep.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from edged.errors import LoadError, RunError
from edged.runtimes.absence import version_of, why_not
from edged.runtimes.base import Artefact, RuntimeInfo
from edged.runtimes.loss import run_error
from edged.runtimes.signature import check_fit, check_names
from edged.system.cores import usable
from edged.tensors import Array, TensorSpec

_INSTALL = 'install one: pip install "edged[cpu]" (or edged[gpu] where there is an NVIDIA GPU)'
CPU = "CPUExecutionProvider"
_NOWHERE = "/dev/null"
"""Files that a model names are looked for here, where none can be, instead of in the working
directory."""
_SESSION_BYTES = 32 << 20
_COPIES = 5
_MESSAGE_CAP = 400
_FATAL = 4
"""Log level: errors come as exceptions, so that they are said once and by us."""

_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bfloat16)": "bfloat16",
    "tensor(string)": "string",
}
_SPECIAL = frozenset({"string", "bfloat16"})
"""NumPy has no such arrays as the package wants of them."""
_PATH = re.compile(r"(?<![\w])/[^\s:'\"]*[^\s:'\".,]")
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ")

Placement = tuple[Mapping[str, int], Mapping[str, int]]

_import_lock = threading.Lock()


def backend_module() -> Any:
    """The package, imported on first use with its telemetry off."""
    with _import_lock:
        # The public wheels carry an uploader that is on by default; it looks here when imported.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime  # noqa: PLC0415 - seconds and megabytes that not every process needs

        return onnxruntime


class OnnxRuntime:
    """Loads ONNX files on the CPU.

    Args:
        threads: threads of one run, the caller's included; 0 for one a core this process may use.
    """

    name = "onnxruntime"

    def __init__(self, *, threads: int) -> None:
        self._threads = threads or len(usable())

    def info(self) -> RuntimeInfo:
        """Say whether the package is there and imports."""
        try:
            return RuntimeInfo(self.name, version_of(backend_module()), ("cpu",))
        except (Exception, SystemExit) as exc:
            why = why_not("onnxruntime", exc)
            return RuntimeInfo(self.name, "", (), f"onnxruntime {why}; {_INSTALL}")

    def estimate_bytes(self, artefact: Artefact) -> int:
        """Upper bound of what loading takes, without the tensors of a run.

        While it loads, weights exist as the parsed model, as tensors, and in the blocked and packed
        layouts that kernels want: 2.3 times the file for MatMul, 4 times for Conv (measured), and
        one more for what folding constants adds. Then the session itself.
        """
        size = len(artefact.data) + sum(map(len, artefact.sidecars.values()))
        return _COPIES * size + _SESSION_BYTES

    def load(self, artefact: Artefact) -> OnnxSession:
        """Make a session and hold its signature against the artefact's.

        Raises:
            LoadError: no package, a file that it refuses, or another signature than promised.
        """
        if problem := self.info().problem:
            raise LoadError(problem)
        backend = backend_module()
        where = f'model "{artefact.model}"'
        is_special = any(one.dtype in _SPECIAL for one in (*artefact.inputs, *artefact.outputs))
        if is_special and self.name != "onnxruntime":
            raise LoadError(
                f"{where} has tensors of strings or bfloat16, which are given to ONNX Runtime on "
                "the CPU only: name the runtime onnxruntime for it"
            )
        try:
            session = backend.InferenceSession(
                artefact.data,
                self._options(backend, artefact),
                providers=self.providers(artefact),
                # The package would print a failure of a provider and go on without it.
                enable_fallback=0,
            )
        except LoadError:
            raise
        except Exception as exc:
            raise LoadError(
                f"{where}: onnxruntime {backend.__version__} refuses it: {clean(exc)}"
            ) from exc
        run_options = backend.RunOptions()
        run_options.log_severity_level = _FATAL
        return self._session(session, artefact, self._placement(where, session), run_options)

    def _session(
        self, session: Any, artefact: Artefact, placed: Placement | None, run_options: Any
    ) -> OnnxSession:
        """What runs the backend's session."""
        if any(one.dtype in _SPECIAL for one in (*artefact.inputs, *artefact.outputs)):
            from edged.runtimes.onnxruntime_special import (  # noqa: PLC0415 - few models need it
                SpecialSession,
            )

            return SpecialSession(session, artefact, placed, run_options)
        return OnnxSession(session, artefact, placed, run_options)

    def providers(self, artefact: Artefact) -> list[Any]:
        """What the backend may run a model on, best first; LoadError where that cannot be."""
        del artefact
        return [CPU]

    def _placement(self, where: str, session: Any) -> Placement | None:
        """Where its nodes run; LoadError when that is not where it was asked to."""
        del where, session
        return None

    def _options(self, backend: Any, artefact: Artefact) -> Any:
        options = backend.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        for key, value in (
            ("session.intra_op.allow_spinning", "0"),
            ("session.inter_op.allow_spinning", "0"),
            ("session.model_external_initializers_file_folder_path", _NOWHERE),
        ):
            options.add_session_config_entry(key, value)
        if artefact.sidecars:
            add = getattr(options, "add_external_initializers_from_files_in_memory", None)
            if add is None:
                raise LoadError(
                    f'model "{artefact.model}" keeps weights in a second file; onnxruntime '
                    f"{backend.__version__} takes those from memory only in newer versions: "
                    "convert it into one file"
                )
            names = list(artefact.sidecars)
            files = list(artefact.sidecars.values())
            add(names, files, [len(data) for data in files])
        return options


class OnnxSession:
    """A loaded model. ``run`` may be called from several threads at once.

    Args:
        session: the backend's session.
        artefact: what it was loaded from.
        placed: how many nodes of each operator run on the GPU and on the CPU; None where nobody
            asked or the package does not tell.
        options: the backend's, of every run; otherwise made for each, and thrown away.
    """

    def __init__(
        self,
        session: Any,
        artefact: Artefact,
        placed: Placement | None = None,
        options: Any = None,
    ) -> None:
        self.placed = placed
        where = f'model "{artefact.model}"'
        self._where = where
        self.inputs = _match(where, "input", artefact.inputs, session.get_inputs())
        self.outputs = _match(where, "output", artefact.outputs, session.get_outputs())
        self._names = [spec.name for spec in self.outputs]
        # The package's own ``run`` looks again at names that were checked when the request came: a
        # microsecond of the eight that a small model takes. What lies below promises nothing, so
        # that without it only the time is lost.
        inner: Any = getattr(session, "_sess", session)
        self._session: Any = session
        self._call: Callable[..., Sequence[Any]] = inner.run
        self._options = options
        self._bound: weakref.WeakSet[OnnxBoundRun] = weakref.WeakSet()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; outputs come in the order of the artefact's signature.

        Raises:
            RunError: the model failed on these inputs; the session stays usable.
        """
        names = self._names
        try:
            values = self._call(
                names, inputs if type(inputs) is dict else dict(inputs), self._options
            )
        except Exception as exc:
            raise run_failed(self._where, exc, self._session) from exc
        return dict(zip(names, values, strict=True))

    def bind(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> OnnxBoundRun | None:
        """Fix where runs read and write: half the cost of a run of a small model is saved.

        None where a run would not read or write that memory: a device other than the CPU is given
        a copy of the inputs once, when they are bound; an output that is an input is not written.

        Raises:
            RunError: these tensors cannot be bound.
        """
        session = self._session
        if session is None:
            raise RunError(f"{self._where}: the session is closed")
        if session.get_providers() != [CPU] or not outputs.keys().isdisjoint(inputs):
            return None
        try:
            binding = session.io_binding()
            for name, array in inputs.items():
                binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            for name, array in outputs.items():
                binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        except Exception as exc:
            raise RunError(f"{self._where}: cannot bind its tensors: {clean(exc)}") from exc
        bound = OnnxBoundRun(self._where, session, binding, self._options, (inputs, outputs))
        self._bound.add(bound)
        return bound

    def close(self) -> None:
        """Let go of the backend's session; it goes when the last run in progress ends."""
        self._call = _closed
        for bound in self._bound:
            bound.drop()
        self._session = None


class OnnxBoundRun:
    """A run with its tensors bound; made by ``OnnxSession.bind``.

    Args:
        where: the model, for messages.
        session: the backend's; outlives the binding, which points into it.
        binding: of all inputs and outputs.
        options: of every run.
        keep: whose memory is bound.
    """

    def __init__(
        self, where: str, session: Any, binding: Any, options: Any, keep: tuple[object, ...]
    ) -> None:
        self._where = where
        self._keep = keep
        self._options = options
        self._session, self._binding = session, binding
        self._inner: Any = getattr(binding, "_iobinding", binding)
        run: Any = getattr(session, "_sess", session).run_with_iobinding
        self._call: Callable[[Any, Any], object] = run

    def run(self) -> None:
        """Read the inputs, write the outputs.

        Raises:
            RunError: the model failed, or its outputs have other shapes.
        """
        try:
            self._call(self._inner, self._options)
        except Exception as exc:
            raise run_failed(self._where, exc, self._session) from exc

    def drop(self) -> None:
        """Let go of everything, the binding before the session that it points into."""
        self._call = _closed
        self._inner = self._binding = None
        self._session = None
        self._keep = ()


def _closed(*_: object) -> NoReturn:
    raise ValueError("the session is closed")


def run_failed(where: str, exc: Exception, session: Any) -> RunError:
    """The error of a run; one that has only the processor cannot have lost a device."""
    words = f"{where} failed while running: {clean(exc)}"
    if session is None or session.get_providers() == [CPU]:
        return RunError(words)
    return run_error(words, str(exc))


def _match(
    where: str, side: str, promised: Sequence[TensorSpec], declared: Sequence[Any]
) -> tuple[TensorSpec, ...]:
    """Hold a promised signature against the declared one.

    Returns:
        The declared signature of the promised tensors, in the promised order.

    Raises:
        LoadError: names the tensor, what the bundle promises and what the model declares.
    """
    by_name = {node.name: node for node in declared}
    check_names(where, side, promised, by_name)
    return tuple(_match_one(where, side, spec, by_name[spec.name]) for spec in promised)


def _match_one(where: str, side: str, spec: TensorSpec, node: Any) -> TensorSpec:
    dtype = _DTYPES.get(node.type)
    if dtype is None:
        raise LoadError(
            f'{where}: {side} "{spec.name}" is {node.type}, not a dense tensor of numbers; '
            "convert the model without it (for scikit-learn: zipmap off)"
        )
    # An empty list is a scalar or a tensor of unknown rank; only running it tells.
    shape = tuple(
        axis if isinstance(axis, int) else (axis or f"axis_{index}")
        for index, axis in enumerate(node.shape or spec.shape)
    )
    found = TensorSpec(spec.name, dtype, shape)
    check_fit(where, side, spec, found)
    return found


def clean(exc: BaseException | str) -> str:
    """The backend's words, on one line, without its own source paths or ours."""
    text = _PREFIX.sub(r"\1: ", " ".join(str(exc).split()))
    text = _PATH.sub("(path)", text)
    return text if len(text) <= _MESSAGE_CAP else text[: _MESSAGE_CAP - 1] + "…"
