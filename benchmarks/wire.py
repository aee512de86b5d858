"""Requests for the load generator, written by edged's own encoder, with the right answers."""

from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import Model
from benchmarks.stand import BenchError, Stand
from edged.client import Client
from edged.messages import PrepareRequest
from edged.protocol import prepared, prepared_runs
from edged.tensors import BATCH, TensorSpec


@dataclass(frozen=True)
class Script:
    """What the load generator says.

    Args:
        requests: file of whole frames, used in turn.
        answers: file of the numbers that each of them must be answered with; None to take any.
        setup: file of frames that each connection says first.
    """

    requests: Path
    answers: Path | None
    setup: Path


def write_script(
    folder: Path,
    name: str,
    model: Model,
    client: Client,
    *,
    count: int = 64,
    check: bool = True,
    timeout_us: int = 0,
) -> Script:
    """Prepared calls of one row each for a model, and what ONNX Runtime alone answers to them.

    Args:
        folder: where the files go.
        name: of the files.
        model: asked.
        client: tells how an answer is laid out.
        count: different requests.
        check: whether answers are compared; not for a model whose release changes meanwhile.
        timeout_us: of each request; 0 for none.
    """
    available = len(next(iter(model.rows.values())))
    asked = [model.request(i) for i in range(min(count, available))]
    requests = folder / f"{name}.requests"
    specs = tuple(
        TensorSpec(key, array.dtype.name, (BATCH, *array.shape[1:]))
        for key, array in model.rows.items()
    )
    layout = prepared.BodyLayout(specs)
    # A connection numbers its prepared calls from 1, and these make one each.
    head = prepared_runs.RunHead(1, 1, timeout_us)
    frames = [prepared_runs.encode_run(1, head, layout, inputs) for inputs in asked]
    requests.write_bytes(b"".join(bytes(part) for frame in frames for part in frame))
    setup = folder / f"{name}.setup"
    opening = prepared.encode_prepare(1, PrepareRequest(model.name, specs))
    setup.write_bytes(b"".join(map(bytes, opening)))
    answers = None
    if check:
        answers = folder / f"{name}.answers"
        answers.write_bytes(_expected(model, client, asked))
    return Script(requests, answers, setup)


def _expected(model: Model, client: Client, asked: list[dict[str, Any]]) -> bytes:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])
    offset, chosen = 0, ""
    for name, array in client.infer(model.name, asked[0]).items():
        if array.dtype == np.float32:
            chosen = name
            break
        offset += array.nbytes + -array.nbytes % 8
    parts = []
    for inputs in asked:
        (values,) = session.run([chosen], inputs)
        parts.append(struct.pack("<II", offset, values.size) + values.astype("<f4").tobytes())
    return b"".join(parts)


def run_load(stand: Stand, socket: Path, script: Script, **options: Any) -> dict[str, Any]:
    """Run the generator to its end; for the options see ``command_for``.

    Raises:
        BenchError: an answer was wrong or never came.
    """
    command = command_for(stand, socket, script, **options)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    return read_report(done.returncode, done.stdout, done.stderr)


def command_for(
    stand: Stand,
    socket: Path,
    script: Script,
    *,
    seconds: float,
    connections: int = 1,
    depth: int = 1,
    rate: float = 0.0,
    trace: Path | None = None,
    tolerance: float = 1e-4,
    seed: int = 1,
    deadline_us: int | None = None,
    nice: int | None = None,
) -> list[str]:
    """The generator's command line.

    Args:
        stand: where the generator is, and the scale of durations.
        socket: of the daemon.
        script: what to say.
        seconds: measured, after a short warm-up.
        connections: of one thread.
        depth: requests that each connection keeps on their way.
        rate: requests a second of an open loop; 0 for a closed one.
        trace: file for start and latency of every request.
        tolerance: absolute, of the numbers in answers.
        seed: of the open loop's times.
        deadline_us: of the requests, as their script says; refusals are counted then.
        nice: of the generator, where it may; for one whose own waits are not to be measured.
    """
    values = {
        "socket": socket, "requests": script.requests, "answers": script.answers,
        "setup": script.setup, "connections": connections, "depth": depth,
        "seconds": seconds * stand.scale, "rate": rate, "trace": trace, "tolerance": tolerance,
        "seed": seed, "deadline": deadline_us, "nice": nice,
    }  # fmt: skip
    words = [(f"--{name}", str(value)) for name, value in values.items() if value is not None]
    return [str(stand.load), *(word for pair in words for word in pair)]


def read_report(status: int, out: str, err: str) -> dict[str, Any]:
    """What the generator measured, unless something was lost or wrong."""
    if status or not out:
        raise BenchError(f"the load generator ended with {status}: {out} {err[-400:]}")
    report: dict[str, Any] = json.loads(out)
    if report["errors"]:
        raise BenchError(f"{report['errors']} requests were refused: {err[-400:]}")
    return report
