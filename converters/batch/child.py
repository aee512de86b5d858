"""One job's process: ``python -m converters.batch.child``; the job on stdin, messages on stdout.

A process of its own for each job, so that one that crashes or fills the memory takes no other
along, and so that time and memory are its own.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import sys
import time
from pathlib import Path

import msgspec

from converters.batch.job import Job, Message, Outcome
from converters.lock import Lock
from converters.steps import Progress
from converters.workflow import Report, convert
from edged.errors import STATUS, EdgedError, first_line

PR_SET_PDEATHSIG = 1
INTERRUPTED = 130


def main() -> int:
    """Do the one job; Ctrl-C, and the end of who started it, clean up and end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _end_with_parent(int(sys.argv[1]))
        job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
        # Whatever else prints, prints into the log.
        messages = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

        def tell(message: Message) -> None:
            messages.write(msgspec.json.encode(message) + b"\n")
            messages.flush()

        os.chdir(job.folder)
        tell(Message(outcome=do_job(job, lambda step: tell(Message(step=step)))))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def do_job(job: Job, progress: Progress) -> Outcome:
    """Convert in this process; what fails is an outcome too."""
    start = time.perf_counter()
    outcome = Outcome(name=job.name, status="failed", fingerprint=job.fingerprint)
    try:
        outcome = _convert(job, outcome, progress)
    except EdgedError as exc:
        code = STATUS[exc.code].exit
        outcome = msgspec.structs.replace(outcome, error=exc.message, exit=code)
    except Exception as exc:  # one model's trouble must not be the batch's
        words = first_line(exc, 400)
        error = f"failed inside: {type(exc).__name__}: {words}"
        outcome = msgspec.structs.replace(outcome, error=error, exit=70)
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return msgspec.structs.replace(
        outcome,
        seconds=round(time.perf_counter() - start, 3),
        peak_bytes=max(resource.getrusage(one).ru_maxrss for one in who) * 1024,
    )


def _convert(job: Job, outcome: Outcome, progress: Progress) -> Outcome:
    report = convert(
        job.recipe,
        job.output,
        key=job.key or None,
        trust=job.trust,
        empty_env=job.empty_env,
        python=job.python or None,
        lock=Lock(Path(job.lock), job.lock_mode) if job.lock_mode else None,
        progress=progress,
    )
    if job.report:
        progress("writing the report")
        _write_report(Path(job.output), report)
    return msgspec.structs.replace(
        outcome,
        status="done",
        sha256=hashlib.sha256(Path(job.output).read_bytes()).hexdigest(),
        digest=report.digest,
        grade=str(report.manifest.parity.get("grade", "")),
    )


def _write_report(bundle: Path, report: Report) -> None:
    from converters.report.gather import gather_evidence  # noqa: PLC0415  (only where wanted)
    from converters.report.write import beside, write_report  # noqa: PLC0415

    write_report(gather_evidence(bundle, report), beside(bundle, "html"), beside(bundle, "json"))


def _end_with_parent(parent: int) -> None:
    """Be interrupted when the batch is killed, so that nothing goes on unseen."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent:
        raise KeyboardInterrupt  # it was over before we could ask


if __name__ == "__main__":
    sys.exit(main())
