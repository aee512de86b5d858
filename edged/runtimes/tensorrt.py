"""The TensorRT backend: runs engines that were built for this very machine.

Takes engine files (``engine.py``), not models: building takes minutes and is done beforehand, in a
process of its own (``edged/engines/``). Decides whether an engine may run here, before TensorRT
sees it: it answers a wrong one with None at best, and without a driver it crashes.
"""

from __future__ import annotations

from edged.errors import LoadError
from edged.runtimes.base import Artefact, RuntimeInfo
from edged.runtimes.cuda import Cuda, CudaError, driver_problem, open_cuda
from edged.runtimes.engine import Engine, Host, decode, differences, engine_bytes, host_of
from edged.runtimes.tensorrt_api import TensorRt, find_tensorrt
from edged.runtimes.tensorrt_session import TensorRtSession

_LANES = 2
"""Runs at once: the copies of one go while the other computes. More contexts cost memory and share
the same GPU."""


class TensorRtRuntime:
    """Loads engines.

    Args:
        threads: not used: the work is the GPU's.
        device: which GPU, as CUDA counts.
        trt: the package; the installed one when None.
        cuda: how CUDA is reached; the installed way when None.
        lanes: most runs at once of one session.
        has_graphs: whether CUDA graphs are tried.
    """

    name = "tensorrt"

    def __init__(
        self,
        *,
        threads: int = 1,
        device: int = 0,
        trt: TensorRt | None = None,
        cuda: Cuda | None = None,
        lanes: int = _LANES,
        has_graphs: bool = True,
    ) -> None:
        del threads
        self._device = device
        self._trt = trt
        self._cuda = cuda
        self._lanes = lanes
        self._has_graphs = has_graphs

    def info(self) -> RuntimeInfo:
        """Say whether a driver, a GPU, TensorRT and a way to CUDA are there."""
        try:
            trt, cuda = self.open()
        except LoadError as exc:
            return RuntimeInfo(self.name, "", (), exc.message)
        return RuntimeInfo(self.name, trt.version, (f"cuda:{cuda.describe().index}",))

    def open(self) -> tuple[TensorRt, Cuda]:
        """The package and the device.

        Raises:
            LoadError: what is missing.
        """
        if self._cuda is None:
            if problem := driver_problem():
                raise LoadError(problem)
            self._trt = self._trt or find_tensorrt()
            self._cuda = open_cuda(self._device)
        self._trt = self._trt or find_tensorrt()
        return self._trt, self._cuda

    def host(self) -> Host:
        """This machine, as engines are bound to it."""
        trt, cuda = self.open()
        cuda.use()
        return host_of(trt.product, trt.version, trt.parser_version, cuda.describe())

    def estimate_bytes(self, artefact: Artefact) -> int:
        """Upper bound of what loading takes on the device, without the tensors of a run."""
        return engine_bytes(artefact.data)

    def load(self, artefact: Artefact) -> TensorRtSession:
        """Check an engine file against this machine, and load it.

        Raises:
            LoadError: no engine file, one that was built elsewhere (says what differs), or one
                that TensorRT refuses (with its words).
        """
        where = f'model "{artefact.model}"'
        trt, cuda = self.open()
        try:
            engine = decode(artefact.data)
            check_host(where, engine, self.host())
            return TensorRtSession(
                trt, cuda, engine, artefact, self._lanes, has_graphs=self._has_graphs
            )
        except CudaError as exc:
            raise LoadError(f"{where}: {exc.message}") from exc
        except LoadError as exc:
            if exc.message.startswith(where):
                raise
            raise LoadError(f"{where}: {exc.message}") from exc


def check_host(where: str, engine: Engine, here: Host) -> None:
    """Raise LoadError, with what differs, for an engine that was built elsewhere."""
    wrong = differences(engine.fingerprint.host, here)
    if wrong:
        raise LoadError(
            f"{where}: the engine was built for {'; '.join(wrong)}; build it again on this device"
        )
