"""edged: an edge inference runtime.

Importing this package costs almost nothing: the clients are loaded when they are first asked for,
and no inference runtime, broker client or image library is imported until a configuration needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edged.version import __version__

if TYPE_CHECKING:
    from edged import aio, errors
    from edged.client import Client

__all__ = ["Client", "__version__", "aio", "errors"]


def __getattr__(name: str) -> Any:
    """Load the public names lazily (PEP 562), so that ``import edged`` stays light."""
    if name == "Client":
        from edged.client import Client  # noqa: PLC0415 - lazy by design

        return Client
    if name in {"aio", "errors"}:
        return importlib.import_module(f"edged.{name}")
    raise AttributeError(f"module 'edged' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What completes in a shell: the public names, loaded or not."""
    return sorted({*globals(), *__all__})
