"""The words of the Open Inference Protocol v2: its types, its parameters, its error texts.

Clients and their tests look for some of these texts, so they stand here as they are known.
Source: kserve/open-inference-protocol, triton-inference-server/server ``docs/protocol``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edged import decoding
from edged.errors import (
    STATUS,
    BusyError,
    Code,
    DeadlineExceededError,
    DrainingError,
    EdgedError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelNotReadyError,
    QueueFullError,
    QuotaError,
    TooLargeError,
    VersionNotFoundError,
)
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Status
from edged.tensors import ALL_DTYPES, DType

BY_OIP: Final[dict[str, DType]] = {entry.oip: entry for entry in ALL_DTYPES.values()}
"""Our dtypes by the protocol's names."""
HEADER_LENGTH: Final = "inference-header-content-length"
"""Bytes of the JSON at the head of a body; what follows are tensors."""

_HTTP: Final = {
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 503,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 503,
    Code.FAILED_PRECONDITION: 400,
    Code.CANCELLED: 400,
    Code.INTERNAL: 500,
}
"""As Triton says it, which is what its clients were tested against; ``errors.STATUS`` differs."""


def status_of(error: EdgedError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, QuotaError):
        return 429  # of one client: another server of a pool would not say otherwise
    return 413 if isinstance(error, TooLargeError) else _HTTP[error.code]


def grpc_status_of(error: EdgedError) -> Status:
    """The gRPC status of an error.

    A full queue is RESOURCE_EXHAUSTED: on UNAVAILABLE, KServe's client would try again at once.
    """
    return Status(STATUS[error.code].grpc)


def text_of(error: EdgedError) -> str:
    """What went wrong, with the words that clients of the protocol look for."""
    if isinstance(error, ModelNotFoundError):
        return f"Request for unknown model: {error.message}"
    if isinstance(error, VersionNotFoundError):
        return f"Request for unknown model: {error.message} (has no available versions)"
    if isinstance(error, ModelNotReadyError | DrainingError):
        return f"{error.message} (is not at ready state)"
    if isinstance(error, QueueFullError):
        return f"Exceeds maximum queue size: {error.message}"
    if isinstance(error, DeadlineExceededError):
        return f"Request timeout expired: {error.message}"
    return error.message


def retry_after_s(error: EdgedError) -> int:
    """Whole seconds after which to try again, at least 1; 0 where trying again is no remedy."""
    if not isinstance(error, BusyError):
        return 0
    return max(1, -(-error.retry_after_ns // 1_000_000_000))


class _Index(msgspec.Struct, frozen=True):
    ready: bool = False


def wants_ready_only(body: Buffer) -> bool:
    """Whether a request for the index asks for what is ready alone.

    Raises:
        InvalidRequestError: it cannot be read.
    """
    if not body:
        return False
    try:
        return decoding.decode(body, _Index).ready
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(f"Unable to parse the request: {exc}") from None


def header_length(given: str, body_bytes: int) -> int:
    """How much of a body is its JSON, as the header ``HEADER_LENGTH`` says.

    Raises:
        InvalidRequestError: it says nothing that can be.
    """
    if not (given.isascii() and given.isdigit() and len(given) < 20):
        raise InvalidRequestError(
            f"Inference-Header-Content-Length is {given[:32]!r}; expected a number of bytes"
        )
    length = int(given)
    if length > body_bytes:
        raise InvalidRequestError(
            f"Inference-Header-Content-Length is {length}, but the body has {body_bytes} bytes"
        )
    return length
