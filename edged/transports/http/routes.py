"""What a method and a path of the Open Inference Protocol ask for. Pure.

Everything that is not listed is refused, method by method. A path is matched whole and never
becomes a file's name.
"""

from __future__ import annotations

import enum
import functools
import re
from typing import Final, NamedTuple

NAME_CAP: Final = 256


class Page(enum.Enum):
    """What can be asked for."""

    INFER = "infer"
    GENERATE = "generate"
    GENERATE_STREAM = "generate_stream"
    SERVER = "server"
    LIVE = "live"
    READY = "ready"
    MODEL = "model"
    MODEL_READY = "model_ready"
    CONFIG = "config"
    STATS = "stats"
    INDEX = "index"
    METRICS = "metrics"
    ADMIN = "admin"
    """Only an administrator may ask, on the administrators' socket."""
    SHARED = "shared"
    """System shared memory by name."""
    CUDA = "cuda"
    """The same of a GPU, which is not served."""


INFERENCE: Final = (Page.INFER, Page.GENERATE, Page.GENERATE_STREAM)
"""What runs a model."""
PROBES: Final = (Page.LIVE, Page.READY)
"""What no bound counts."""


class Route(NamedTuple):
    """A path that exists.

    Args:
        page: what it is.
        methods: how it may be asked for.
        model: the name in it, of a model or a region; empty for none.
        version: the version in it; None for none.
        verb: what is to be done with a region; what an administrator wants; empty elsewhere.
    """

    page: Page
    methods: tuple[str, ...]
    model: str = ""
    version: str | None = None
    verb: str = ""


_GET: Final = ("GET",)
_POST: Final = ("POST",)
_BOTH: Final = ("GET", "POST")
_FIXED: Final = {
    "/v2": Route(Page.SERVER, _GET),
    "/v2/health/live": Route(Page.LIVE, _GET),
    "/v2/health/ready": Route(Page.READY, _GET),
    "/v2/models/stats": Route(Page.STATS, _GET),
    "/v2/repository/index": Route(Page.INDEX, _POST),
    "/v2/logging": Route(Page.ADMIN, _BOTH, verb="logging"),
    "/v2/trace/setting": Route(Page.ADMIN, _BOTH, verb="trace"),
    "/metrics": Route(Page.METRICS, _GET),
}
_OF_MODEL: Final = {
    (): (Page.MODEL, _GET),
    ("ready",): (Page.MODEL_READY, _GET),
    ("config",): (Page.CONFIG, _GET),
    ("stats",): (Page.STATS, _GET),
    ("infer",): (Page.INFER, _POST),
    ("generate",): (Page.GENERATE, _POST),
    ("generate_stream",): (Page.GENERATE_STREAM, _POST),
    ("trace", "setting"): (Page.ADMIN, _BOTH),
}
_QUOTED: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_SHARED: Final = {"status": _GET, "register": _POST, "unregister": _POST}


@functools.lru_cache(maxsize=256)  # of short texts; a client asks for a few, again and again
def route_of(target: str) -> Route | None:
    """Read a target; None where nothing is.

    Args:
        target: as it was sent, with its query.
    """
    path = target.partition("?")[0]
    known = _FIXED.get(path)
    if known is not None:
        return known
    parts = path.split("/")
    if parts[:2] != ["", "v2"] or len(parts) < 4:
        return None
    if parts[2] == "models":
        return _of_model(parts[3], parts[4:])
    if parts[2] == "repository" and parts[3:4] == ["models"] and len(parts) == 6:
        name = _unquoted(parts[4])
        is_known = parts[5] in ("load", "unload") and 0 < len(name) <= NAME_CAP
        return Route(Page.ADMIN, _POST, name, None, parts[5]) if is_known else None
    if parts[2] in ("systemsharedmemory", "cudasharedmemory"):
        return _of_region(parts[2], parts[3:])
    return None


def _of_region(kind: str, rest: list[str]) -> Route | None:
    """Of ``region/NAME/VERB``, or of all regions; one is registered by its name only."""
    verb = rest[-1]
    methods = _SHARED.get(verb)
    name = _unquoted(rest[1]) if len(rest) == 3 and rest[0] == "region" else ""
    if methods is None or len(name) > NAME_CAP:
        return None
    if not name and (len(rest) != 1 or verb == "register"):
        return None
    return Route(Page.SHARED if kind[0] == "s" else Page.CUDA, methods, name, None, verb)


def _of_model(quoted: str, rest: list[str]) -> Route | None:
    name = _unquoted(quoted)
    if not name or len(name) > NAME_CAP:
        return None
    version = None
    if rest[:1] == ["versions"] and len(rest) > 1:
        version, rest = rest[1], rest[2:]
        if not (version.isascii() and version.isdigit() and len(version) <= 16):
            return None
    found = _OF_MODEL.get(tuple(rest))
    if found is None or (found[0] is Page.ADMIN and version is not None):
        return None
    return Route(*found, name, version, "trace" if found[0] is Page.ADMIN else "")


def _unquoted(text: str) -> str:
    """With its percent signs read; bytes that are no UTF-8 name nothing that exists."""
    if "%" not in text:
        return text
    data = _QUOTED.sub(lambda found: bytes([int(found[1], 16)]), text.encode("latin-1"))
    return data.decode("utf-8", "replace")
