"""Between one connection and the dataplane: lets through what its peer may ask, and counts it.

Only where rules or bounds of the peer are written; any other connection has the dataplane itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from edged.access.visit import Visit
from edged.errors import CancelledError, EdgedError
from edged.messages import Asker, InferRequest, InferResponse, OnResponse, PrepareRequest, Ticket
from edged.tensors import Array

_INFER = "infer"


class Guard:
    """A dataplane for one connection.

    Args:
        door: the real one; what it cannot do, this cannot either.
        visit: whose.
    """

    def __init__(self, door: Any, visit: Visit) -> None:
        self._door = door
        self.visit = visit
        self._waiting: set[_Waiter] = set()

    def submit(self, request: InferRequest, on_response: OnResponse) -> Ticket | None:
        """As ``Dataplane.submit``."""
        waiter = self.admit(request.model, request.inputs, on_response)
        if waiter is None:
            return None
        return waiter.hold(self._door.submit(request, waiter))

    def prepare(self, request: PrepareRequest) -> GuardedCall:
        """As ``Dataplane.prepare``; raises DeniedError before anything is looked up."""
        self.visit.require(_INFER, request.model)
        return GuardedCall(self, self._door.prepare(request))

    def over(self, call: Any) -> GuardedCall:
        """The same call, guarded: it was prepared before there was anything to guard."""
        return call if isinstance(call, GuardedCall) else GuardedCall(self, call)

    def withdraw(self) -> None:
        """Take back what waits and is not allowed any more; what runs is answered."""
        for waiter in list(self._waiting):
            if not self.visit.allows(_INFER, waiter.model):
                waiter.deny()

    def admit(
        self, model: str, inputs: Mapping[str, Array], on_response: OnResponse
    ) -> _Waiter | None:
        """Let a request in; answers it at once and returns None where it is refused."""
        visit = self.visit
        account = visit.account
        size = sum(array.nbytes for array in inputs.values())
        try:
            visit.ask()  # first: who is refused has asked, too
            visit.require(_INFER, model)
            if wait_ns := account.takes(size):
                raise visit.too_much(size, wait_ns)
        except EdgedError as exc:
            on_response(InferResponse(model, 0, 0, error=exc), True)
            return None
        account.in_flight += size
        waiter = _Waiter(self, model, size, on_response)
        self._waiting.add(waiter)
        return waiter

    def done(self, waiter: _Waiter) -> None:
        """A request has its answer."""
        self._waiting.discard(waiter)
        self.visit.account.in_flight -= waiter.size


class GuardedCall:
    """A prepared call of one connection.

    Args:
        guard: of the connection.
        call: the real one.
    """

    __slots__ = ("_call", "_guard", "_visit", "model")

    def __init__(self, guard: Guard, call: Any) -> None:
        self._guard = guard
        self._visit = guard.visit
        self._call = call
        self.model: str = call.model

    def __getattr__(self, name: str) -> Any:
        """Whatever says something of the call, and runs nothing."""
        return getattr(self._call, name)

    @property
    def turn(self) -> Any:
        """As of the real one; asked for each request."""
        return self._call.turn

    @property
    def gathers(self) -> int:
        """As of the real one; none while it is not allowed."""
        return int(self._call.gathers) if self._visit.allows(_INFER, self.model) else 0

    @property
    def shared(self) -> Any:
        """The real one, for runs with requests of others; each goes in by its own ``entry``."""
        return self._call

    @property
    def entry(self) -> Entry:
        """Lets its requests in there; it is allowed now."""
        return Entry(self._visit)

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int) -> Any:
        """As of the real one; None while it is not allowed."""
        visit = self._visit
        if not visit.allows(_INFER, self.model):
            return None
        run = self._call.bind(inputs, outputs, rows)
        if run is None:
            return None
        return GuardedRun(run, visit, sum(array.nbytes for array in inputs.values()))

    def adopt(
        self, inputs: Mapping[str, Array], rows: int, origin: str, on_response: OnResponse
    ) -> None:
        """As of the real one: it runs already, so it was allowed; from here on it is counted."""
        account, size = self._visit.account, sum(array.nbytes for array in inputs.values())

        def told(response: InferResponse, final: bool) -> None:
            if final:
                account.in_flight -= size
            on_response(response, final)

        account.in_flight += size
        self._call.adopt(inputs, rows, origin, told)

    def shuts_out(
        self,
        rows: int,  # noqa: ARG002
        deadline_ns: int | None,  # noqa: ARG002
        now_ns: int,  # noqa: ARG002
        origin: str,  # noqa: ARG002
    ) -> EdgedError | None:
        """Always None: each request is counted and asked for its right, a refused one too."""
        return None

    def submit(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        deadline_ns: int | None,
        origin: str,
        on_response: OnResponse,
        *,
        key: Asker = None,
    ) -> Ticket | None:
        """As of the real one."""
        waiter = self._guard.admit(self.model, inputs, on_response)
        if waiter is None:
            return None
        return waiter.hold(self._call.submit(inputs, rows, deadline_ns, origin, waiter, key=key))


class GuardedRun:
    """Runs of an asker who is alone: over with the next change of its rights, so never asked anew.

    Args:
        run: the real one.
        visit: whose; it was allowed just now.
        size: bytes of the tensors of each request.
    """

    __slots__ = ("_account", "_bucket", "_run", "_size", "_stamp", "_visit")

    def __init__(self, run: Any, visit: Visit, size: int) -> None:
        self._run = run
        self._visit = visit
        self._size = size
        self._stamp = visit.stamp
        account = visit.account
        self._account = account if account.quota.in_flight is not None else None
        self._bucket = account.bucket

    @property
    def is_current(self) -> bool:
        """Whether it may be used again."""
        return self._visit.stamp == self._stamp and bool(self._run.is_current)

    def run(self, origin: str, key: Asker = None) -> Any:
        """As of the real one; None, to go the usual way and be refused there, where it may not."""
        if self._visit.stamp != self._stamp:
            return None
        # Answered before anything else is: only asked whether it fits, not counted.
        if self._account is not None and self._account.takes(self._size):
            return None
        bucket = self._bucket
        if bucket is None:
            return self._run.run(origin, key)
        if bucket.take(time.monotonic_ns()):
            return None
        ran = self._run.run(origin, key)
        if ran is None:
            bucket.give_back()  # the usual way takes its own
        return ran


class Entry:
    """Lets one connection's requests in where they run together with those of others.

    Args:
        visit: whose; it may ask now, and has to get another one once its rights change.
    """

    __slots__ = ("_stamp", "_visit")

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._stamp = visit.stamp

    def enters(self, size: int) -> bool:
        """Count a request of so many bytes; False, and nothing counted, where it may not be made.

        The usual way then says why.
        """
        visit = self._visit
        account = visit.account
        if visit.stamp != self._stamp or account.takes(size):
            return False
        bucket = account.bucket
        if bucket is not None and bucket.take(time.monotonic_ns()):
            return False
        account.in_flight += size
        return True

    def leaves(self, size: int, *, has_run: bool) -> None:
        """It is over; where it has not run, the usual way counts it anew."""
        account = self._visit.account
        account.in_flight -= size
        if not has_run and account.bucket is not None:
            account.bucket.give_back()


class _Waiter:
    """One request on its way: gives back what it took, and says why where it was taken back."""

    __slots__ = ("_guard", "_is_cut", "_is_denied", "_is_over", "_on_response", "_ticket", "model",
                 "size")  # fmt: skip

    def __init__(self, guard: Guard, model: str, size: int, on_response: OnResponse) -> None:
        self._guard = guard
        self.model = model
        self.size = size
        self._on_response = on_response
        self._ticket: Ticket | None = None
        self._is_denied = self._is_cut = self._is_over = False

    def __call__(self, response: InferResponse, final: bool) -> None:
        """As ``messages.OnResponse``."""
        if final:
            self._is_over = True
            self._guard.done(self)
            if self._is_denied and (self._is_cut or isinstance(response.error, CancelledError)):
                error = self._guard.visit.denied(_INFER, self.model)
                response = InferResponse(
                    response.model, response.release, response.generation, error=error
                )
        elif self._is_denied:
            self._is_cut = True
            return
        self._on_response(response, final)

    def hold(self, ticket: Ticket | None) -> Ticket | None:
        """Note what withdraws it."""
        self._ticket = ticket
        return ticket

    def deny(self) -> None:
        """It is not allowed any more."""
        if not self._is_over:
            self._is_denied = True
            if self._ticket is not None:
                self._ticket.cancel()


def guarded(door: Any, visit: Visit, now: Any = None) -> Any:
    """The door that a connection asks through.

    Args:
        door: the dataplane.
        visit: whose.
        now: what it asks through now; a guard keeps what waits behind it.
    """
    if isinstance(now, Guard):
        return now
    return Guard(door, visit) if visit.is_guarded else door
