"""A dataplane without models: it adds up the inputs, or does as it is told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edged.errors import EdgedError
from edged.manifest import Manifest
from edged.messages import InferRequest, InferResponse, OnResponse
from edged.specs import FeaturesInput
from tests.fakes.manifests import make_manifest

SUM = make_manifest(
    [("x", "float32", ("batch", 2))],
    [("sum", "float32", ("batch",))],
    input_processing={"x": FeaturesInput(names=("a", "b"))},
    name="sum",
)


class FakeDoor:
    """Answers at once, or, with ``hold``, when ``release`` is called.

    Args:
        manifests: by model name.
        hold: keep requests until they are released.
    """

    def __init__(self, manifests: dict[str, Manifest] | None = None, *, hold: bool = False) -> None:
        self.manifests = {"sum": SUM} if manifests is None else manifests
        self.hold = hold
        self.held: list[tuple[InferRequest, OnResponse]] = []
        self.seen: list[InferRequest] = []
        self.errors: list[EdgedError] = []
        self.on_submit: Callable[[InferRequest], None] | None = None

    def manifest(self, model: str, release: int | str | None = None) -> Manifest | None:
        return self.manifests.get(model)

    def places(self, model: str, release: int | str | None = None) -> int:
        return 0

    def submit(self, request: InferRequest, on_response: OnResponse) -> None:
        self.seen.append(request)
        if self.on_submit is not None:
            self.on_submit(request)
        if self.hold:
            self.held.append((request, on_response))
        else:
            self._answer(request, on_response)

    def release(self, index: int = 0) -> None:
        self._answer(*self.held.pop(index))

    def release_all(self) -> None:
        while self.held:
            self.release()

    def _answer(self, request: InferRequest, on_response: OnResponse) -> None:
        error = self.errors.pop(0) if self.errors else None
        outputs = {} if error else {"sum": request.inputs["x"].sum(axis=1, dtype=np.float32)}
        number = self.manifests[request.model].release if request.model in self.manifests else 0
        on_response(InferResponse(request.model, number, 7, outputs, error), True)
