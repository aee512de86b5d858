"""ModelInfer over gRPC: one request to the dataplane, and its answer or error back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from edged.errors import BusyError, EdgedError, RuntimeFailureError
from edged.messages import (
    InferRequest,
    InferResponse,
    OnResponse,
    Ticket,
)
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Head, OnReply, Reply, Withdrawal
from edged.protocol.grpc_repeat import GrpcRepeat
from edged.protocol.oip import grpc_status_of, text_of
from edged.protocol.oip_grpc import Inference, decode_infer, encode_infer
from edged.protocol.oip_request import Asked
from edged.protocol.oip_shared import Memory
from edged.transports.grpc.repeats import Repeats, deadline_ns_of
from edged.transports.oip_door import Door, Pages

log = logging.getLogger("edged.grpc")

_TEXT_CHARACTERS = 2048
"""Of an error. It travels among the headers, of which clients take 8 KiB, and may triple there."""


@dataclass(slots=True)
class Limits:
    """What holds for the next call of any connection.

    Args:
        max_request_bytes: most bytes of the tensors of one request.
        unread_wait_s: how long a client of a stream may take no answer.
    """

    max_request_bytes: int = 64 << 20
    unread_wait_s: float = 30.0


class Inferences:
    """Requests of one connection.

    Args:
        door: answers them.
        pages: knows the labels of classes.
        limits: hold for each call as they are then.
        memory: gives the client's regions of memory by name; None where that is off.
    """

    def __init__(
        self, door: Door, pages: Pages, limits: Limits, memory: Callable[[], Memory | None]
    ) -> None:
        self.door = door
        self.limits = limits
        self._pages = pages
        self._memory = memory
        # All connections are one asker, which is alone while nobody asks in another way: what they
        # ask for is as short, and standing in line costs half as much again as answering it.
        self._repeats = Repeats(door, self._again, limits)

    def follow(self, door: Door) -> None:
        """Ask through this from now on; nothing that was prepared before is asked again."""
        self.door = self._repeats.door = door
        self._repeats.clear()

    def forget(self) -> None:
        """The client is gone."""
        self._repeats.clear()

    def submit(self, request: InferRequest, on_response: OnResponse) -> Ticket | None:
        """As the dataplane's."""
        return self.door.submit(request, on_response)

    def ask(self, head: Head, message: Buffer, on_reply: OnReply) -> Withdrawal | None:
        """Answer a ModelInfer; raises EdgedError for one that is none."""
        is_known, ticket = self._repeats.ask(head, message, on_reply)
        if is_known:
            return ticket
        inference = self.read(message)
        asked = inference.asked

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                on_reply(self.reply(asked, response, head.origin))

        self._repeats.notice(message, inference)
        return self.door.submit(self.request(head, inference), on_response)

    def ask_alone(self, head: Head, message: bytes) -> bytes | None:
        """The answer to a ModelInfer that is known, where it can be given at once."""
        return self._repeats.ask_alone(head, message)

    def read(self, message: Buffer) -> Inference:
        """What a message asks; raises EdgedError for one that is none."""
        return decode_infer(message, self.limits.max_request_bytes, self._memory())

    def request(self, head: Head, inference: Inference) -> InferRequest:
        """What the dataplane is asked; the earlier deadline holds, the call's or the request's."""
        asked = inference.asked
        deadline_ns = deadline_ns_of(head, asked.timeout_us)
        return asked.request(inference.model, inference.release, deadline_ns, head.origin)

    def reply(self, asked: Asked, response: InferResponse, origin: str) -> Reply:
        """What came of it."""
        return self._told(response, origin, lambda: self.message(asked, response))

    def _again(self, repeat: GrpcRepeat, message: Buffer, response: InferResponse) -> Reply:
        if response.error is not None:
            # What the call was prepared for may be no more: the long way looks again.
            self._repeats.clear()
        return self._told(response, "a client", lambda: repeat.answer(response, message))

    def _told(
        self, response: InferResponse, origin: str, encode: Callable[[], list[Buffer]]
    ) -> Reply:
        if response.error is not None:
            return failure(response.error)
        try:
            return Reply(encode())
        except EdgedError as exc:
            return failure(exc)
        except Exception:
            log.exception("an answer to %s could not be written", origin)
            return failure(RuntimeFailureError("the answer could not be written; see the log"))

    def message(
        self, asked: Asked, response: InferResponse, *, is_end: bool | None = None
    ) -> list[Buffer]:
        """An answer as a ModelInferResponse; ``is_end`` as in ``encode_infer``."""
        labels = {}
        if asked.wants_labels:
            labels = self._pages.labels(response.model, response.release)
        return encode_infer(asked, response, labels, is_end)


def failure(error: EdgedError) -> Reply:
    """How an error is told."""
    trailers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, BusyError) and error.retry_after_ns:
        # Clients that try again by themselves, as KServe's does, then wait so long.
        trailers = (("grpc-retry-pushback-ms", str(-(-error.retry_after_ns // 1_000_000))),)
    return Reply([], grpc_status_of(error), text_of(error)[:_TEXT_CHARACTERS], trailers)
