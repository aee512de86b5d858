"""A bare peer that lends memory: every step by hand, so that each can be done wrongly."""

from __future__ import annotations

import array
import mmap
import os
import socket

import numpy as np

from edged.errors import EdgedError
from edged.messages import PrepareRequest
from edged.protocol import memory, native, prepared
from edged.protocol.conversation import ANSWER_LIMITS
from edged.protocol.frames import Frame, Kind
from edged.protocol.memory import BindHead, Source, Target
from edged.protocol.prepared_runs import RUN_FRAME, RUN_HEAD_BYTES, RUN_START
from edged.system.shm import make_memory
from edged.tensors import TensorSpec
from tests.fakes.house import Peer
from tests.fakes.wire import joined


def message_of(frame: Frame) -> str:
    """What an ERROR frame says."""
    error = native.decode_response(frame, "m", ANSWER_LIMITS).error
    assert isinstance(error, EdgedError), f"a frame of kind {frame.kind}"
    return error.message


def send_with(peer: Peer, data: bytes, descriptors: list[int]) -> None:
    rights = array.array("i", descriptors)
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
    assert peer.socket.sendmsg([data], control) == len(data)


def lend(peer: Peer, size: int, descriptors: list[int], number: int = 900) -> Frame:
    """LEND and PASS; the last answer."""
    peer.send(memory.encode_lend(number, size))
    frame = peer.frame()
    if frame.kind != Kind.READY:
        return frame
    send_with(peer, joined(memory.encode_pass(number + 1)), descriptors)
    return peer.frame()


def lent(peer: Peer, size: int) -> tuple[int, mmap.mmap]:
    """New memory that was taken: its region, and our side of it."""
    descriptor = make_memory(size)
    try:
        mine = mmap.mmap(descriptor, size)
        frame = lend(peer, size, [descriptor])
    finally:
        os.close(descriptor)
    assert frame.kind == Kind.LENT, message_of(frame)
    return memory.decode_lent(frame).region, mine


def prepare(peer: Peer, *specs: TensorSpec, model: str = "m") -> int:
    peer.send(prepared.encode_prepare(910, PrepareRequest(model, specs)))
    frame = peer.frame()
    assert frame.kind == Kind.PREPARED, message_of(frame)
    return prepared.decode_prepared(frame, ANSWER_LIMITS)[0].handle


def bind(
    peer: Peer,
    handle: int,
    rows: int,
    inputs: list[tuple[int, int]],
    outputs: list[tuple[int, int, int] | None] | None = None,
) -> Frame:
    places = [None if place is None else Target(*place) for place in outputs or []]
    head = BindHead(handle, rows, [Source(*place) for place in inputs], places)
    peer.send(memory.encode_bind(920, head))
    return peer.frame()


def bound(frame: Frame) -> int:
    assert frame.kind == Kind.BOUND, message_of(frame)
    return memory.decode_bound(frame)


def run(number: int, handle: int, rows: int, body: bytes = b"", timeout_us: int = 0) -> bytes:
    head = (RUN_START, number, RUN_HEAD_BYTES, 0, len(body), handle, rows, timeout_us)
    return RUN_FRAME.pack(*head) + body


def floats(memory_: mmap.mmap, count: int, offset: int = 0) -> np.ndarray:
    return np.frombuffer(memory_, np.float32, count, offset)
