"""The command line: ``edged run``, and the commands of ``commands/``, each with its own words.

Decides how a failure is said and the exit status of it (errors.STATUS; 78 for a bad configuration).
A command imports what it needs when it runs, so that ``edged status`` stays quick on a small box.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from edged.commands.asking import add_asking
from edged.commands.bundle import add_bundles
from edged.commands.changes import add_generations
from edged.commands.configuration import add_configuration
from edged.commands.desired import add_desired
from edged.commands.device import add_device
from edged.commands.manual import add_manual
from edged.commands.mqtt import add_mqtt
from edged.commands.trust import add_trust
from edged.commands.words import add_config, add_state_dir, add_verb
from edged.errors import STATUS, EdgedError
from edged.version import __version__

_EX_IOERR = 74
"""sysexits.h: an input or output error; no code of ours means that."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        status = run(options)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader that went away is understood
    except EdgedError as exc:
        print(f"error: {exc.message}", file=sys.stderr)
        return STATUS[exc.code].exit
    except BrokenPipeError:
        # The reader (less, head) had enough.
        _forget_output()
        return 0
    except OSError as exc:
        _forget_output()
        from edged.commands.disk import refused  # noqa: PLC0415

        where = f"{exc.filename}: " if exc.filename else ""
        print(f"error: {where}{refused(exc, is_state=False)}", file=sys.stderr)
        return _EX_IOERR
    except KeyboardInterrupt:
        return 130
    return status


def _forget_output() -> None:
    """What could not be written must not be tried, and complained about, again at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edged", description="Edge inference runtime.")
    parser.add_argument("--version", action="version", version=f"edged {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = add_verb(commands, "run", _run, "Run the daemon in the foreground.")
    add_config(run)
    add_state_dir(run)
    for add in (
        add_configuration, add_generations, add_asking, add_bundles, add_trust, add_mqtt,
        add_desired, add_device,
    ):  # fmt: skip
        add(commands)
    add_manual(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    from edged.boot import run  # noqa: PLC0415

    return run(options.config, options.state_dir)


if __name__ == "__main__":
    sys.exit(main())
