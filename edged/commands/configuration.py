"""The commands about a configuration that need no daemon: ``edged check | diff | explain``.

Decides what is printed and the exit status; what they find is in ``verdict.py``, imported when one
of them runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from edged.commands.words import add_config, add_state_dir, add_verb
from edged.errors import STATUS, Code


def add_configuration(commands: Any) -> None:
    """Add the commands; ``commands`` is what ``add_subparsers`` gave."""
    check = add_verb(
        commands, "check", _check, "Check a configuration and its bundles, without a daemon."
    )
    add_config(check)
    check.add_argument("--no-files", action="store_true", help="the YAML only, no bundles or keys")
    check.add_argument("--json", action="store_true", help="what is wrong, as JSON, on stdout")
    check.add_argument("--explain", action="store_true", help="print every field and its default")
    check.add_argument("--schema", action="store_true", help="print a JSON schema for editors")

    diff = add_verb(commands, "diff", _diff, "Show what a reload would change against what serves.")
    add_config(diff)
    add_state_dir(diff)

    text = "Say whether a client may do something, and which rule decides."
    sub = add_verb(commands, "explain", _explain, text)
    add_config(sub)
    sub.add_argument("verb", help="infer, metadata, status, metrics, load, reload, …")
    sub.add_argument("model", nargs="?", default="", help="of which model")
    sub.add_argument("--user", help="name or number; left out: somebody over TCP")
    sub.add_argument("--certificate", default="", help="common name of a client certificate")
    sub.add_argument(
        "--on", choices=("native", "http", "grpc", "admin"), default="native", help="which socket"
    )
    sub.add_argument("--service-user", default="edged", help="whom the daemon runs as")


def _check(options: argparse.Namespace) -> int:
    if options.schema:
        from edged.config.json_schema import json_schema  # noqa: PLC0415

        print(json.dumps(json_schema(), indent=2))
        return 0
    if options.explain:
        from edged.config.explain import format_explanation  # noqa: PLC0415

        print(format_explanation())
        return 0
    from edged.commands.verdict import find_problems, problems_document  # noqa: PLC0415

    problems, summary = find_problems(options.config, with_files=not options.no_files)
    status = STATUS[Code.FAILED_PRECONDITION].exit if problems else 0
    if options.json:
        print(json.dumps(problems_document(options.config, problems, summary), indent=2))
        return status
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        noun = "problem" if len(problems) == 1 else "problems"
        print(f"{options.config}: {len(problems)} {noun}; nothing was changed", file=sys.stderr)
    else:
        print(f"{options.config}: {summary}")
    return status


def _explain(options: argparse.Namespace) -> int:
    from edged.commands.verdict import explain_config  # noqa: PLC0415
    from edged.config.access_check import user_number  # noqa: PLC0415

    service = options.service_user if user_number(options.service_user) is not None else ""
    is_allowed, line = explain_config(
        options.config, who=options.user, certificate=options.certificate, door=options.on,
        verb=options.verb, model=options.model, service=service,
    )  # fmt: skip
    print(line)
    return 0 if is_allowed else STATUS[Code.PERMISSION_DENIED].exit


def _diff(options: argparse.Namespace) -> int:
    from edged.commands.verdict import diff_config, find_problems  # noqa: PLC0415

    text = diff_config(options.config, options.state_dir)
    print(text or "no difference: a reload would change nothing")
    problems, _ = find_problems(
        options.config, with_files=True, state_dir=options.state_dir, is_reload=True
    )
    if not problems:
        return 0
    print("a reload would refuse it:", *problems, sep="\n  ", file=sys.stderr)
    return STATUS[Code.FAILED_PRECONDITION].exit
