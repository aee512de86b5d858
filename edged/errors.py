"""The words for what can go wrong, and their one translation into other people's codes.

Codes are the canonical RPC codes. ``STATUS`` is the only place that knows an HTTP status, a gRPC
number or an exit code; floors below the transports never use those numbers.

    EdgedError
    ├─ RequestError        the caller can fix it
    ├─ BusyError           the caller may try again; ``retry_after_ns``
    ├─ RuntimeFailureError a model or its runtime failed
    ├─ BundleError         a bundle is not what it must be
    ├─ ConfigError         a configuration is not what it must be
    ├─ FieldError          a value inside a document; becomes one of the others where it is caught
    └─ ProtocolError       bytes that break the wire rules
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar, NamedTuple


class Code(enum.Enum):
    """Canonical error codes (the names gRPC and TensorFlow Serving use)."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


class Status(NamedTuple):
    """How one code is said in other protocols."""

    http: int
    grpc: int
    exit: int


STATUS: dict[Code, Status] = {
    Code.INVALID_ARGUMENT: Status(http=400, grpc=3, exit=65),
    Code.NOT_FOUND: Status(http=404, grpc=5, exit=66),
    Code.PERMISSION_DENIED: Status(http=403, grpc=7, exit=77),
    Code.RESOURCE_EXHAUSTED: Status(http=429, grpc=8, exit=75),
    Code.UNAVAILABLE: Status(http=503, grpc=14, exit=69),
    Code.DEADLINE_EXCEEDED: Status(http=504, grpc=4, exit=75),
    Code.FAILED_PRECONDITION: Status(http=412, grpc=9, exit=78),
    Code.CANCELLED: Status(http=499, grpc=1, exit=75),
    Code.INTERNAL: Status(http=500, grpc=13, exit=70),
}


class EdgedError(Exception):
    """Base of every error that edged raises on purpose.

    Args:
        message: what was wrong, what was expected, and what to do; safe to show to the caller
            (no paths, addresses or secrets of the daemon).
        detail: a small dict of plain values for programs.
    """

    code: ClassVar[Code] = Code.INTERNAL

    def __init__(self, message: str, *, detail: dict[str, Any] | None = None) -> None:
        if (
            not message.isascii()
        ):  # names of files and others' errors may hold half a surrogate pair
            message = message.encode("utf-8", "backslashreplace").decode("utf-8")
        super().__init__(message)
        self.message = message
        self.detail = detail or {}


class RequestError(EdgedError):
    """The caller can fix it."""

    code = Code.INVALID_ARGUMENT


class InvalidRequestError(RequestError):
    """A request that no model could answer."""


class TensorMismatchError(InvalidRequestError):
    """A tensor whose name, dtype or shape is not the model's."""


class DecodeError(InvalidRequestError):
    """A payload that does not decode to the tensors it should hold."""


class TooLargeError(InvalidRequestError):
    """A payload over a stated limit."""


class NotFoundError(RequestError):
    """Something named by the caller does not exist."""

    code = Code.NOT_FOUND


class ModelNotFoundError(NotFoundError):
    """No model of that name is configured."""


class VersionNotFoundError(NotFoundError):
    """The model has no such release or alias."""


class SequenceNotFoundError(NotFoundError):
    """No sequence of that id is open: never begun, ended, or given up; its state is gone."""


class DeniedError(RequestError):
    """The caller is not allowed to do that."""

    code = Code.PERMISSION_DENIED


class CancelledError(RequestError):
    """The caller went away or withdrew the request."""

    code = Code.CANCELLED


class BusyError(EdgedError):
    """The caller may try again.

    Args:
        message: as in EdgedError.
        retry_after_ns: when trying again makes sense, nanoseconds from now; 0 when unknown.
        detail: as in EdgedError.
    """

    code = Code.UNAVAILABLE

    def __init__(
        self, message: str, *, retry_after_ns: int = 0, detail: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, detail=detail)
        self.retry_after_ns = retry_after_ns


class QueueFullError(BusyError):
    """A bounded queue is full."""

    code = Code.RESOURCE_EXHAUSTED


class QuotaError(BusyError):
    """One client has or asks for more than it may; others are not concerned."""

    code = Code.RESOURCE_EXHAUSTED


class MemoryBudgetError(BusyError):
    """A device's memory budget does not allow it."""

    code = Code.RESOURCE_EXHAUSTED


class ModelNotReadyError(BusyError):
    """The model exists but no release of it is ready."""


class DrainingError(BusyError):
    """The daemon is finishing what it has and takes nothing new."""


class DisconnectedError(BusyError):
    """The connection went away before the answer came."""


class SourceError(BusyError):
    """A source of bundles is away or broke off; what came of a download is kept."""


class DeadlineExceededError(BusyError):
    """The request's deadline passed before it could be answered."""

    code = Code.DEADLINE_EXCEEDED


class StaleError(DeadlineExceededError):
    """The request itself says that it is too old."""


class RuntimeFailureError(EdgedError):
    """A model or the runtime below it failed."""


