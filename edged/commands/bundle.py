"""``edged bundle``, ``install`` to ``floor``: the bundles that the configuration takes.

Decides what is printed and the exit status; what they do is in ``incoming/installing.py`` and
``installed.py``, imported when one of them runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edged.commands.changes import wait
from edged.commands.disk import check_given, refused
from edged.commands.seconds import seconds
from edged.commands.words import (
    add_admin_socket,
    add_config,
    add_json,
    add_socket,
    add_state_dir,
    add_verb,
    add_verbs,
)
from edged.config.problems import ConfigProblemsError
from edged.errors import STATUS, ApplyError, Code, EdgedError, InvalidRequestError

_LEAP = "also one whose number is further above the newest than trust.max_leap"
_INSTALLED = "the file stays; the daemon has not taken the change, because:"
_REMOVED = "the file is gone; the daemon has not taken the change, because:"


def add_bundles(commands: Any) -> None:
    """Give the command line its bundles."""
    text = "Install, list and remove the configuration's bundles."
    verbs = add_verbs(commands, "bundle", text)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        sub = add_verb(verbs, name, run, text)
        add_config(sub)
        return sub

    install = verb("install", _install, "Verify a bundle and put it where it is looked for.")
    install.add_argument("file", type=Path, help="made and signed by edged-convert")
    install.add_argument("--older", action="store_true", help="also one older than what is there")
    install.add_argument("--leap", action="store_true", help=_LEAP)
    pull = verb("pull", _pull, "Fetch a bundle from a source of the configuration and install it.")
    what = pull.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "reference", nargs="?", metavar="SOURCE/NAME[:TAG][@sha256:DIGEST]",
        help="of a source in `sources` of the configuration",
    )  # fmt: skip
    what.add_argument("--model", help="what its `pull` says, as the daemon does by itself")
    pull.add_argument("--older", action="store_true", help="also one older than what is there")
    pull.add_argument("--leap", action="store_true", help=_LEAP)
    pull.add_argument("--json", action="store_true", help="print the outcome as a line of JSON")
    remove = verb("remove", _remove, "Remove a release that the configuration can do without.")
    remove.add_argument("release", metavar="MODEL@RELEASE", help="see: edged bundle list")
    remove.add_argument("--older", action="store_true", help="also if an older one serves then")
    for sub in (install, pull, remove):
        sub.add_argument(
            "--wait", action="store_true",
            help="until the daemon has taken the change (exit status 0) or refused it (78)",
        )  # fmt: skip
        sub.add_argument("--timeout", type=seconds, default=300.0, help="seconds (default: 300)")
        add_state_dir(sub)
        add_socket(sub)
    floor = verb("floor", _floor, "Show or set the lowest release of a model that is accepted.")
    floor.add_argument(
        "release", nargs="*", metavar="MODEL@RELEASE", help="what to set; release 0: no floor"
    )
    floor.add_argument(
        "--from-serving", action="store_true",
        help="no release before the one that serves, for each model; also where all are damaged",
    )  # fmt: skip
    add_state_dir(floor)
    gc = verb("gc", _gc, "Remove from the daemon's store what nothing needs any more.")
    gc.add_argument("--dry-run", action="store_true", help="say what would go, remove nothing")
    add_json(gc)
    add_admin_socket(gc)
    show = verb("list", _list, "Show the bundles where the configuration looks, and their signers.")
    add_json(show)


def _install(options: argparse.Namespace) -> int:
    from edged.incoming.installing import install  # noqa: PLC0415

    check_given(options.file, "the .edgb file of one bundle")
    allowed = {"older": options.older, "leap": options.leap}
    try:
        done = install(options.config, options.file, **allowed, state_dir=options.state_dir)
    except ConfigProblemsError:
        raise
    except EdgedError as exc:
        if options.file.name not in exc.message:  # which of several, where a script installs them
            exc.message = f"{options.file}: {exc.message}"
        raise
    print(done, flush=True)
    return wait(options, _INSTALLED) if options.wait else 0


def _pull(options: argparse.Namespace) -> int:
    from edged.commands.pulling import Meter, pull, pull_model  # noqa: PLC0415

    state_dir, meter = options.state_dir, Meter()
    try:
        if options.model:
            done = pull_model(options.config, options.model, state_dir=state_dir, meter=meter)
        else:
            words = options.config, options.reference
            allowed = {"older": options.older, "leap": options.leap}
            done = pull(*words, **allowed, state_dir=state_dir, meter=meter)
    except EdgedError as exc:
        if not options.json:
            raise
        pause_s = getattr(exc, "retry_after_ns", 0) / 1e9
        outcome = {"state": "failed", "text": exc.message, "digest": "", "retry_after_s": pause_s}
        print(json.dumps(outcome | {"bytes": meter.bytes}))
        return STATUS[exc.code].exit
    if options.json:
        outcome = {"state": done.state, "text": done.text, "digest": done.digest}
        print(json.dumps(outcome | {"bytes": meter.bytes}))
    else:
        print(done.text, flush=True)
    return wait(options, _INSTALLED) if options.wait else 0


def _remove(options: argparse.Namespace) -> int:
    from edged.commands.installed import remove  # noqa: PLC0415

    model, number = _named(options.release)
    print(remove(options.config, model, number, older=options.older), flush=True)
    return wait(options, _REMOVED) if options.wait else 0


def _floor(options: argparse.Namespace) -> int:
    from edged.generation.record import find_state_dir  # noqa: PLC0415
    from edged.store.floors import Floors  # noqa: PLC0415

    state_dir = options.state_dir or find_state_dir(options.config)
    floors = Floors(state_dir)
    said = dict(_named(one) for one in options.release)
    try:
        if options.from_serving:
            floors.set_by_serving(said)
        else:
            for model, number in said.items():
                floors.set(model, number)
    except OSError as exc:
        raise ApplyError(f"the floor cannot be set in {state_dir}: {refused(exc)}") from exc
    known = sorted(floors.all().items())
    for model, number in known:
        print(f"{model}: no release before {number} is accepted")
    if not known:
        print("no model has a floor")
    return 0


def _named(release: str) -> tuple[str, int]:
    model, _, number = release.rpartition("@")
    if not model or not number.isascii() or not number.isdecimal() or len(number) > 15:
        raise InvalidRequestError(
            f'"{release[:80]}": expected MODEL@RELEASE, such as digits@3; see: edged bundle list'
        )
    return model, int(number)


def _gc(options: argparse.Namespace) -> int:
    from edged.commands.collect import collect, render  # noqa: PLC0415

    document = collect(options.socket, dry_run=options.dry_run)
    said = json.dumps(document, indent=2) if options.json else None
    print(said or render(document, dry_run=options.dry_run))
    return 0


def _list(options: argparse.Namespace) -> int:
    from edged.commands.installed import listed, render_listed  # noqa: PLC0415

    document = listed(options.config)
    print(json.dumps(document, indent=2) if options.json else render_listed(document))
    is_bad = any(one["problem"] for one in document)
    return STATUS[Code.FAILED_PRECONDITION].exit if is_bad else 0
