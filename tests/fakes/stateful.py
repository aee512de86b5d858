"""A release that keeps state, on ONNX Runtime, and requests to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from edged.config.schema import ModelConfig
from edged.config.sequence import SequenceConfig
from edged.errors import EdgedError, RunError
from edged.messages import InferResponse, SequencedRequest, SequenceStep, Ticket
from edged.runtimes.base import Artefact, BoundRun, Session
from edged.runtimes.onnxruntime import OnnxRuntime
from edged.serving.dataplane import Dataplane, ServingTable, offer
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.serving.scheduling.precedence import Rules
from edged.serving.scheduling.slots import Devices
from edged.serving.sequences.open_sequences import OpenSequences
from edged.serving.sequences.stateful import StatefulRelease
from edged.tensors import Array
from tests.bundles import make_manifest
from tests.fakes.model import FakeSession, doubler
from tests.models import TinyModel, remembering

INLINE_NS, THREADED_NS = 100, 10**9


def sequence(**fields) -> SequenceConfig:
    return SequenceConfig(state={"h": "hN"}, **fields)


class Watched:
    """A session that notes the rows of its runs, and fails where an input is not a number."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.inputs, self.outputs = session.inputs, session.outputs
        self.runs: list[int] = []
        self.gate: threading.Event | None = None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.runs.append(len(inputs["x"]))
        if self.gate is not None:
            assert self.gate.wait(15)
        if np.isnan(inputs["x"]).any():
            raise RunError("the model failed while running: not a number")
        return self.session.run(inputs)

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> BoundRun | None:
        raise AssertionError("runs with states are not bound")

    def close(self) -> None:
        self.session.close()


def load(model: TinyModel) -> Watched:
    manifest, _ = make_manifest(model)
    artefact = Artefact("gate", model.data, manifest.input_specs(), manifest.output_specs(), {})
    return Watched(OnnxRuntime(threads=1).load(artefact))


def serve(
    sequences: OpenSequences,
    session: Watched,
    number: int = 1,
    *,
    typical_ns: int = INLINE_NS,
    model: TinyModel | None = None,
    settings: ModelConfig | None = None,
    **fields,
) -> StatefulRelease:
    """A release that is ready; ``fields`` are of its sequence section."""
    manifest, _ = make_manifest(model or remembering(), release=number)
    release = StatefulRelease(
        ReleaseKey("gate", f"d{number}", ""),
        manifest,
        settings or ModelConfig(bundle="b", sequence=sequence(**fields)),
        200_000,
        devices=Devices(Rules(4)),
        sequences=sequences,
    )
    for event in (Event.LOAD, Event.LOADED, Event.WARMED):
        if event is Event.WARMED:
            release.loaded(session, "onnxruntime", typical_ns)
        release.move(event)
    return release


def serve_plain(session: FakeSession) -> ServedRelease:
    """A release that keeps nothing, ready."""
    release = ServedRelease(
        ReleaseKey("plain", "d", ""), doubler("plain"), ModelConfig(bundle="b"), 200_000
    )
    for event in (Event.LOAD, Event.LOADED, Event.WARMED):
        if event is Event.WARMED:
            release.loaded(session, "onnxruntime", INLINE_NS)
        release.move(event)
    return release


class Ask:
    """One request of a sequence, and what was answered."""

    def __init__(
        self,
        value: float | Array = 1.0,
        name: int | str = "a",
        *,
        start: bool = False,
        end: bool = False,
        origin: str = "uds:1",
        deadline_ns: int | None = None,
        release: int | None = None,
        outputs: tuple[str, ...] = (),
        then: Callable[[], None] | None = None,
    ) -> None:
        x = value if isinstance(value, np.ndarray) else np.full((1, 3), value, np.float32)
        self.request = SequencedRequest(
            "gate", {"x": x} if x.size else {}, release, outputs, deadline_ns, origin,
            sequence=SequenceStep(name, start, end),
        )  # fmt: skip
        self.answers: list[InferResponse] = []
        self.ticket: Ticket | None = None
        self.then = then

    def to(self, release: StatefulRelease) -> Ask:
        """Ask; what is refused on arrival is an answer too."""
        try:
            self.ticket = offer(release, 5, self.request, self.on_response)
        except EdgedError as exc:
            self.on_response(InferResponse("gate", 0, 5, error=exc), True)
        return self

    def on_response(self, response: InferResponse, final: bool) -> None:
        assert final
        self.answers.append(response)
        if self.then is not None:
            self.then()

    @property
    def error(self) -> EdgedError | None:
        (answer,) = self.answers
        return answer.error

    @property
    def kept(self) -> tuple[float, float]:
        """The sum and the count that the model had before this request."""
        (answer,) = self.answers
        assert answer.error is None, answer.error
        assert list(answer.outputs) == ["y"]
        row = answer.outputs["y"][0]
        assert len(set(row[:3])) == len(set(row[3:])) == 1
        return float(row[0]), float(row[3])


NOTHING = np.zeros((0, 3), np.float32)
"""No inputs: a request that only ends its sequence."""


def soon(ns: int) -> int:
    return time.monotonic_ns() + ns


def door(**fields) -> Dataplane:
    """A dataplane with ``gate``, which keeps state, and ``plain``, which does not."""
    plane = Dataplane()
    gate = serve(OpenSequences(), load(remembering()), **fields)
    plain = serve_plain(FakeSession())
    routes = {"gate": Route("gate", {1: gate}), "plain": Route("plain", {1: plain})}
    plane.swap(ServingTable(1, routes))
    return plane
