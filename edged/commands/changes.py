"""The commands about configurations that take effect, and those that did.

Decides what is printed and the exit status; what they do is in ``generations.py``, imported when
one of them runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from edged.commands.seconds import seconds
from edged.commands.words import add_config, add_json, add_socket, add_state_dir, add_verb
from edged.errors import STATUS, Code, InvalidRequestError

_AGAIN = "the daemon tries again by itself, at least once a minute"


def add_generations(commands: Any) -> None:
    """Add the commands; ``commands`` is what ``add_subparsers`` gave."""
    apply = add_verb(
        commands, "apply", _apply, "Have the daemon look at its files now; see --wait."
    )
    apply.add_argument(
        "--wait", action="store_true",
        help="until they are in effect (exit status 0) or refused (78, with every problem)",
    )  # fmt: skip
    apply.add_argument(
        "--confirmed", action="store_true", help="wait until they have proven good, too"
    )
    apply.add_argument("--again", action="store_true", help="also if they were set aside before")
    rollback = add_verb(
        commands, "rollback", _rollback, "Go back to a generation; the files stay as they are."
    )
    rollback.add_argument(
        "generation", nargs="?", type=int, default=0, metavar="N",
        help="see: edged history (default: the one before that proved good)",
    )  # fmt: skip
    history = add_verb(commands, "history", _history, "Show the generations that are kept.")
    add_json(history)
    for sub in (apply, rollback):
        add_socket(sub)
        sub.add_argument("--timeout", type=seconds, default=300.0, help="seconds (default: 300)")
    for sub in (apply, rollback, history):
        add_config(sub)
        add_state_dir(sub)


def _apply(options: argparse.Namespace) -> int:
    from edged.generation.history import Order  # noqa: PLC0415

    until = "confirmed" if options.confirmed else "applied" if options.wait else "asked"
    return _ask(options, Order(again=True) if options.again else None, until)


def _rollback(options: argparse.Namespace) -> int:
    from edged.generation.history import Order  # noqa: PLC0415

    if not 0 <= options.generation < 10**8:
        raise InvalidRequestError(
            f"generation {options.generation}: see which there are: edged history"
        )
    return _ask(options, Order(generation=options.generation), "applied")


def wait(options: argparse.Namespace, but: str = "") -> int:
    """Wait until a daemon has taken what lies there now (0) or refused it (78); the rest goes on.

    Args:
        options: with ``socket``, ``timeout``, ``state_dir`` and ``config``.
        but: what is so although it refused it; its reasons follow.
    """
    return _ask(options, None, "applied", but)


def _ask(options: argparse.Namespace, order: Any, until: str, but: str = "") -> int:
    from edged.commands.generations import Refused, ask  # noqa: PLC0415
    from edged.generation.record import find_state_dir  # noqa: PLC0415
    from edged.generation.retry import is_passing  # noqa: PLC0415

    state_dir = options.state_dir or find_state_dir(options.config)
    try:
        print(ask(options.socket, state_dir, order, timeout_s=options.timeout, until=until))
    except Refused as exc:
        # Where an operator ordered to go back, it does not: the order is done with.
        is_order = order is not None and order.generation is not None
        again = _AGAIN if not is_order and is_passing(exc.problems) else ""
        for line in filter(None, (but, *exc.problems, again)):
            print(line, file=sys.stderr)
        return STATUS[Code.FAILED_PRECONDITION].exit
    return 0


def _history(options: argparse.Namespace) -> int:
    from edged.commands.generations import history_document, render_history  # noqa: PLC0415
    from edged.generation.record import find_state_dir  # noqa: PLC0415

    state_dir = options.state_dir or find_state_dir(options.config)
    document = history_document(state_dir)
    print(json.dumps(document, indent=2) if options.json else render_history(document, state_dir))
    return 0
