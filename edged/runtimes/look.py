"""The child that looks at a package's runtime: ``python -m edged.runtimes.look NAME``.

Imports it, makes it and asks it, and says in JSON what it is (``installed.Offer``) or what went
wrong. It may crash, hang or print: nobody but the parent waits for it.
"""

from __future__ import annotations

import os
import resource
import sys

import msgspec

from edged.runtimes.foreign import describe


def main(name: str) -> None:
    """Write what ``name`` offers to standard output; what the package prints goes elsewhere."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ours = os.dup(1)
    os.dup2(2, 1)
    os.write(ours, msgspec.json.encode(describe(name)))


if __name__ == "__main__":
    main(sys.argv[1])
    # Not by the way out that a package may have put something on.
    os._exit(0)