class LoadError(RuntimeFailureError):
    """A model could not be loaded."""


class RunError(RuntimeFailureError):
    """A loaded model failed while running."""


class DeviceLostError(RunError):
    """The device below a session is gone or takes nothing any more: the session is of no use."""


class BuildError(RuntimeFailureError):
    """No engine came of a build, or not the one that was asked for."""

    code = Code.FAILED_PRECONDITION


class NoDeviceError(RuntimeFailureError):
    """What engines are built with or run on is not here: driver, GPU, TensorRT, a way to CUDA."""

    code = Code.UNAVAILABLE


class WorkerDiedError(RuntimeFailureError):
    """The process that hosted the model is gone.

    Args:
        message: as in EdgedError.
        crash: the signal it brought upon itself; empty when the end came from outside.
        detail: as in EdgedError.
    """

    def __init__(
        self, message: str, *, crash: str = "", detail: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, detail=detail)
        self.crash = crash


class BundleError(EdgedError):
    """A bundle is not what it must be."""

    code = Code.FAILED_PRECONDITION


class QuarantinedError(BundleError):
    """The release did harm on this device and is left out until somebody says otherwise."""


class ManifestError(BundleError):
    """The manifest is malformed or contradicts itself."""


class DigestMismatchError(BundleError):
    """A member's bytes are not the ones the manifest signed."""


class SignatureError(BundleError):
    """Not signed by enough trusted keys."""


class IncompatibleError(BundleError):
    """The bundle asks for something that this device does not have."""


class GoldenMismatchError(BundleError):
    """The model does not reproduce the outputs that its bundle promises."""


class ConfigError(EdgedError):
    """A configuration is not what it must be."""

    code = Code.FAILED_PRECONDITION


class ApplyError(ConfigError):
    """A valid configuration could not be put into effect; the old one still serves."""


class FieldError(EdgedError):
    """A value inside a document is wrong; caught and turned into a located error.

    Args:
        path: the field, as ``models.digits.bundle`` or ``inputs[0].shape``.
        message: what was found, what was expected, what to do.
    """

    code = Code.INVALID_ARGUMENT

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.reason = message


class LayoutChangedError(RequestError):
    """The model's signature is no longer the one a call was prepared for: prepare again."""

    code = Code.FAILED_PRECONDITION


class ProtocolError(EdgedError):
    """Bytes that break the wire rules."""

    code = Code.INVALID_ARGUMENT


class LocalProtocolError(ProtocolError):
    """We tried to send something that the wire rules do not allow."""

    code = Code.INTERNAL


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the wire rules do not allow."""


# The classes a peer may name on the wire. A closed table: a name that is not here becomes the base
# class of its code, so a peer never chooses what we construct.
_BY_NAME: dict[str, type[EdgedError]] = {
    cls.__name__: cls
    for cls in (
        InvalidRequestError,
        TensorMismatchError,
        DecodeError,
        TooLargeError,
        NotFoundError,
        ModelNotFoundError,
        VersionNotFoundError,
        SequenceNotFoundError,
        DeniedError,
        CancelledError,
        QueueFullError,
        QuotaError,
        MemoryBudgetError,
        ModelNotReadyError,
        DrainingError,
        DeadlineExceededError,
        LayoutChangedError,
        LoadError,
        RunError,
        DeviceLostError,
        BundleError,
        ConfigError,
        ApplyError,
        RemoteProtocolError,
    )
}
_BY_CODE: dict[Code, type[EdgedError]] = {
    Code.INVALID_ARGUMENT: InvalidRequestError,
    Code.NOT_FOUND: NotFoundError,
    Code.PERMISSION_DENIED: DeniedError,
    Code.RESOURCE_EXHAUSTED: QueueFullError,
    Code.UNAVAILABLE: BusyError,
    Code.DEADLINE_EXCEEDED: DeadlineExceededError,
    Code.FAILED_PRECONDITION: ConfigError,
    Code.CANCELLED: CancelledError,
    Code.INTERNAL: RuntimeFailureError,
}


def error_from_wire(code: str, name: str, message: str, retry_after_ns: int = 0) -> EdgedError:
    """Rebuild the peer's error as one of ours.

    Args:
        code: a canonical code; an unknown one reads as INTERNAL.
        name: the class the peer raised; an unknown one reads as the code's general class.
        message: the peer's words, kept as they are.
        retry_after_ns: carried by BusyError and its children, ignored by the rest.
    """
    try:
        known = Code(code)
    except ValueError:
        known = Code.INTERNAL
    cls = _BY_NAME.get(name)
    if cls is None or cls.code is not known:
        cls = _BY_CODE[known]
    if issubclass(cls, BusyError):
        return cls(message, retry_after_ns=retry_after_ns)
    return cls(message)


def first_line(exc: BaseException, most: int = 300) -> str:
    """What an error of somebody else's says first, in so many characters at most."""
    return next(iter(str(exc).strip().splitlines()), "")[:most]
