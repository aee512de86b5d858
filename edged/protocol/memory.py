"""Native protocol, passed memory: regions that a client lends, and calls bound to places in them.

LEND asks for it, READY says that a descriptor may come, PASS brings one along (SCM_RIGHTS), and
LENT names the region; RECALL ends it. BIND fixes where a prepared call reads and writes; then a RUN
of the handle that BOUND names has no body. NEAR says on which core the client waits
for its answers. No descriptor is seen here.

Full description: docs/protocol.md.
"""

from __future__ import annotations

import msgspec

from edged.errors import InvalidRequestError
from edged.protocol.frames import Buffer, Frame, Kind, Limits, encode_frame
from edged.protocol.native import decode_head, encode_head

ALIGNED = 64
"""A tensor whose offset is a multiple of this is read and written where it lies: a line of every
processor's cache, and what the backends' own memory is aligned to."""
NEAR_BYTES = 512 << 10
"""With so many bytes of inputs where they lie, what fetching them from another core's caches costs
is more than all else: some 40 ns a KiB between cores of a server, so 20 us here."""


class LendHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of LEND: the bytes that will be lent, counted from the start of the memory."""

    size: int


class LentHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of LENT: the region's number on this connection, and whether answers may go there."""

    region: int
    is_writable: bool


class RecallHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of RECALL: a region that will not be used again."""

    region: int


class Source(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where an input is read: its layout says how many bytes."""

    region: int
    offset: int


class Target(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where an output is written, and the bytes it may take."""

    region: int
    offset: int
    size: int


class BindHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of BIND: a prepared call, its rows, and places in the order of its layout.

    An output without a place comes in the body of the answer, as without BIND.
    """

    handle: int
    rows: int
    inputs: list[Source]
    outputs: list[Target | None] = []


class BoundHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of BOUND: the handle for RUN frames without a body."""

    handle: int


class NearHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Head of NEAR: the core that the client writes its inputs on, and waits on."""

    core: int


_lend_decoder = msgspec.msgpack.Decoder(LendHead)
_lent_decoder = msgspec.msgpack.Decoder(LentHead)
_recall_decoder = msgspec.msgpack.Decoder(RecallHead)
_bind_decoder = msgspec.msgpack.Decoder(BindHead)
_bound_decoder = msgspec.msgpack.Decoder(BoundHead)
_near_decoder = msgspec.msgpack.Decoder(NearHead)


def encode_lend(request_id: int, size: int) -> list[Buffer]:
    """A LEND frame."""
    return encode_frame(Kind.LEND, request_id, encode_head(LendHead(size)), [])


def decode_lend(frame: Frame) -> int:
    """Read a LEND frame; returns the bytes.

    Raises:
        InvalidRequestError: none, or fewer.
    """
    size = decode_head(_lend_decoder, frame).size
    if size < 1:
        raise InvalidRequestError(f"{size} bytes of memory: expected 1 or more")
    return size


def encode_ready(request_id: int) -> list[Buffer]:
    """A READY frame."""
    return encode_frame(Kind.READY, request_id, b"", [])


def encode_pass(request_id: int) -> list[Buffer]:
    """A PASS frame; the descriptor goes with its bytes."""
    return encode_frame(Kind.PASS, request_id, b"", [])


def encode_lent(request_id: int, region: int, *, is_writable: bool) -> list[Buffer]:
    """A LENT frame."""
    return encode_frame(Kind.LENT, request_id, encode_head(LentHead(region, is_writable)), [])


def decode_lent(frame: Frame) -> LentHead:
    """Read a LENT frame."""
    return decode_head(_lent_decoder, frame)


def encode_recall(region: int) -> list[Buffer]:
    """A RECALL frame; it has no answer."""
    return encode_frame(Kind.RECALL, 0, encode_head(RecallHead(region)), [])


def decode_recall(frame: Frame) -> int:
    """Read a RECALL frame; returns the region."""
    return decode_head(_recall_decoder, frame).region


def encode_bind(request_id: int, head: BindHead) -> list[Buffer]:
    """A BIND frame."""
    return encode_frame(Kind.BIND, request_id, encode_head(head), [])


def decode_bind(frame: Frame, limits: Limits) -> BindHead:
    """Read a BIND frame; whether its places are places is not looked at.

    Raises:
        InvalidRequestError: the head is malformed or names more tensors than may be.
    """
    head = decode_head(_bind_decoder, frame)
    if (count := max(len(head.inputs), len(head.outputs))) > limits.tensors:
        raise InvalidRequestError(f"{count} tensors; the limit is {limits.tensors}")
    return head


def encode_bound(request_id: int, handle: int) -> list[Buffer]:
    """A BOUND frame."""
    return encode_frame(Kind.BOUND, request_id, encode_head(BoundHead(handle)), [])


def decode_bound(frame: Frame) -> int:
    """Read a BOUND frame; returns the handle."""
    return decode_head(_bound_decoder, frame).handle


def encode_near(core: int) -> list[Buffer]:
    """A NEAR frame; it has no answer."""
    return encode_frame(Kind.NEAR, 0, encode_head(NearHead(core)), [])


def decode_near(frame: Frame) -> int:
    """Read a NEAR frame; returns the core, which may be any number."""
    return decode_head(_near_decoder, frame).core
