"""A small model that makes texts, as a folder, an artefact and a bundle: the one of the docs."""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from converters.texts.example import Size, make_folder
from edged import generating
from edged.manifest import ArtefactEntry, Manifest, Member, TensorEntry
from edged.runtimes.base import Artefact, RuntimeInfo
from edged.runtimes.genai_config import CONFIG
from edged.runtimes.onnxruntime_genai import GenaiRuntime, GenaiSession
from edged.specs import OutputProcessing, TextInput
from edged.tensors import Array
from tests.bundles import make_bundle

PROMPT = "the pump is hot"
TYPES = {".onnx": "onnx", ".data": "onnx-data", ".json": "json", ".txt": "text"}


@functools.cache
def files(context: int = 512) -> Mapping[str, bytes]:
    """The folder, by file name; the weights are the same for every context."""
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder), Size(context=context))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def artefact(**changed: bytes) -> Artefact:
    """The folder as a runtime takes it; ``changed`` by name, with ``_`` for other signs."""
    other = {name: changed.get(name.replace(".", "_"), data) for name, data in files().items()}
    config = other.pop(CONFIG)
    return Artefact("story", config, generating.INPUTS, generating.OUTPUTS, other)


def named(context: int) -> dict[str, bytes]:
    """The files of another context, as ``artefact`` takes them."""
    return {name.replace(".", "_"): data for name, data in files(context).items()}


def needs_package() -> None:
    """Skip where the package has no wheel."""
    if problem := GenaiRuntime(threads=1).info().problem:
        pytest.skip(problem)


def session(threads: int = 1, **changed: bytes) -> GenaiSession:
    """The model, loaded."""
    needs_package()
    return GenaiRuntime(threads=threads).load(artefact(**changed))


def ask(prompt: str = PROMPT, **options: Any) -> dict[str, Array]:
    """A request."""
    return generating.request(prompt, **options)


class Whole(NamedTuple):
    """A text as it was given."""

    text: str
    tokens: list[int]
    finish: str


def whole(outputs: Mapping[str, Array]) -> Whole:
    """An answer in plain values."""
    text, finish = (generating.text_of(outputs[name]) for name in ("text", "finish"))
    return Whole(text, outputs["tokens"].tolist(), finish)


@functools.cache
def greedy(prompt: str = PROMPT, count: int = 24) -> Whole:
    """What the model says, by itself."""
    return whole(session().run(ask(prompt, max_new_tokens=count)))


class _Golden(NamedTuple):
    """The model as ``make_bundle`` wants it."""

    data: bytes
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]

    def golden(self, _rows: int) -> tuple[dict[str, Array], dict[str, Array]]:
        asked = ask(max_new_tokens=8)
        return asked, session().run(asked)


def make_text_bundle(path: Path, *, golden: bool = True, context: int = 512, **fields: Any) -> None:
    """A signed bundle of the model."""
    others = {name: data for name, data in files(context).items() if name != CONFIG}
    inputs, outputs = (
        tuple(TensorEntry(spec.name, spec.dtype, spec.shape) for spec in specs)  # type: ignore[arg-type]
        for specs in (generating.INPUTS, generating.OUTPUTS)
    )
    make_bundle(
        path,
        _Golden(files(context)[CONFIG], inputs, outputs),
        **{"name": "story", **fields},
        golden=golden,
        golden_rows=1,
        extra={name: (TYPES[Path(name).suffix], data) for name, data in others.items()},
        artefact=ArtefactEntry("genai", CONFIG, files=tuple(others)),
        artefact_type="json",
        input_processing={"request": TextInput()},
        output_processing={name: OutputProcessing(text=True) for name in ("text", "finish")},
    )


class CountingSession:
    """Counts instead of making texts, a token each time the gate lets one through."""

    inputs, outputs = generating.INPUTS, generating.OUTPUTS

    def __init__(self) -> None:
        self.gate: threading.Semaphore | None = None
        self.asked: list[tuple[generating.Ask, generating.Caps]] = []
        self.made = self.ended = 0
        self.error: Exception | None = None

    def generate(
        self, ask: generating.Ask, caps: generating.Caps
    ) -> Generator[generating.Piece, None, None]:
        """``0 1 2 …`` until the cap; fails after the first where there is an error."""
        self.asked.append((ask, caps))
        most = min(ask.max_new_tokens or caps.max_new_tokens, caps.max_new_tokens)
        try:
            for number in range(most):
                if self.gate is not None:
                    assert self.gate.acquire(timeout=15)
                if number and self.error is not None:
                    raise self.error
                self.made += 1
                is_last = number == most - 1
                yield generating.Piece(f"{number} ", number, generating.LENGTH * is_last)
        finally:
            self.ended += 1

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All at once."""
        asked = generating.read_request(inputs[generating.REQUEST].tobytes())
        return generating.tensors(self.generate(asked, generating.UNCAPPED))

    def bind(self, _inputs: Mapping[str, Array], _outputs: Mapping[str, Array]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class CountingRuntime:
    """Loads the one session."""

    name = "onnxruntime-genai"

    def __init__(self) -> None:
        self.session = CountingSession()
        self.gate: threading.Event | None = None
        self.sessions: list[Any] = []

    def info(self) -> RuntimeInfo:
        """There."""
        return RuntimeInfo(self.name, "1.0", ("cpu",))

    def load(self, _artefact: Artefact) -> CountingSession:
        """The same each time."""
        return self.session


COUNTING = Artefact("story", b"x", generating.INPUTS, generating.OUTPUTS)


def text_manifest() -> Manifest:
    """Of a bundle that only has to look like one."""
    sides = [
        tuple(TensorEntry(spec.name, spec.dtype, spec.shape) for spec in specs)
        for specs in (generating.INPUTS, generating.OUTPUTS)
    ]
    members = (
        Member(CONFIG, "json", 1, "0" * 64),
        Member("model.onnx", "onnx", 1, "0" * 64),
    )
    return Manifest(
        format="edged-bundle-v1", name="story", release=1, version="1", inputs=sides[0],
        outputs=sides[1], artefacts=(ArtefactEntry("genai", CONFIG, files=("model.onnx",)),),
        members=members, input_processing={"request": TextInput()},
        output_processing={name: OutputProcessing(text=True) for name in ("text", "finish")},
    )  # fmt: skip
