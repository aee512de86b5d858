"""What an administrator asks over HTTP, on the administrators' socket: loads, the log, traces.

Decides nothing about models; whether the client may ask is ``access``'s.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from edged.access.visit import Visit
from edged.errors import EdgedError, RuntimeFailureError
from edged.protocol.frames import Buffer
from edged.protocol.http_answer import encode_answer
from edged.protocol.oip_settings import (
    check_load,
    check_trace,
    check_unload,
    level_of,
    log_document,
    trace_document,
)
from edged.transports.oip_door import Admin

if TYPE_CHECKING:
    from edged.protocol.http_reader import HttpRequest
    from edged.transports.http.routes import Route

log = logging.getLogger("edged.http")

_OF_MODEL = ("load", "unload")
"""Rights that are of one model; the others are of the daemon."""


def check_right(visit: Visit, route: Route) -> None:
    """Go on if a client may ask for a page; raises DeniedError or QuotaError."""
    visit.ask()
    visit.require(route.verb, route.model if route.verb in _OF_MODEL else "")


async def administer(admin: Admin, route: Route, body: Buffer, *, changes: bool) -> bytes:
    """Do what is asked for; returns the answer's JSON, empty where nothing is said.

    Args:
        admin: who does it.
        route: what is asked for.
        body: of the request; empty for all defaults.
        changes: whether settings are to be changed, or only told.

    Raises:
        EdgedError: it cannot be done.
    """
    if route.verb == "load":
        check_load(body)
        await admin.load(route.model)
        return b""
    if route.verb == "unload":
        check_unload(body)
        await admin.unload(route.model)
        return b""
    if route.verb == "logging":
        if changes:
            admin.set_level(level_of(body, admin.level))
        return msgspec.json.encode(log_document(admin.level))
    if route.model:
        admin.check(route.model)
    if changes:
        check_trace(body)
    return msgspec.json.encode(trace_document())


class Asker(Protocol):
    """The connection that is answered."""

    def answer(self, buffers: list[Buffer]) -> None:
        """Write an answer."""
        ...

    def fail(self, error: EdgedError) -> None:
        """Write what went wrong."""
        ...


async def answer_admin(admin: Admin, route: Route, request: HttpRequest, asker: Asker) -> None:
    """Do what is asked for, and answer."""
    try:
        body = await administer(admin, route, request.body, changes=request.method == "POST")
    except EdgedError as exc:
        asker.fail(exc)
    except Exception:
        log.exception("what an administrator asked for failed: %s", route)
        asker.fail(RuntimeFailureError("it could not be done; see the log"))
    else:
        asker.answer(encode_answer([body], keeps_alive=request.keeps_alive))
