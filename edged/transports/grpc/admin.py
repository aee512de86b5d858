"""What administrators ask over gRPC, on their socket: loads and unloads, the log, traces."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from edged.access.visit import Visit
from edged.errors import CancelledError, EdgedError, NotFoundError, RuntimeFailureError
from edged.protocol import oip_messages as messages
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Head, OnReply, Reply, Withdrawal
from edged.protocol.oip_grpc import parameters_of
from edged.protocol.oip_settings import (
    check_trace_settings,
    level_among,
    log_document,
    refuse_load,
    refuse_unload,
    trace_document,
)
from edged.protocol.protobuf import decode, encode
from edged.transports.grpc.infer import failure
from edged.transports.grpc.pages import OIP
from edged.transports.oip_door import Admin

log = logging.getLogger("edged.grpc")

_VERBS: Final = {
    f"/{OIP}/RepositoryModelLoad": "load",
    f"/{OIP}/RepositoryModelUnload": "unload",
    f"/{OIP}/LogSettings": "logging",
    f"/{OIP}/TraceSetting": "trace",
}


def is_served(path: str) -> bool:
    """Whether a method is among those."""
    return path in _VERBS


def answer_admin(
    admin: Admin, visit: Visit, head: Head, message: Buffer, on_reply: OnReply
) -> Withdrawal | None:
    """Do what an administrator asks for, and answer when it is done.

    Raises:
        EdgedError: it cannot be read, or this client may not.
    """
    verb = _VERBS[head.path]
    if verb == "logging":
        on_reply(_log_settings(admin, visit, message))
        return None
    if verb == "trace":
        on_reply(_trace_settings(admin, visit, message))
        return None
    return _control(admin, visit, verb, message, on_reply)


def _log_settings(admin: Admin, visit: Visit, message: Buffer) -> Reply:
    asked = decode(messages.LOG_SETTINGS, message).get("settings", {})
    visit.ask()
    visit.require("logging", "")
    if asked:
        settings = {name: next(iter(value.values()), None) for name, value in asked.items()}
        admin.set_level(level_among(settings, admin.level))
    told = {name: {_kind(value): value} for name, value in log_document(admin.level).items()}
    return Reply([encode(messages.LOG_SETTINGS, {"settings": told})])


def _trace_settings(admin: Admin, visit: Visit, message: Buffer) -> Reply:
    asked = decode(messages.TRACE_SETTINGS, message)
    visit.ask()
    visit.require("trace", "")
    if model := asked.get("model_name", ""):
        admin.check(model)
    settings = asked.get("settings", {})
    check_trace_settings({name: value.get("value", []) for name, value in settings.items()})
    told = {
        name: {"value": value if isinstance(value, list) else [value]}
        for name, value in trace_document().items()
    }
    return Reply([encode(messages.TRACE_SETTINGS, {"settings": told})])


def _kind(value: object) -> str:
    """Which field of a log's setting holds such a value."""
    if isinstance(value, bool):
        return "bool"
    return "uint32" if isinstance(value, int) else "string"


def _control(
    admin: Admin, visit: Visit, verb: str, message: Buffer, on_reply: OnReply
) -> Withdrawal:
    asked = decode(messages.MODEL_CONTROL, message)
    model = asked.get("model_name", "")
    visit.ask()
    visit.require(verb, model)
    if asked.get("repository_name"):
        raise NotFoundError("there is one repository, and it has no name; leave it out")
    refuse = refuse_load if verb == "load" else refuse_unload
    refuse(parameters_of(asked))
    work = admin.load(model) if verb == "load" else admin.unload(model)

    async def do() -> None:
        try:
            await work
        except EdgedError as exc:
            on_reply(failure(exc))
        except asyncio.CancelledError:
            on_reply(failure(CancelledError(f"the {verb} was withdrawn")))
            raise
        except Exception:
            log.exception("what an administrator asked for failed: %s %s", verb, model[:64])
            on_reply(failure(RuntimeFailureError("it could not be done; see the log")))
        else:
            on_reply(Reply([b""]))

    task = asyncio.get_running_loop().create_task(do())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


_tasks: set[asyncio.Task[None]] = set()
"""Kept while they are under way: a loop itself holds them weakly."""
