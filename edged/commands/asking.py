"""The commands that ask a running daemon: how it does, and what a model answers.

Decides what is printed and the exit status; each imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from edged.commands.words import ADMIN_SOCKET, add_admin_socket, add_json, add_socket, add_verb
from edged.errors import STATUS, Code, InvalidRequestError


def add_asking(commands: Any) -> None:
    """Add the commands; ``commands`` is what ``add_subparsers`` gave."""
    for name, handler, text in (
        (
            "status",
            _status,
            "Show what the daemon does and what is not as it should be.",
        ),
        ("models", _models, "Show the models, their releases and signatures."),
    ):
        sub = add_verb(commands, name, handler, text)
        add_socket(sub)
        add_json(sub)
        if name == "status":
            sub.add_argument(
                "--ready", action="store_true",
                help="one line for scripts and probes: exit status 0 when ready, 69 when not",
            )  # fmt: skip

    for name, text in (
        ("load", "Load a model, also one that was unloaded, and wait for it."),
        ("unload", "Free a model's memory; nobody is answered until edged load."),
    ):
        sub = add_verb(commands, name, _administer, text)
        sub.set_defaults(verb=name)
        sub.add_argument("model", help="its name; all its releases are meant")
        add_admin_socket(sub)

    metrics = add_verb(
        commands, "metrics", _metrics, "Print every figure, as Prometheus reads them."
    )
    add_socket(metrics)
    _add_infer(commands)
    _add_rollout(commands)


def _add_infer(commands: Any) -> None:
    infer = add_verb(commands, "infer", _infer, "Ask a model once.")
    infer.add_argument("model", help="NAME, NAME@RELEASE or NAME@ALIAS")
    infer.add_argument(
        "inputs", nargs="*", metavar="INPUT=VALUE",
        help="VALUE is JSON, @file.npy, @file.json, or @file.png for models that take pictures; "
        "INPUT= may be left out when the model has one input",
    )  # fmt: skip
    infer.add_argument("--timeout", type=float, default=10.0, help="seconds (default: 10)")
    infer.add_argument(
        "--stream", action="store_true",
        help="several answers, each as a line of JSON as soon as it is there",
    )  # fmt: skip
    infer.add_argument("--raw", action="store_true", help="print the tensors, not what they mean")
    infer.add_argument(
        "--sequence", metavar="ID", help="of a model that keeps state: go on with this"
    )
    infer.add_argument("--start", action="store_true", help="begin the sequence anew")
    infer.add_argument("--end", action="store_true", help="keep no state after this")
    add_socket(infer)


def _add_rollout(commands: Any) -> None:
    text = "Show how new releases do; promote one, or take it back."
    sub = add_verb(commands, "rollout", _rollout, text)
    sub.add_argument("verb", choices=("status", "promote", "abort"), help="what to do")
    sub.add_argument("model", nargs="?", help="which; left out: all of them, of status")
    add_json(sub)
    sub.add_argument(
        "--socket",
        help="default: as edged status; to promote or abort $EDGED_ADMIN_SOCKET, else "
        f"{ADMIN_SOCKET}",
    )


def _status(options: argparse.Namespace) -> int:
    from edged.client import Client  # noqa: PLC0415
    from edged.commands.rendering import render_ready, render_status  # noqa: PLC0415

    with Client(options.socket) as client:
        document = client.status()
    if options.ready:
        print(render_ready(document))
    else:
        print(json.dumps(document, indent=2) if options.json else render_status(document))
    return 0 if document["ready"] else STATUS[Code.UNAVAILABLE].exit


def _models(options: argparse.Namespace) -> int:
    from edged.client import Client  # noqa: PLC0415
    from edged.commands.rendering import render_models  # noqa: PLC0415

    with Client(options.socket) as client:
        document = client.models()
    print(json.dumps(document, indent=2) if options.json else render_models(document))
    return 0


def _administer(options: argparse.Namespace) -> int:
    from edged.commands.rolling import administer  # noqa: PLC0415

    # A large model is loaded for as long as it takes; the daemon bounds an unload.
    administer(options.socket, options.verb, options.model, timeout=None)
    print(f'model "{options.model}": {options.verb}ed')
    return 0


def _metrics(options: argparse.Namespace) -> int:
    from edged.client import Client  # noqa: PLC0415

    with Client(options.socket) as client:
        print(client.call("metrics"), end="")
    return 0


def _infer(options: argparse.Namespace) -> int:
    from edged.commands.question import ask, ask_for_each, step_of  # noqa: PLC0415

    step = step_of(options.sequence, start=options.start, end=options.end)
    words = (options.socket, options.model, options.inputs, options.timeout, options.raw)
    if options.stream:
        if step is not None:
            raise InvalidRequestError("--stream and --sequence are of two kinds of models: use one")
        for line in ask_for_each(*words):
            print(json.dumps(line), flush=True)
        return 0
    answer = ask(*words, step=step)
    print(json.dumps(answer, indent=2))
    return 0


def _rollout(options: argparse.Namespace) -> int:
    from edged.commands.rolling import end, listed, render  # noqa: PLC0415

    if options.verb == "status":
        found = listed(options.socket, options.model)
    elif options.model is None:
        raise InvalidRequestError(f"edged rollout {options.verb}: which model?")
    else:
        found = [end(options.socket, options.verb, options.model)]
    print(json.dumps(found, indent=2) if options.json else render(found))
    return 0
