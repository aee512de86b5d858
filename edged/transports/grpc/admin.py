"""What administrators ask over gRPC, on their socket: loads and unloads of models."""

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
from edged.protocol.oip_settings import refuse_load, refuse_unload
from edged.protocol.protobuf import decode
from edged.transports.grpc.infer import failure
from edged.transports.grpc.pages import OIP
from edged.transports.oip_door import Admin

log = logging.getLogger("edged.grpc")

_VERBS: Final = {
    f"/{OIP}/RepositoryModelLoad": "load",
    f"/{OIP}/RepositoryModelUnload": "unload",
}


def is_served(path: str) -> bool:
    """Whether a method is among those; settings of the log and of traces are HTTP's."""
    return path in _VERBS


def answer_admin(
    admin: Admin, visit: Visit, head: Head, message: Buffer, on_reply: OnReply
) -> Withdrawal:
    """Do what an administrator asks for, and answer when it is done.

    Raises:
        EdgedError: it cannot be read, or this client may not.
    """
    asked = decode(messages.MODEL_CONTROL, message)
    verb, model = _VERBS[head.path], asked.get("model_name", "")
    visit.require(verb, model)
    visit.ask()
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
