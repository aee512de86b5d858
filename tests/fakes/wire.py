"""Both ends of the native protocol joined without a socket, and a door that answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edged.errors import CancelledError, EdgedError, RemoteProtocolError
from edged.messages import InferRequest, InferResponse, OnResponse, PrepareRequest
from edged.protocol.frames import HEADER, MAGIC, Buffer, Frame, FrameReader, Limits
from edged.runtimes.base import StillRunningError
from edged.system.cores import Stay
from edged.tensors import TensorSpec

Event = tuple[int, int, bytes, bytes] | str


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(buffers)


def only(buffers: list[Buffer], limits: Limits | None = None) -> Frame:
    """The one frame that these buffers are, as the other end reads it."""
    (frame,) = FrameReader(limits or Limits()).feed(joined(buffers))
    return frame


def header(
    *, magic: bytes = MAGIC, version: int = 1, kind: int = 3, flags: int = 0, number: int = 1,
    head: int = 0, reserved: int = 0, body: int = 0,
) -> bytes:  # fmt: skip
    """A frame header with any field wrong."""
    return HEADER.pack(magic, version, kind, flags, number, head, reserved, body)


def events(pieces: Iterator[bytes] | list[bytes], limits: Limits | None = None) -> list[Event]:
    """What a reader makes of a stream that arrives in these pieces; an error is the last event."""
    reader = FrameReader(limits or Limits())
    found: list[Event] = []
    try:
        for piece in pieces:
            found += [
                (frame.kind, frame.request_id, bytes(frame.head), bytes(frame.body))
                for frame in reader.feed(piece)
            ]
            reader.check()
    except RemoteProtocolError as exc:
        found.append(exc.message)
    return found


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """The same bytes, cut at these places."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@dataclass
class Held:
    """What a held request may be withdrawn with."""

    door: EchoDoor
    request: InferRequest
    on_response: OnResponse

    def cancel(self) -> bool:
        held = [one for one in self.door.held if one[0] is not self.request]
        if len(held) == len(self.door.held):
            return False
        self.door.held = held
        self.door.cancelled += 1
        error = CancelledError("withdrawn before its turn")
        self.on_response(InferResponse(self.request.model, 7, 3, error=error), True)
        return True


@dataclass
class EchoCall:
    """A prepared call of the echo: answers hold what requests hold."""

    door: EchoDoor
    request: PrepareRequest
    release: int = 7
    generation: int = 3
    is_apart: bool = False

    @property
    def is_current(self) -> bool:
        return not self.door.is_swapped

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.release,)

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.request.inputs

    @property
    def turn(self) -> EchoDoor:
        return self.door

    outlook = (1, 0, 0)
    entry = None

    @property
    def shared(self) -> EchoCall:
        return self

    @property
    def gathers(self) -> int:
        return self.door.gathers

    def enlist(self, runs: Any) -> None:
        asyncio.get_running_loop().call_soon(runs.pump)

    def adopt(
        self, inputs: dict[str, np.ndarray], rows: int, origin: str, on_response: OnResponse
    ) -> None:
        self.door.adopted += 1
        self.submit(inputs, rows, None, origin, on_response)

    def bind(self, inputs: dict, outputs: dict, rows: int) -> EchoLone:
        self.door.bound += 1
        return EchoLone(self, inputs, outputs)

    def shuts_out(
        self, rows: int, deadline_ns: int | None, now_ns: int, origin: str
    ) -> EdgedError | None:
        return self.door.shut_out

    def submit(
        self,
        inputs: dict[str, np.ndarray],
        rows: int,
        deadline_ns: int | None,
        origin: str,
        on_response: OnResponse,
        *,
        key: Any = None,
    ) -> Held | None:
        request = InferRequest(self.request.model, inputs, None, (), deadline_ns, origin, key)
        self.door.keys.append(key)
        if self.door.error is not None:
            error, self.door.error = self.door.error, None
            on_response(InferResponse(request.model, 7, 3, error=error), True)
            return None
        return self.door.submit(request, on_response)


@dataclass
class EchoLone:
    """Runs of an asker who is alone: refused when the door says so."""

    call: EchoCall
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    is_current: bool = True

    def run(self, origin: str, key: Any = None) -> tuple[int, int, int, int] | None:
        door = self.call.door
        if door.is_holding or door.error is not None:
            return None
        if door.is_late:
            raise StillRunningError
        door.lone.append(origin)
        door.keys.append(key)
        for name, array in self.inputs.items():
            self.outputs[name][...] = array
        return self.call.release, self.call.generation, door.lone_ns, 1

    def run_for(self, askers: Sequence[tuple[str, int]]) -> int:
        door = self.call.door
        if door.is_holding or door.error is not None or door.is_swapped:
            return 0
        door.together.append(len(askers))
        for name, array in self.inputs.items():
            self.outputs[name][...] = array
        return door.lone_ns


class EchoDoor:
    """Answers each request with its own inputs, at once or when ``release_all`` is called."""

    def __init__(self) -> None:
        self.is_holding = False
        self.requests: list[InferRequest] = []
        self.held: list[tuple[InferRequest, OnResponse]] = []
        self.cancelled = 0
        self.prepared = 0
        self.is_quiet = self.is_late = self.is_swapped = False
        self.adopted = 0
        self.bound = 0
        self.lone: list[str] = []
        self.keys: list[Any] = []
        """Of the runs of prepared calls, whichever way they took."""
        self.lone_ns = 1000
        self.gathers = 0
        self.together: list[int] = []
        self.stay = Stay()
        self.refusal: EdgedError | None = None
        self.shut_out: EdgedError | None = None
        self.error: EdgedError | None = None

    def submit(self, request: InferRequest, on_response: OnResponse) -> Held | None:
        self.requests.append(request)
        if not self.is_holding:
            answer(request, on_response)
            return None
        self.held.append((request, on_response))
        return Held(self, request, on_response)

    def prepare(self, request: PrepareRequest) -> EchoCall:
        if self.refusal is not None:
            raise self.refusal
        self.prepared += 1
        return EchoCall(self, request)

    def is_alone(self, asker: object, *, is_many: bool = False) -> bool:
        return self.is_quiet

    def is_still_alone(self, asker: object) -> bool:
        return self.is_quiet

    def release_all(self) -> None:
        held, self.held = self.held, []
        for request, on_response in held:
            answer(request, on_response)


def answer(request: InferRequest, on_response: OnResponse) -> None:
    outputs = {f"{name}": np.asarray(array) for name, array in request.inputs.items()}
    on_response(InferResponse(request.model, 7, 3, outputs, batch_rows=1), True)
