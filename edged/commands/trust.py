"""``edged trust show | apply | forget``: the trust document that this device goes by.

Decides what is printed and the exit status; what they do is in ``generation/trusted.py`` and the
store.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.commands.changes import wait
from edged.commands.disk import check_given, refused
from edged.commands.seconds import seconds
from edged.commands.words import (
    add_config,
    add_json,
    add_socket,
    add_state_dir,
    add_verb,
    add_verbs,
)
from edged.errors import ApplyError, EdgedError

if TYPE_CHECKING:
    from edged.config.load import Snapshot

_KEPT = "the document is kept, and installs go by it; the daemon does not go by it yet, because:"


def add_trust(commands: Any) -> None:
    """Give the command line its trust."""
    text = "Show or change whose bundles this device accepts."
    verbs = add_verbs(commands, "trust", text)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        sub = add_verb(verbs, name, run, text)
        add_config(sub)
        add_state_dir(sub)
        return sub

    show = verb("show", _show, "Show the trust document in effect: its keys, floors and end.")
    add_json(show)
    apply = verb(
        "apply", _apply, "Go by another trust document, signed by the old root and its own."
    )
    apply.add_argument("file", type=Path, help="made by edged-convert trust and signed")
    apply.add_argument(
        "--wait", action="store_true",
        help="until the daemon goes by it (exit status 0), or refuses its files with it (78)",
    )  # fmt: skip
    apply.add_argument(
        "--anew", action="store_true",
        help="what the device went by is damaged: the document follows the file of trust.root",
    )  # fmt: skip
    apply.add_argument("--timeout", type=seconds, default=300.0, help="seconds (default: 300)")
    add_socket(apply)
    verb("forget", _forget, "Go by the file of trust.root again, as a new device; needs root.")


def _show(options: argparse.Namespace) -> int:
    from edged.config.load import load  # noqa: PLC0415
    from edged.generation.trusted import load_trust, load_trusted, trust_warnings  # noqa: PLC0415
    from edged.store.trust_document import public_keys  # noqa: PLC0415

    snapshot, state_dir = load(options.config), _state_dir(options)
    trusted = load_trusted(snapshot, state_dir)
    document: dict[str, Any] = {"version": None}
    if trusted is None:
        store = load_trust(snapshot, state_dir)
        document |= {"release": {"threshold": store.threshold, "keys": sorted(store.keys)}}
    else:
        said = trusted.document
        document = {
            "version": said.version,
            "issued": said.issued,
            "expires": None if said.last_day is None else str(said.last_day),
            "floors": dict(said.floors),
        }
        for name in ("root", "release"):
            role = getattr(said, name)
            keys = sorted(public_keys(role))
            document[name] = {"threshold": role.threshold, "keys": keys}
        document["former"] = [len(one.keys) for one in trusted.former]
    document["warnings"] = [str(one) for one in trust_warnings(snapshot, state_dir)]
    print(json.dumps(document, indent=2) if options.json else "\n".join(_lines(document)))
    return 0


def _lines(document: dict[str, Any]) -> Iterator[str]:
    from edged.commands.rendering import counted  # noqa: PLC0415

    if document["version"] is None:
        yield "no trust document: the configuration lists its keys itself (trust.keys)"
    else:
        end = f", good until {document['expires']}" if document["expires"] else ""
        yield f"trust version {document['version']}, issued {document['issued']}{end}"
    for name in ("root", "release"):
        if name in document:
            role = document[name]
            yield f"{name}: {role['threshold']} of {len(role['keys'])}"
            yield from (f"  {key}" for key in role["keys"])
    for model, release in sorted(document.get("floors", {}).items()):
        yield f"{model}: no release before {release} is accepted"
    if document.get("former"):
        yield f"keys of {counted(len(document['former']), 'document')} before it are remembered"
    yield from (f"warning: {one}" for one in document["warnings"])


def _apply(options: argparse.Namespace) -> int:
    from edged.generation.record import load_or_last_good  # noqa: PLC0415
    from edged.generation.trusted import apply_trust  # noqa: PLC0415

    check_given(options.file, "a trust document")
    state_dir = _state_dir(options)
    try:
        # A stolen key does not wait until somebody has mended the configuration.
        snapshot = load_or_last_good(options.config, state_dir)
        done = apply_trust(snapshot, options.file, state_dir, anew=options.anew)
    except OSError as exc:
        raise ApplyError(f"it cannot be kept in {state_dir}: {refused(exc)}") from exc
    print(done)
    with contextlib.suppress(EdgedError, OSError):  # what is odd with them is said elsewhere
        _tell_serving(snapshot, state_dir)
    sys.stdout.flush()
    return wait(options, _KEPT) if options.wait else 0


def _forget(options: argparse.Namespace) -> int:
    from edged.generation.record import load_or_last_good  # noqa: PLC0415
    from edged.store.trust_state import TrustState  # noqa: PLC0415

    state_dir = _state_dir(options)
    try:
        found = TrustState(state_dir).forget()
    except OSError as exc:
        raise ApplyError(f"it cannot be removed from {state_dir}: {refused(exc)}") from exc
    print("forgotten: the file of trust.root counts again" if found else "none was kept")
    with contextlib.suppress(EdgedError, OSError):
        _tell_serving(load_or_last_good(options.config, state_dir), state_dir)
    return 0


def _tell_serving(snapshot: Snapshot, state_dir: Path) -> None:
    """What it means for what serves; that must not be found out at the next restart."""
    from edged.generation.trusted import about_serving, load_trust  # noqa: PLC0415

    for line in about_serving(load_trust(snapshot, state_dir), state_dir):
        print(line)


def _state_dir(options: argparse.Namespace) -> Path:
    from edged.generation.record import find_state_dir  # noqa: PLC0415

    given: Path | None = options.state_dir
    return given or find_state_dir(options.config)
