"""Runtimes of packages that the operator has installed: entry points of ``edged.runtimes``.

Decides what is known of such a runtime before anything of it runs in this process. A child imports
it, asks it and answers in JSON (``look.py``): a package that crashes, hangs or ends the process
when it is imported has done so there. ``foreign.py`` is what loads with it.
"""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from edged import decoding
from edged.runtimes.packages import offered
from edged.system.child import child_environment

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

log = logging.getLogger("edged.runtimes")

GROUP = "edged.runtimes"
NAME = r"^[a-z][a-z0-9-]{0,31}\Z"
"""Of a runtime; it is a word of configurations, figures and file names."""
_TAKEN = "auto"
"""A word of configurations that is no name."""
_PATIENCE_S = 30.0
"""Importing a large package takes ten seconds on a small board."""
_FRESH_S = 30.0
"""A failure no older than this is told again: a load asks often, and each look takes time."""
_Line = Annotated[str, Meta(max_length=1000)]
_Word = Annotated[str, Meta(max_length=64)]


class Offer(Struct, frozen=True):
    """What an installed package gives.

    Args:
        name: of the runtime.
        package: that gives it, with its version.
        kinds: of artefacts that it takes, the best first; empty with a problem.
        device: what its runs keep busy.
        computes_in: what it is told to compute floats in; empty where it keeps to the model.
        version: of what it runs on; empty with a problem.
        devices: what it can run on.
        note: what whoever trusts its numbers should know.
        problem: why it cannot be used and what to do; empty when it can.
    """

    name: _Word
    package: _Line = ""
    kinds: Annotated[tuple[_Word, ...], Meta(max_length=8)] = ()
    device: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,15}\Z")] = "cpu"
    computes_in: _Word = ""
    version: _Word = ""
    devices: Annotated[tuple[_Word, ...], Meta(max_length=64)] = ()
    note: _Line = ""
    problem: _Line = ""


_offers: dict[str, tuple[Offer, float]] = {}
"""By name, and when it was asked for: what an import comes to stays so while the process lives."""
_lock = threading.Lock()
"""One look at a time: a child that imports a large package fills a small box."""


def installed_names() -> list[str]:
    """The runtimes of installed packages, by the names that a configuration may use."""
    return sorted(name for name in offered(GROUP) if re.match(NAME, name) and name != _TAKEN)


def offer_of(name: str) -> Offer:
    """What an installed package gives by a name; a child looks the first time. Never raises."""
    known = _offers.get(name)
    if known is None:
        with _lock:
            known = _offers.get(name) or (_look(name), time.monotonic())
            _offers[name] = known
    return known[0]


def look_again(name: str) -> Offer:
    """The same; what failed is looked at again, for it may be mended. Not for the loop: seconds.

    What could be imported once stays so while this process lives.
    """
    offer = offer_of(name)
    with _lock:
        if offer.problem and time.monotonic() - _offers[name][1] > _FRESH_S:
            _offers[name] = (_look(name), time.monotonic())
        return _offers[name][0]


def entry_of(name: str) -> tuple[EntryPoint, str]:
    """The one entry point of a name, and its package with the version.

    Raises:
        LookupError: none has it, or two have; the message says so.
    """
    found = offered(GROUP).get(name, []) if re.match(NAME, name) else []
    packages = [_package(entry) for entry in found]
    if len(found) > 1:
        raise LookupError(f"several packages give it: {', '.join(packages)}; uninstall all but one")
    if not found:
        raise LookupError(f"no installed package gives it (an entry point of the group {GROUP})")
    return found[0], packages[0]


def _package(entry: EntryPoint) -> str:
    dist = entry.dist
    try:
        if dist is not None:
            return f"{dist.name} {dist.version or ''}".strip()[:100]
    except Exception:  # a package whose own record is broken
        log.debug("the record of a package cannot be read", exc_info=True)
    return entry.module[:100]


def _look(name: str) -> Offer:
    """Let a child import it and ask it."""
    try:
        package = entry_of(name)[1]
    except LookupError as exc:
        return Offer(name, problem=f"{exc}"[:1000])
    return look_at(name, package, "ask whom it comes from")


def look_at(name: str, package: str, remedy: str) -> Offer:
    """Let a child import a runtime and ask it; what it does to that child is told in words.

    Args:
        name: of a runtime, built in or not.
        package: whose it is, for messages.
        remedy: what to do where the child comes to harm.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-s", "-m", "edged.runtimes.look", name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd="/", env=child_environment(), timeout=_PATIENCE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        why = f"importing it takes longer than {_PATIENCE_S:.0f} s"
    except OSError as exc:
        why = f"no process could be started to look at it ({exc.strerror})"
    else:
        try:
            return decoding.decode(done.stdout, Offer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            why = f"importing it ended the process ({_ended(done.returncode)})"
    return Offer(name, package, problem=f"{package}: {why}; {remedy}")


def _ended(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit status {code}"
