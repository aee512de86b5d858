"""The Open Inference Protocol over HTTP on ``tiny``, with binary tensors, on a Unix socket."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import figures, raw
from benchmarks.models import Model
from benchmarks.native import ROUND_S, ROUNDS, config, cpu_seconds, script_for
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Stand, load_average
from benchmarks.wire import run_load
from edged.tensors import DTYPES

ID = "request-00000001"


def small_tensors(stand: Stand) -> list[Row]:
    """p50 of one connection, and requests a second of sixteen; the native protocol beside both.

    Clients that give each request an id of its own, as Triton's may, are asked for apart.
    """
    model = stand.tiny()
    found: dict[str, list[float]] = {
        key: []
        for key in ("p50_us", "per_s", "ids_per_s", "native_p50_us", "native_per_s", "cpu_us")
    }
    with stand.daemon(config(model), has_http=True) as daemon:
        files, with_id = files_for(daemon.folder, model), files_for(daemon.folder, model, ID)
        script = script_for(daemon, model)
        seconds = ROUND_S * stand.scale
        for _ in range(ROUNDS):
            one = ask(stand, daemon.http, files, seconds, 1)
            found["p50_us"].append(one["p50_us"])
            before = cpu_seconds(daemon.pid)
            many = ask(stand, daemon.http, files, seconds, 16)
            # A fifth more than is counted was asked before the clock started.
            used = (cpu_seconds(daemon.pid) - before) / 1.2
            found["cpu_us"].append(used / many["answered"] * 1e6)
            found["per_s"].append(many["per_s"])
            named = ask(stand, daemon.http, with_id, seconds, 16, request_id=ID)
            found["ids_per_s"].append(named["per_s"])
            for key, name, count in (("native_p50_us", "p50_us", 1), ("native_per_s", "per_s", 16)):
                report = run_load(stand, daemon.socket, script, seconds=seconds, connections=count)
                found[key].append(report[name])
    details: dict[str, Any] = {**found, "load_average": load_average()}
    return [
        measured("http-1", figures.median(found["p50_us"]), "us", "<= 60", details),
        measured("http-16", figures.median(found["per_s"]), "/s", ">= 25000", details),
        measured("http-16-ids", figures.median(found["ids_per_s"]), "/s", ">= 25000", details),
    ]


def files_for(folder: Path, model: Model, request_id: str = "") -> tuple[Path, Path]:
    """A request, and the bytes that its answer contains: what ONNX Runtime alone gives."""
    session = raw.open_session(model.onnx, 1)
    inputs = model.request(0)
    output = session.get_outputs()[0].name
    (values,) = session.run([output], inputs)
    head: dict[str, Any] = {"id": request_id} if request_id else {}
    head |= {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": DTYPES[array.dtype.name].oip,
                "parameters": {"binary_data_size": array.nbytes},
            }
            for name, array in inputs.items()
        ],
        "outputs": [{"name": output, "parameters": {"binary_data": True}}],
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    body = text + b"".join(array.tobytes() for array in inputs.values())
    request, tail = folder / f"http{request_id}.request", folder / "http.tail"
    request.write_bytes(
        f"POST /v2/models/{model.name}/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Inference-Header-Content-Length: {len(text)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    tail.write_bytes(values.tobytes())
    return request, tail


def ask(
    stand: Stand,
    place: Path | int,
    files: tuple[Path, Path],
    seconds: float,
    connections: int,
    *,
    rate: float = 0.0,
    seed: int = 1,
    request_id: str = "",
) -> dict[str, Any]:
    """Run the generator to its end.

    Args:
        stand: where the generator is.
        place: a Unix socket, or a port of 127.0.0.1.
        files: a request, and what the body of every answer to it must contain.
        seconds: measured, after a fifth as many that are not.
        connections: of one thread.
        rate: requests a second of an open loop; 0 for a closed one.
        seed: of the open loop's times.
        request_id: that of the request, in whose place each has one of its own; empty for none.

    Raises:
        BenchError: an answer was wrong, refused, or never came.
    """
    program = stand.load.with_name("http_load")
    command = [program, str(place), *files, str(seconds), str(connections), str(rate), str(seed)]
    command += [request_id] if request_id else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise BenchError(f"http_load: {done.stdout}{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report
