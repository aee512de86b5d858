"""A bundle that has one model in float32 and int8, and runtimes that tell the two apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from edged.errors import EdgedError
from edged.manifest import ArtefactEntry, Golden, Manifest, Tolerance
from edged.runtimes.base import Artefact
from tests.fakes.model import Arrays, FakeRuntime, FakeSession, FakeStored, doubler

OFF = {"float32": 0.0, "float16": 0.0, "int8": 0.25}
"""What each answers beside the double of its input."""


def two_precisions(name: str = "gate", release: int = 3) -> Manifest:
    own = Golden("golden-int8.safetensors", 3, {"y": Tolerance(atol=0.05)})
    entries = (
        ArtefactEntry("onnx", "model.onnx", "float32"),
        ArtefactEntry("onnx", "model-int8.onnx", "int8", golden=own),
    )
    golden = Golden("golden.safetensors", 3, {"y": Tolerance()})
    return msgspec.structs.replace(doubler(name, release), artefacts=entries, golden=golden)


def answering(precision: str, error: float = 0.0) -> Callable[[Mapping], Arrays]:
    return lambda inputs: {"y": inputs["x"] * 2 + np.float32(OFF[precision] + error)}


class TwoStored(FakeStored):
    """Each file's own answers, to the same inputs; ``lies`` makes the promise of some a false one."""

    def __init__(self) -> None:
        super().__init__(two_precisions())
        self.lies: set[str] = set()

    def golden(self, entry: ArtefactEntry | None = None) -> tuple[Arrays, Arrays] | None:
        precision = entry.precision if entry else "float32"
        inputs, outputs = super().golden() or ({}, {})
        off = np.float32(OFF[precision] + (precision in self.lies))
        return inputs, {"y": outputs["y"] + off}


class TwoRuntime(FakeRuntime):
    """Loads either; ``errors`` say which it does not take, ``hooks`` run instead of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, EdgedError] = {}
        self.hooks: dict[str, Callable[[Mapping], Arrays]] = {}
        self.took: list[str] = []

    def load(self, artefact: Artefact) -> FakeSession:
        precision = artefact.data.decode()
        self.took.append(precision)
        if precision in self.errors:
            raise self.errors[precision]
        self.function = self.hooks.get(precision, answering(precision))
        return super().load(artefact)
