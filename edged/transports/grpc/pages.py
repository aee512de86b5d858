"""What is said of models and of the server over gRPC: HTTP's documents, as messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Final

from edged.errors import DeniedError, EdgedError, NotFoundError
from edged.protocol import oip_messages as messages
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Outgoing, Reply
from edged.protocol.oip_grpc import release_of
from edged.protocol.oip_shared import Memory, needed, region_of, status_document
from edged.protocol.protobuf import Schema, decode, encode
from edged.transports.oip_door import Pages

OIP = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

_WATCH_S = 1.0
"""Between two looks at whether everything is ready, while somebody watches."""

FREE: Final = frozenset((f"/{OIP}/ServerLive", f"/{OIP}/ServerReady", f"/{HEALTH}/Check"))
"""Probes, which no bound counts."""

Document = dict[str, Any]
_Method = tuple[Schema, Schema, Callable[["PageMethods", Document], Document]]


class PageMethods:
    """The methods that answer with a document.

    Args:
        pages: know what to say.
        memory: gives the client's regions of memory by name; None where that is off.
        has_admin: whether this is the administrators' socket.
    """

    def __init__(
        self, pages: Pages, memory: Callable[[], Memory | None], *, has_admin: bool = False
    ) -> None:
        self._has_admin = has_admin
        self._pages = pages
        self._memory = memory
        self._server_name = "edged"

    def answer(self, path: str, message: Buffer, server_name: str) -> Reply:
        """Answer one of ``METHODS``; raises EdgedError for what there is not.

        Args:
            path: which one.
            message: what is asked.
            server_name: as the server's metadata has it.
        """
        asked, answered, page = self.METHODS[path]
        self._server_name = server_name
        return Reply([encode(answered, page(self, decode(asked, message)))])

    def watch(self, outgoing: Outgoing) -> Watch:
        """Begin to say whether everything is ready, and whenever that changes."""
        return Watch(self._pages, outgoing)

    def _live(self, _: Document) -> Document:
        return {"live": True}

    def _ready(self, _: Document) -> Document:
        return {"ready": not self._pages.unready()}

    def _model_ready(self, asked: Document) -> Document:
        name, version = _name_version(asked)
        try:
            self._pages.model_ready(name, version)
        except DeniedError:
            raise  # whether there is such a model is not for this client to know
        except EdgedError:
            # Also one that is not known: clients raise on any other status than OK.
            return {"ready": False}
        return {"ready": True}

    def _server(self, _: Document) -> Document:
        document = {**self._pages.server(), "name": self._server_name}
        more = ["system_shared_memory"] if self._memory() is not None else []
        more += ["logging"] if self._has_admin else []
        document["extensions"] = (*document.get("extensions", ()), *more)
        return document

    def _register(self, asked: Document) -> Document:
        needed(self._memory()).register(region_of(asked))
        return {}

    def _unregister(self, asked: Document) -> Document:
        needed(self._memory()).unregister(asked.get("name") or None)
        return {}

    def _regions(self, asked: Document) -> Document:
        found = status_document(needed(self._memory()).status(asked.get("name") or None))
        return {"regions": {one["name"]: one for one in found}}

    def _model(self, asked: Document) -> Document:
        return self._pages.model(*_name_version(asked))

    def _config(self, asked: Document) -> Document:
        config = self._pages.config(*_name_version(asked))
        for side in ("input", "output"):
            config[side] = [
                {**entry, "data_type": messages.DATA_TYPES[entry["data_type"]]}
                for entry in config[side]
            ]
        config["instance_group"] = [
            {**entry, "kind": messages.INSTANCE_KINDS[entry["kind"]]}
            for entry in config["instance_group"]
        ]
        return {"config": config}

    def _statistics(self, asked: Document) -> Document:
        name, version = _name_version(asked)
        return self._pages.statistics(name or None, version)

    def _index(self, asked: Document) -> Document:
        if asked.get("repository_name"):
            raise NotFoundError("there is one repository, and it has no name; leave it out")
        return {"models": self._pages.index(ready=asked.get("ready", False))}

    def _check(self, asked: Document) -> Document:
        if asked.get("service", "") not in ("", OIP, HEALTH):
            raise NotFoundError(f'no service "{asked["service"][:64]}" is served')
        return {"status": _status(self._pages)}

    METHODS: ClassVar[dict[str, _Method]] = {
        f"/{OIP}/ServerLive": (messages.NOTHING, messages.LIVE, _live),
        f"/{OIP}/ServerReady": (messages.NOTHING, messages.READY, _ready),
        f"/{OIP}/ModelReady": (messages.NAME_VERSION, messages.READY, _model_ready),
        f"/{OIP}/ServerMetadata": (messages.NOTHING, messages.SERVER_METADATA, _server),
        f"/{OIP}/ModelMetadata": (messages.NAME_VERSION, messages.MODEL_METADATA, _model),
        f"/{OIP}/ModelConfig": (messages.NAME_VERSION, messages.MODEL_CONFIG, _config),
        f"/{OIP}/ModelStatistics": (messages.NAME_VERSION, messages.STATISTICS, _statistics),
        f"/{OIP}/RepositoryIndex": (messages.INDEX_REQUEST, messages.INDEX, _index),
        f"/{HEALTH}/Check": (messages.HEALTH_REQUEST, messages.HEALTH, _check),
        f"/{OIP}/SystemSharedMemoryRegister": (messages.REGION, messages.NOTHING, _register),
        f"/{OIP}/SystemSharedMemoryUnregister": (
            messages.REGION_NAME,
            messages.NOTHING,
            _unregister,
        ),
        f"/{OIP}/SystemSharedMemoryStatus": (messages.REGION_NAME, messages.REGIONS, _regions),
    }
    """What each method is asked with, what it answers, and who makes that of it; by path."""


class Watch:
    """One client that is told about readiness: ``grpc_call.Incoming``.

    Args:
        pages: say whether everything is ready.
        outgoing: where to tell.
    """

    def __init__(self, pages: Pages, outgoing: Outgoing) -> None:
        self._pages = pages
        self._outgoing = outgoing
        self._told = 0
        self._is_held = False
        self._timer: asyncio.TimerHandle | None = None

    def message(self, data: Buffer) -> None:
        """Which service it is about; only the first one counts."""
        if self._timer is not None or self._told:
            return
        try:
            asked = decode(messages.HEALTH_REQUEST, data)
        except EdgedError:
            asked = {"service": "none of ours"}
        if asked.get("service", "") in ("", OIP, HEALTH):
            self._look()
        else:
            # To be told so as long as the client likes: the service might come.
            self._tell(messages.SERVICE_UNKNOWN)

    def half_close(self) -> None:
        """It has asked; it goes on reading."""

    def cancel(self) -> None:
        """It reads no more."""
        if self._timer is not None:
            self._timer.cancel()

    def hold(self) -> None:
        """It does not read for now: only the latest news counts."""
        self._is_held = True

    def release(self) -> None:
        """It reads again."""
        self._is_held = False

    def _look(self) -> None:
        status = _status(self._pages)
        if status != self._told and not self._is_held:
            self._tell(status)
        self._timer = asyncio.get_running_loop().call_later(_WATCH_S, self._look)

    def _tell(self, status: int) -> None:
        self._told = status
        self._outgoing.send([encode(messages.HEALTH, {"status": status})])


def _name_version(asked: Document) -> tuple[str, str | None]:
    release = release_of(asked)
    return asked.get("name", ""), None if release is None else str(release)


def _status(pages: Pages) -> int:
    return messages.NOT_SERVING if pages.unready() else messages.SERVING
