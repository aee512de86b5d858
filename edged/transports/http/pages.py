"""What is said of models and of the server over HTTP: the documents of the pages.

Decides which document a page is; which of them a client may see is ``access.pages``'.
"""

from __future__ import annotations

from typing import Any

from edged.protocol import oip
from edged.protocol.frames import Buffer
from edged.transports.http.routes import Page, Route
from edged.transports.oip_door import Pages


def document_of(
    pages: Pages, route: Route, body: Buffer, *, has_memory: bool, has_admin: bool
) -> tuple[int, Any]:
    """A page's status and document.

    Args:
        pages: know what to say.
        route: which page.
        body: of the request.
        has_memory: whether memory by name is served.
        has_admin: whether this is the administrators' socket.

    Raises:
        EdgedError: there is no such model, or the client may not see it.
    """
    page, name = route.page, route.model
    if page is Page.READY:
        reasons = pages.unready()
        document: dict[str, Any] = {"live": True, "ready": not reasons}
        if reasons:
            return 503, {**document, "not_ready": dict(reasons)}
    elif page is Page.LIVE:
        document = {"live": True}
    elif page is Page.SERVER:
        document = pages.server()
        more = ["system_shared_memory"] if has_memory else []
        more += ["logging"] if has_admin else []
        extensions = (*document.get("extensions", ()), "generate", *more)
        document = {**document, "extensions": extensions}
    elif page is Page.MODEL:
        document = pages.model(name, route.version)
    elif page is Page.MODEL_READY:
        document = pages.model_ready(name, route.version)
    elif page is Page.CONFIG:
        document = pages.config(name, route.version)
    elif page is Page.STATS:
        document = pages.statistics(name or None, route.version)
    else:
        return 200, pages.index(ready=oip.wants_ready_only(body))
    return 200, document
