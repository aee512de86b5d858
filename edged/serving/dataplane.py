"""The one door: every transport hands its requests to ``submit`` and nothing else.

Decides nothing itself: it finds the route, checks the tensors, admits or refuses, and queues.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from edged.errors import (
    Code,
    DeadlineExceededError,
    DrainingError,
    EdgedError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelNotReadyError,
    RuntimeFailureError,
)
from edged.manifest import Manifest
from edged.messages import (
    InferRequest,
    InferResponse,
    OnResponse,
    PrepareRequest,
    SequencedRequest,
    Ticket,
)
from edged.serving.counters import transport_of
from edged.serving.layouts import outputs_of
from edged.serving.prepared import PreparedCall
from edged.serving.rollout import Rollout
from edged.serving.router import Route, choose_release
from edged.serving.scheduling.scheduler import Waiting, layout_of
from edged.serving.sequences.stateful import StatefulRelease
from edged.serving.served import Served
from edged.tensors import check_tensors

log = logging.getLogger("edged.serving")

Tap = Callable[[InferRequest, InferResponse], None]
"""Hears a request's last answer after whoever asked."""


@dataclass(frozen=True, slots=True)
class ServingTable:
    """What is served under one configuration generation; replaced as a whole, never patched."""

    generation: int = 0
    routes: Mapping[str, Route] = field(default_factory=dict)
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    """By model, of those that have one."""

    def manifest(self, model: str, selector: int | str | None = None) -> Manifest | None:
        """The manifest of the release that would answer, or None when none would."""
        route = self.routes.get(model)
        if route is None:
            return None
        try:
            return choose_release(route, selector).manifest
        except EdgedError:
            return None


