"""What the words of several commands share: how a verb is added, and the options of all."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEFAULT_CONFIG = "/etc/edged/edged.yaml"
ADMIN_SOCKET = "/run/edged/admin.sock"
"""Where ``listen.admin`` is asked when nothing else is said."""


def add_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add a verb.

    Args:
        verbs: what ``add_subparsers`` or ``add_verbs`` gave.
        name: the verb.
        run: does it, and returns the exit status.
        text: one sentence, for both helps.
    """
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(run=run)
    return verb


def add_verbs(commands: Any, name: str, text: str) -> Any:
    """Add a command that has verbs of its own; returns where they go."""
    command = commands.add_parser(name, help=text, description=text)
    return command.add_subparsers(required=True, metavar="VERB")


def add_config(parser: argparse.ArgumentParser) -> None:
    """``--config``."""
    parser.add_argument(
        "--config", type=Path, default=Path(DEFAULT_CONFIG),
        help=f"edged.yaml or its directory (default: {DEFAULT_CONFIG})",
    )  # fmt: skip


def add_state_dir(parser: argparse.ArgumentParser) -> None:
    """``--state-dir``."""
    parser.add_argument("--state-dir", type=Path, help="overrides state_dir of the configuration")


def add_socket(parser: argparse.ArgumentParser) -> None:
    """``--socket``, of commands that anybody may give."""
    parser.add_argument("--socket", help="default: $EDGED_SOCKET, else /run/edged/edged.sock")


def add_admin_socket(parser: argparse.ArgumentParser) -> None:
    """``--socket``, of commands for administrators."""
    parser.add_argument(
        "--socket",
        help=f"listen.admin of the daemon; default: $EDGED_ADMIN_SOCKET, else {ADMIN_SOCKET}",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print the whole document as JSON")
