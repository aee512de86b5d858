"""The child that looks at a runtime: ``python -m edged.runtimes.look NAME``.

Imports it, makes it and asks it, and says in JSON what it is (``installed.Offer``) or what went
wrong. It may crash, hang or print: nobody but the parent waits for it.
"""

from __future__ import annotations

import os
import resource
import sys

import msgspec

from edged.runtimes.foreign import describe
from edged.runtimes.installed import Offer
from edged.runtimes.registry import ARTEFACT_KINDS, RUNTIME_NAMES, create_runtime


def tell(name: str) -> Offer:
    """What a runtime says of itself, built in or of a package."""
    if name not in RUNTIME_NAMES:
        return describe(name)
    info = create_runtime(name, threads=1).info()
    kinds = () if info.problem else ARTEFACT_KINDS[name]
    return Offer(
        name, kinds=kinds, version=info.version[:64], devices=info.devices,
        note=info.note[:1000], problem=info.problem[:1000],
    )  # fmt: skip


def main(name: str) -> None:
    """Write what ``name`` offers to standard output; what the package prints goes elsewhere."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ours = os.dup(1)
    os.dup2(2, 1)
    os.write(ours, msgspec.json.encode(tell(name)))


if __name__ == "__main__":
    main(sys.argv[1])
    # Not by the way out that a package may have put something on.
    os._exit(0)