class Dataplane:
    """Takes requests for the current table."""

    def __init__(self) -> None:
        self.table = ServingTable()
        self.taps: Mapping[str, Tap] = {}
        """By model; pipelines that ask a model inside are not heard."""
        self.is_draining = False
        self.refused = 0
        self.refusals: dict[tuple[str, str, Code], int] = {}
        """By model, transport and code; a model that is not configured reads as none."""

    def swap(self, table: ServingTable) -> None:
        """Serve by another table from now on; requests in flight finish on theirs."""
        self.table = table

    def tap(self, taps: Mapping[str, Tap]) -> None:
        """Let these hear the answers of their models from now on."""
        if taps or self.taps:
            self.taps = dict(taps)
            self.table = replace(self.table)  # what was looked up for many requests is so anew

    def manifest(self, model: str, release: int | str | None = None) -> Manifest | None:
        """The manifest of the release that would answer, or None when none would."""
        return self.table.manifest(model, release)

    def places(self, model: str, release: int | str | None = None) -> int:
        """Requests that the release that would answer can have in hand; 0 = not known."""
        route = self.table.routes.get(model)
        if route is None:
            return 0
        try:
            return choose_release(route, release).places
        except EdgedError:
            return 0

    def submit(self, request: InferRequest, on_response: OnResponse) -> Ticket | None:
        """Answer a request, now or later.

        Args:
            request: arrays in it must not change until the answer is there.
            on_response: called on the event loop, exactly once with ``final`` True; for a request
                that is refused it is called before this returns.

        Returns:
            What withdraws it while it waits; None when it was answered or refused.
        """
        table = self.table
        if request.model in self.taps:
            on_response = self.heard(request, on_response)
        number = 0
        try:
            release = self.admit(table, request.model, request.release)
            if table.rollouts and request.release is None:
                rollout = table.rollouts.get(request.model)
                if rollout is not None:
                    release, on_response = rollout.take(release, request, on_response)
            number = release.number
            return offer(release, table.generation, request, on_response)
        except EdgedError as exc:
            self.refuse(request, on_response, exc, number)
        except Exception:
            log.exception("a request from %s could not be handled", request.origin)
            error = RuntimeFailureError("the request could not be handled; see the daemon's log")
            self.refuse(request, on_response, error, number)
        return None

    def heard(self, request: InferRequest, on_response: OnResponse) -> OnResponse:
        """Answers whoever asked, and then lets the tap of the model hear it."""
        tap = self.taps[request.model]

        def answer(response: InferResponse, final: bool) -> None:
            on_response(response, final)
            if final:
                try:
                    tap(request, response)
                except Exception:
                    log.exception("an answer to %s could not be passed on", request.origin)

        return answer

    def prepare(self, request: PrepareRequest) -> PreparedCall:
        """Look up model, release and layout once for many requests.

        Raises:
            EdgedError: as a request of that layout would be refused.
        """
        return PreparedCall(self, request)

    def admit(self, table: ServingTable, model: str, selector: int | str | None) -> Served:
        """Find who answers.

        Raises:
            EdgedError: the daemon is stopping, or there is no such model or release, or none ready.
        """
        if self.is_draining:
            raise DrainingError("the daemon is stopping and takes no new requests")
        route = table.routes.get(model)
        if route is None:
            known = ", ".join(f'"{name}"' for name in sorted(table.routes)) or "none"
            raise ModelNotFoundError(
                f'no model "{model[:64]}" is configured; the models are: {known}'
            )
        try:
            return choose_release(route, selector)
        except ModelNotReadyError:
            # The stable release is down: which requests another takes is said by the rollout.
            other = None if selector is not None or route.rollout is None else route.rollout.other
            if other is None:
                raise
            return other

    def count_refusal(self, model: str, origin: str, error: EdgedError) -> None:
        """Note that a request was refused before it was queued."""
        self.refused += 1
        key = (model if model in self.table.routes else "", transport_of(origin), error.code)
        self.refusals[key] = self.refusals.get(key, 0) + 1
        log.debug("refused %s: %s", origin, error.message)

    def refuse(
        self, request: InferRequest, on_response: OnResponse, error: EdgedError, number: int
    ) -> None:
        """Answer a request with an error, before it was queued."""
        self.count_refusal(request.model, request.origin, error)
        response = InferResponse(request.model, number, self.table.generation, error=error)
        try:
            on_response(response, True)
        except Exception:
            log.exception("a transport's callback raised for %s", request.origin)


def offer(
    release: Served, generation: int, request: InferRequest, on_response: OnResponse
) -> Ticket | None:
    """Check a request against the release that was found for it, and queue it there.

    Returns:
        What withdraws it; None when it has been answered already.

    Raises:
        EdgedError: it does not fit, is late, or there is no room; ``on_response`` is not called.
    """
    if type(request) is SequencedRequest:
        release, rows = _of_sequence(release, request)
    else:
        rows = check_tensors(release.inputs, request.inputs, release.owner)
    if request.outputs:
        outputs_of(release, request.outputs)
    now_ns = time.monotonic_ns()
    if request.deadline_ns is not None and request.deadline_ns <= now_ns:
        raise DeadlineExceededError(f"{release.owner}: the deadline had passed on arrival")
    layout = layout_of(release.inputs, request) if release.needs_layout and rows != 0 else ()
    size = sum(array.nbytes for array in request.inputs.values())
    item = Waiting(request, on_response, rows or 1, layout, size, now_ns, generation, release)
    return release.ask(item)


def _of_sequence(asked: Served, request: SequencedRequest) -> tuple[Served, int | None]:
    """Who goes on with the sequence, and the rows; 0 where there is nothing to run."""
    if not isinstance(asked, StatefulRelease):
        raise InvalidRequestError(
            f"{asked.owner} keeps nothing from one request to the next: ask it without a "
            "sequence (models.NAME.sequence makes a model keep state)"
        )
    release = asked.sequences.answerer(asked, request)
    if request.only_ends:
        return release, 0
    return release, check_tensors(release.inputs, request.inputs, release.owner)
