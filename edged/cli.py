"""The command line: ``edged run | check | diff | explain | status | models | infer | load | ...``.

Decides what is printed and the exit status (errors.STATUS; 78 for a bad configuration). Each
command imports what it needs when it runs, so that ``edged status`` stays quick on a small box.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edged.commands.bundle import add_bundles
from edged.commands.changes import add_generations
from edged.commands.desired import add_desired
from edged.commands.manual import add_manual
from edged.commands.mqtt import add_mqtt
from edged.commands.trust import add_trust
from edged.errors import STATUS, Code, EdgedError, InvalidRequestError
from edged.version import __version__

DEFAULT_CONFIG = "/etc/edged/edged.yaml"
_ADMIN_SOCKET = "/run/edged/admin.sock"
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

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    run = command("run", _run, "Run the daemon in the foreground.")
    _config_option(run)
    run.add_argument("--state-dir", type=Path, help="overrides state_dir of the configuration")

    check = command("check", _check, "Check a configuration and its bundles, without a daemon.")
    _config_option(check)
    check.add_argument("--no-files", action="store_true", help="the YAML only, no bundles or keys")
    check.add_argument("--json", action="store_true", help="what is wrong, as JSON, on stdout")
    check.add_argument("--explain", action="store_true", help="print every field and its default")
    check.add_argument("--schema", action="store_true", help="print a JSON schema for editors")

    diff = command("diff", _diff, "Show what a reload would change against what serves.")
    _config_option(diff)
    diff.add_argument("--state-dir", type=Path, help="overrides state_dir of the configuration")

    _add_explain(command)
    add_generations(command, _config_option, _socket_option)
    _add_looking(command)

    infer = command("infer", _infer, "Ask a model once.")
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
    _socket_option(infer)
    _add_engines(command)
    _add_rollout(command)
    add_bundles(commands, _config_option, _socket_option)
    add_trust(commands, _config_option, _socket_option)
    add_mqtt(commands, _config_option, _socket_option)
    add_desired(commands, _config_option, _socket_option)

    device = command("device", _device, "Show this machine: processor, GPUs, runtimes, heat.")
    device.add_argument("--json", action="store_true", help="print the whole document as JSON")
    add_manual(parser)
    return parser


def _add_explain(command: Callable[..., Any]) -> None:
    text = "Say whether a client may do something, and which rule decides."
    sub = command("explain", _explain, text)
    _config_option(sub)
    sub.add_argument("verb", help="infer, metadata, status, metrics, load, reload, …")
    sub.add_argument("model", nargs="?", default="", help="of which model")
    sub.add_argument("--user", help="name or number; left out: somebody over TCP")
    sub.add_argument("--certificate", default="", help="common name of a client certificate")
    sub.add_argument(
        "--on", choices=("native", "http", "grpc", "admin"), default="native", help="which socket"
    )
    sub.add_argument("--service-user", default="edged", help="whom the daemon runs as")


def _add_engines(command: Callable[..., Any]) -> None:
    """The commands about TensorRT engines that this device builds."""
    build = command("build", _build, "Build a model's engines for this device, ahead of time.")
    build.add_argument("model", help="NAME, NAME@RELEASE or NAME@ALIAS")
    build.add_argument(
        "--precision", choices=("float32", "float16", "int8"), default="",
        help="default: what models.NAME.precision says",
    )  # fmt: skip
    build.add_argument("--again", action="store_true", help="also those that are there already")
    engines = command("engines", _engines, "Show the engines that this device has built.")
    engines.add_argument("--json", action="store_true", help="print the whole document as JSON")
    for sub in (build, engines):
        _config_option(sub)
        sub.add_argument("--state-dir", type=Path, help="overrides state_dir of the configuration")


def _add_rollout(command: Callable[..., Any]) -> None:
    text = "Show how new releases do beside the stable ones; promote one, or take it back."
    sub = command("rollout", _rollout, text)
    sub.add_argument("verb", choices=("status", "promote", "abort"), help="what to do")
    sub.add_argument("model", nargs="?", help="which; left out: all of them, of status")
    sub.add_argument("--json", action="store_true", help="print the whole document as JSON")
    sub.add_argument(
        "--socket",
        help="default: as edged status; to promote or abort $EDGED_ADMIN_SOCKET, else "
        "/run/edged/admin.sock",
    )


def _quarantine_options(parser: argparse.ArgumentParser) -> None:
    _config_option(parser)
    parser.add_argument("--state-dir", type=Path, help="overrides state_dir of the configuration")
    parser.add_argument(
        "--lift", metavar="MODEL", help="let it be tried again (a model's name or a digest)"
    )


def _add_looking(command: Callable[..., Any]) -> None:
    """The commands that ask a running daemon what it does."""
    for name, handler, text in (
        (
            "status",
            _status,
            "Show what the daemon does and everything that is not as it should be.",
        ),
        ("models", _models, "Show the models, their releases and signatures."),
    ):
        sub = command(name, handler, text)
        _socket_option(sub)
        sub.add_argument("--json", action="store_true", help="print the whole document as JSON")
        if name == "status":
            sub.add_argument(
                "--ready", action="store_true",
                help="one line for scripts and probes: exit status 0 when ready, 69 when not",
            )  # fmt: skip

    for name, text in (
        ("load", "Bring a model into memory, also one that was unloaded, and wait for it."),
        ("unload", "Answer nobody for a model and give back its memory, until edged load."),
    ):
        sub = command(name, _administer, text)
        sub.set_defaults(verb=name)
        sub.add_argument("model", help="its name; all its releases are meant")
        sub.add_argument(
            "--socket",
            help=f"listen.admin of the daemon; default: $EDGED_ADMIN_SOCKET, else {_ADMIN_SOCKET}",
        )

    metrics = command("metrics", _metrics, "Print every figure, as Prometheus reads them.")
    _socket_option(metrics)
    _quarantine_options(
        command(
            "quarantine", _quarantine, "Show which releases are left out; let one be tried again."
        )
    )


def _config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path(DEFAULT_CONFIG),
        help=f"edged.yaml or its directory (default: {DEFAULT_CONFIG})",
    )  # fmt: skip


def _socket_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", help="default: $EDGED_SOCKET, else /run/edged/edged.sock")


def _run(options: argparse.Namespace) -> int:
    from edged.boot import run  # noqa: PLC0415

    return run(options.config, options.state_dir)


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
    problems, _ = find_problems(options.config, with_files=True, state_dir=options.state_dir)
    if not problems:
        return 0
    print("a reload would refuse it:", *problems, sep="\n  ", file=sys.stderr)
    return STATUS[Code.FAILED_PRECONDITION].exit


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


def _quarantine(options: argparse.Namespace) -> int:
    from edged.commands.quarantine import lift, quarantined, render  # noqa: PLC0415
    from edged.generation.record import find_state_dir  # noqa: PLC0415

    state_dir = options.state_dir or find_state_dir(options.config)
    print(lift(state_dir, options.lift) if options.lift else render(quarantined(state_dir)))
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


def _device(options: argparse.Namespace) -> int:
    from edged.commands.rendering import device_document, render_device  # noqa: PLC0415

    document = device_document()
    print(json.dumps(document, indent=2) if options.json else render_device(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
