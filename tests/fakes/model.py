"""A model without a runtime: doubles its input, fails, blocks or lies on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np

from edged.manifest import ArtefactEntry, Manifest
from edged.runtimes.base import Artefact, RuntimeInfo
from edged.tensors import Array
from tests.fakes.manifests import make_manifest

Arrays = dict[str, Array]
WIDTH = 4


def doubler(name: str = "gate", release: int = 1, shape: tuple = ("batch", WIDTH)) -> Manifest:
    """x float32[batch,4] -> y float32[batch,4]."""
    return make_manifest(
        [("x", "float32", shape)], [("y", "float32", shape)], name=name, release=release
    )


def double(inputs: Mapping[str, Array]) -> Arrays:
    return {"y": inputs["x"] * 2}


class FakeSession:
    """Runs ``function``; waits for ``gate`` when there is one. Counts rows of each run."""

    def __init__(self, function: Callable[..., Arrays] = double) -> None:
        self.function = function
        self.gate: threading.Event | None = None
        self.runs: list[int] = []
        self.threads: set[int] = set()
        self.closed = 0

    inputs = ()
    outputs = ()

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        assert not self.closed, "a closed session was run"
        first = next(iter(inputs.values()))
        self.runs.append(first.shape[0] if first.ndim else 1)
        self.threads.add(threading.get_ident())
        if self.gate is not None:
            assert self.gate.wait(15)
        return self.function(inputs)

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> BoundFake:
        return BoundFake(self, inputs, outputs)

    def close(self) -> None:
        self.closed += 1


class BoundFake:
    """A run of a FakeSession from fixed memory to fixed memory."""

    def __init__(self, session: FakeSession, inputs: Mapping, outputs: Mapping) -> None:
        self.session, self.inputs, self.outputs = session, inputs, outputs

    def run(self) -> None:
        for name, value in self.session.run(self.inputs).items():
            assert self.outputs[name].shape == value.shape, "another shape than was bound"
            self.outputs[name][...] = value


class FakeRuntime:
    """Loads FakeSessions; ``problem`` or ``error`` say why not, ``gate`` makes loading slow."""

    name = "onnxruntime"

    def __init__(self, function: Callable[..., Arrays] = double) -> None:
        self.function = function
        self.problem = ""
        self.error: BaseException | None = None
        self.gate: threading.Event | None = None
        self.sessions: list[FakeSession] = []
        self.loads: list[str] = []

    def info(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, "1.0", ("cpu",), self.problem)

    def estimate_bytes(self, artefact: Artefact) -> int:
        return len(artefact.data)

    def load(self, artefact: Artefact) -> FakeSession:
        self.loads.append(artefact.model)
        if self.gate is not None:
            assert self.gate.wait(15)
        if self.error is not None:
            raise self.error
        self.sessions.append(FakeSession(self.function))
        return self.sessions[-1]


class FakeStored:
    """A stored release with three golden rows; ``off_by`` makes the promise a false one."""

    def __init__(self, manifest: Manifest, *, off_by: float = 0.0, has_golden: bool = True) -> None:
        self.manifest = manifest
        self.off_by = off_by
        self.has_golden = has_golden

    def artefact(self, runtime: str, precision: str = "") -> bytes:
        return runtime.encode() if len(self.manifest.artefacts) == 1 else precision.encode()

    def sidecars(self, entry: ArtefactEntry) -> dict[str, bytes]:
        return {}

    def golden(self, entry: ArtefactEntry | None = None) -> tuple[Arrays, Arrays] | None:
        if not self.has_golden:
            return None
        x = np.arange(3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)
        return {"x": x}, {"y": x * 2 + np.float32(self.off_by)}
