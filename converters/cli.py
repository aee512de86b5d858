"""``edged-convert``: the commands. Every error is one line on stderr and an exit code."""

# The commands import what they need inside themselves: keygen must not wait for onnx.
# ruff: noqa: PLC0415

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from converters.flags import COMMANDS, build_parser
from converters.given import complete, fields_from
from converters.screen import Screen
from edged.errors import STATUS, Code, EdgedError, first_line

if TYPE_CHECKING:
    from converters.workflow import Report


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or the exit code that ``edged.errors.STATUS`` gives the error's code; 1 when some models
        of a batch failed.
    """
    _settle_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments.insert(0, "convert")
    args = build_parser().parse_args(arguments)
    screen = Screen()
    try:
        with _ends_tidily():
            return _COMMANDS[args.command](args, screen) or 0
    except EdgedError as exc:
        screen.error(*exc.detail.get("lines", [exc.message]))
        return STATUS[exc.code].exit
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away (a pager was closed): nothing to say, to nobody
        return 0
    except TerminatedError:
        screen.error("terminated")
        return 143
    except KeyboardInterrupt:
        screen.error("interrupted")
        return 130
    except Exception as exc:
        if _was_interrupted(exc):
            screen.error("interrupted")
            return 130
        if os.environ.get(TRACEBACK):
            raise
        screen.error(_unexpected(exc))
        return STATUS[Code.INTERNAL].exit


TRACEBACK = "EDGED_TRACEBACK"
"""The environment variable that shows where an unexpected error came from."""


_CONVERTS_WITH = {"onnx", "google", "google.protobuf", "packaging", "rich"}
"""What the extra ``convert`` brings; a device does without."""


def _unexpected(exc: Exception) -> str:
    """A sentence for what no step of ours foresaw: the machine's doing, or a mistake of edged."""
    if isinstance(exc, MemoryError):
        return "out of memory: give it more, or bring fewer samples"
    if isinstance(exc, OSError) and exc.strerror:
        where = f"{exc.filename}: " if exc.filename else ""
        return f"{where}{exc.strerror}"
    if isinstance(exc, ModuleNotFoundError) and exc.name in _CONVERTS_WITH:
        return (
            f"{exc.name} is not installed: on the machine that converts, pip install "
            '"edged[convert]", or the extra of your framework: convert-sklearn, convert-torch, '
            "convert-tf, convert-jax"
        )
    first = first_line(exc, 400)
    return (
        f"something failed inside edged-convert: {type(exc).__name__}: {first}; {TRACEBACK}=1 in "
        "the environment shows where, for a report of the bug"
    )


class TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: like Ctrl-C, everything that was begun is taken back."""


@contextmanager
def _ends_tidily() -> Iterator[None]:
    """Let ``kill`` and a closed terminal end the program as Ctrl-C does, not in the middle."""
    ours = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) == signal.SIG_DFL
    ]

    def end(_number: int, _frame: object) -> None:
        raise TerminatedError

    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _was_interrupted(exc: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: while a library is loaded it becomes an ImportError."""
    while exc is not None:
        if isinstance(exc, KeyboardInterrupt):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _settle_streams() -> None:
    """A closed stdout swallows, and what the locale cannot say is written as an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _convert(args: Namespace, screen: Screen) -> None:
    from converters.lock import open_lock
    from converters.paths import check_output, check_replaceable
    from converters.registries import lookup, mlflow
    from converters.report.write import beside
    from converters.workflow import convert

    if args.recipe:
        check_output(args.output, {"recipe": str(args.recipe)})
    for ending in ("html", "json") if args.report else ():
        check_replaceable(beside(args.output, ending))
    lock = open_lock(args.recipe, write=args.lock, update=args.update_lock)
    fields = fields_from(args)
    with screen.steps() as step, lookup.opened(fields, args.store, step) as found:
        if args.record:
            mlflow.check_recordable(str(fields.get("source")))
        recipe = complete(found.fields, args.recipe)
        report = convert(
            recipe,
            args.output,
            key=args.key,
            trust=args.trust,
            empty_env=args.empty_env,
            python=args.python,
            lock=lock,
            progress=step,
        )
    screen.show_report(report)
    if args.report:
        _write_report(args.output, report, screen)
    for note in found.notes:
        screen.line(f"note: {note}")
    if args.record:
        version = mlflow.record(str(fields["source"]), report, args.store)
        screen.line(f"recorded: {version.name} version {version.version}")


def _batch(args: Namespace, screen: Screen) -> int:
    from converters.batch.executor import Executor, LocalExecutor
    from converters.batch.plan import Wish, read_batch
    from converters.batch.run import describe_batch, run_batch

    wish = Wish(
        output=args.output,
        key=args.key,
        trust=args.trust,
        empty_env=args.empty_env,
        python=args.python or "",
        lock=args.lock,
        update_lock=args.update_lock,
        report=args.report,
    )
    jobs = read_batch(args.file, wish)
    with screen.batch() as watcher:
        executor: Executor = LocalExecutor(args.jobs or 1, watcher.step)
        if args.dask:
            from converters.batch.cluster import ClusterExecutor

            executor = ClusterExecutor(args.dask, args.jobs)
        outcomes = run_batch(jobs, args.output, executor, watcher, resume=args.resume)
    screen.show_tables(describe_batch(outcomes, watcher.ran))
    return int(any(outcome.status == "failed" for outcome in outcomes))


def _import(args: Namespace, screen: Screen) -> None:
    from converters.errors import UnsupportedModelError
    from converters.registries.triton_convert import Options
    from converters.registries.triton_import import describe, import_repository

    with screen.steps() as step:
        options = Options(
            args.repository, args.repository, args.samples, args.key, args.trust, args.target, step
        )
        outcomes = import_repository(options, args.output)
    screen.show_tables(describe(outcomes))
    refused = [outcome.name for outcome in outcomes if outcome.verdict == "refused"]
    if refused:
        raise UnsupportedModelError(
            f"{len(refused)} of {len(outcomes)} models were refused: {', '.join(refused)}; the "
            f"others are in {args.output}"
        )


def _promote(args: Namespace, screen: Screen) -> None:
    from converters.registries.mlflow import promote

    version = promote(args.source, args.alias, args.store)
    screen.line(f"{version.name}@{args.alias} is now version {version.version}")


def _write_report(bundle: Path, report: Report, screen: Screen) -> None:
    from converters.errors import ConversionError
    from converters.report.gather import gather_evidence
    from converters.report.write import beside, write_report

    evidence = gather_evidence(bundle, report)
    try:
        written = write_report(evidence, beside(bundle, "html"), beside(bundle, "json"))
    except ConversionError as exc:
        raise ConversionError(f"{exc.message} (the bundle {bundle} is made, and whole)") from exc
    for path in written:
        screen.line(f"report: {path}")


def _report(args: Namespace, screen: Screen) -> None:
    from converters.report.gather import evidence_for
    from converters.report.write import beside, write_report

    evidence = evidence_for(args.bundle, beside(args.bundle, "json"))
    html = args.output or beside(args.bundle, "html")
    for path in write_report(evidence, html, args.json):
        screen.line(f"report: {path}")


def _diff(args: Namespace, screen: Screen) -> None:
    from converters.report.diff import diff_evidence
    from converters.report.gather import gather_evidence

    first, second = (gather_evidence(path, budget_s=0) for path in (args.first, args.second))
    screen.show_tables(diff_evidence(first, second))


def _keygen(args: Namespace, screen: Screen) -> None:
    from edged.store.keys import generate_key

    private, public = generate_key(args.prefix)
    screen.line(f"{private}: the private key; keep it off devices and out of repositories")
    screen.line(f"{public}: the public key; devices that trust it take bundles it signed")


def _sign(args: Namespace, screen: Screen) -> None:
    from converters.trusting import is_trust, sign_trust_file
    from converters.verify import sign_bundle

    sign = sign_trust_file if is_trust(args.bundle) else sign_bundle
    key = sign(args.bundle, args.key)
    screen.line(f"{args.bundle}: signed by key {key[:16]}")


def _trust(args: Namespace, screen: Screen) -> None:
    from converters.trusting import make_trust

    for line in make_trust(args):
        screen.line(line)


def _inspect(args: Namespace, screen: Screen) -> None:
    from converters.show import describe_bundle
    from edged.store.bundle import read_manifest

    data, manifest, signatures = read_manifest(args.bundle)
    screen.show_tables(describe_bundle(data, manifest, signatures))


def _verify(args: Namespace, screen: Screen) -> None:
    from converters.verify import verify_bundle

    for line in verify_bundle(args.bundle, args.key, run=args.run, threshold=args.threshold):
        screen.line(line)


def _publish(args: Namespace, screen: Screen) -> None:
    from converters.publishing.mirror import publish_to_mirror
    from converters.publishing.publish import publish

    if args.mirror:
        for line in publish_to_mirror(args.bundle, args.mirror, args.key, args.threshold):
            screen.line(line)
        return
    for line in publish(args.bundle, args.oci, args.key, args.threshold, args.base):
        screen.line(line)


def _containerize(args: Namespace, screen: Screen) -> None:
    from converters.publishing.containerize import containerize

    for line in containerize(args.bundle, args.output, args.key, args.threshold, args.target):
        screen.line(line)


def _build_engine(args: Namespace, screen: Screen) -> None:
    from converters.engines.build import add_engine
    from converters.engines.words import describe, wish_from

    wish = wish_from(args)
    with screen.steps() as step:
        outcome = add_engine(args.bundle, args.output, wish, args.key, step)
    for line in describe(outcome, args.output):
        screen.line(line)


def _texts(args: Namespace, screen: Screen) -> None:
    from converters.texts.pack import Wish, pack_folder
    from converters.texts.words import describe

    wish = Wish(args.name, args.release, args.version or "", args.prompt, args.tokens)
    with screen.steps() as step:
        outcome = pack_folder(args.folder, args.output, wish, args.key, step)
    for line in describe(outcome, args.output):
        screen.line(line)


_COMMANDS: dict[str, Callable[[Namespace, Screen], int | None]] = {
    "convert": _convert,
    "batch": _batch,
    "import": _import,
    "promote": _promote,
    "keygen": _keygen,
    "sign": _sign,
    "trust": _trust,
    "inspect": _inspect,
    "verify": _verify,
    "report": _report,
    "diff": _diff,
    "publish": _publish,
    "containerize": _containerize,
    "build-engine": _build_engine,
    "texts": _texts,
}


if __name__ == "__main__":
    sys.exit(main())
