"""What each call of the native protocol needs a right for, and what of its answer may be seen.

A call that is not listed here needs a right of its own name, which no rule can give: new ones are
closed until somebody decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edged.access.visit import Visit

_VERBS = {
    "status": "status",
    "metrics": "metrics",
    "reload": "reload",
    "logging": "logging",
    "collect": "reload",  # what nothing needs leaves the store after each reload anyway
}
_METADATA = "metadata"
_OF_MODEL = {"load": "load", "unload": "unload", "promote": "promote", "abort": "rollback"}


def check_call(visit: Visit, call: str, arguments: Mapping[str, Any]) -> None:
    """Go on if a connection may make this call.

    Raises:
        DeniedError: it may not.
        QuotaError: its requests come too fast.
    """
    visit.ask()
    if call == "models":
        return  # what may not be seen is left out of the answer
    if call == "manifest":
        visit.require(_METADATA, str(arguments.get("model")))
    elif call in _OF_MODEL:
        visit.require(_OF_MODEL[call], str(arguments.get("model")))
    elif call == "engines":
        visit.require("engines" if arguments.get("look") is True else "status")
    else:
        visit.require(_VERBS.get(call, call))


def visible(visit: Visit, call: str, document: Any) -> Any:
    """The answer to a call without the models that its asker may not see."""
    if call != "models" or visit.sees_all:
        return document
    return [one for one in document if visit.allows(_METADATA, one["name"])]
