"""What is said over the protocol when something goes wrong."""

from __future__ import annotations

import pytest

from edged import errors
from edged.protocol import oip
from edged.protocol.grpc_call import Status


@pytest.mark.parametrize(
    ("error", "status", "words", "retry_s"),
    [
        (errors.ModelNotFoundError("no such"), 404, "Request for unknown model", 0),
        (errors.VersionNotFoundError("no 7"), 404, "has no available versions", 0),
        (errors.ModelNotReadyError("loading"), 503, "is not at ready state", 1),
        (errors.QuotaError("slow down", retry_after_ns=1), 429, "slow down", 1),
        (errors.QueueFullError("full", retry_after_ns=1_500_000_000), 503, "Exceeds maximum", 2),
        (errors.DeadlineExceededError("late"), 503, "Request timeout expired", 1),
        (errors.InvalidRequestError("bad"), 400, "bad", 0),
        (errors.TooLargeError("big"), 413, "big", 0),
        (errors.DeniedError("no"), 403, "no", 0),
        (errors.CancelledError("gone"), 400, "gone", 0),
        (errors.RunError("broke"), 500, "broke", 0),
        (errors.LayoutChangedError("other"), 400, "other", 0),
    ],
)
def test_errors(error: errors.EdgedError, status: int, words: str, retry_s: int) -> None:
    assert oip.status_of(error) == status
    assert words in oip.text_of(error)
    assert error.message in oip.text_of(error)
    assert oip.retry_after_s(error) == retry_s


def test_every_code_has_a_status() -> None:
    class Odd(errors.EdgedError):
        pass

    for code in errors.Code:
        Odd.code = code
        assert oip.status_of(Odd("x")) >= 400


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ModelNotFoundError("no such"), Status.NOT_FOUND),
        (errors.ModelNotReadyError("loading"), Status.UNAVAILABLE),
        (errors.QueueFullError("full"), Status.RESOURCE_EXHAUSTED),
        (errors.DeadlineExceededError("late"), Status.DEADLINE_EXCEEDED),
        (errors.InvalidRequestError("bad"), Status.INVALID_ARGUMENT),
        (errors.DeniedError("no"), Status.PERMISSION_DENIED),
        (errors.CancelledError("gone"), Status.CANCELLED),
        (errors.RunError("broke"), Status.INTERNAL),
    ],
)
def test_statuses_of_grpc(error: errors.EdgedError, status: Status) -> None:
    assert oip.grpc_status_of(error) is status
