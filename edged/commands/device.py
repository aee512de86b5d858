"""The commands about this device: its engines, what is in quarantine, its hardware.

Decides what is printed and the exit status; each imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from edged.commands.words import add_config, add_json, add_state_dir, add_verb


def add_device(commands: Any) -> None:
    """Add the commands; ``commands`` is what ``add_subparsers`` gave."""
    build = add_verb(
        commands, "build", _build, "Build a model's engines for this device, ahead of time."
    )
    build.add_argument("model", help="NAME, NAME@RELEASE or NAME@ALIAS")
    build.add_argument(
        "--precision", choices=("float32", "float16", "int8"), default="",
        help="default: what models.NAME.precision says",
    )  # fmt: skip
    build.add_argument("--again", action="store_true", help="also those that are there already")
    engines = add_verb(
        commands, "engines", _engines, "Show the engines that this device has built."
    )
    add_json(engines)
    for sub in (build, engines):
        add_config(sub)
        add_state_dir(sub)
    quarantine = add_verb(
        commands, "quarantine", _quarantine,
        "Show which releases are left out; let one be tried again.",
    )  # fmt: skip
    add_config(quarantine)
    add_state_dir(quarantine)
    quarantine.add_argument(
        "--lift", metavar="MODEL", help="let it be tried again (a model's name or a digest)"
    )
    device = add_verb(
        commands, "device", _device, "Show this machine: processor, GPUs, runtimes, heat."
    )
    add_json(device)


def _build(options: argparse.Namespace) -> int:
    from edged.commands.ahead import build_ahead  # noqa: PLC0415
    from edged.generation.record import find_state_dir  # noqa: PLC0415

    state_dir = options.state_dir or find_state_dir(options.config)
    say = lambda line: print(line, flush=True)  # noqa: E731
    build_ahead(
        options.config, state_dir, options.model, say,
        precision=options.precision, again=options.again,
    )  # fmt: skip
    return 0


def _engines(options: argparse.Namespace) -> int:
    from edged.commands.ahead import as_json, kept_engines, render_engines  # noqa: PLC0415
    from edged.generation.record import find_state_dir  # noqa: PLC0415

    document = kept_engines(options.config, options.state_dir or find_state_dir(options.config))
    print(as_json(document) if options.json else render_engines(document))
    return 0


def _quarantine(options: argparse.Namespace) -> int:
    from edged.commands.quarantine import lift, quarantined, render  # noqa: PLC0415
    from edged.generation.record import find_state_dir  # noqa: PLC0415

    state_dir = options.state_dir or find_state_dir(options.config)
    print(lift(state_dir, options.lift) if options.lift else render(quarantined(state_dir)))
    return 0


def _device(options: argparse.Namespace) -> int:
    from edged.commands.rendering import device_document, render_device  # noqa: PLC0415

    document = device_document()
    print(json.dumps(document, indent=2) if options.json else render_device(document))
    return 0
