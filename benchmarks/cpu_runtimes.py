"""ONNX Runtime against OpenVINO on this processor, as the daemon sets both up.

``python -m benchmarks.cpu_runtimes FOLDER`` makes ``cnn`` there, in float32 and int8, and prints
the median and the fastest run of each, by threads of a run and rows. All runtimes take turns, run
by run, so that what else the machine does slows all of them. Needs ``edged[openvino,convert]``.
"""

from __future__ import annotations

import sys
import time
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.figures import median
from benchmarks.models import make_cnn, make_cnn_int8
from benchmarks.stand import load_average
from edged.runtimes.base import Artefact
from edged.runtimes.registry import create_runtime
from edged.store.bundle import read_manifest

RUNTIMES = ("onnxruntime", "openvino")
RUNS, WARM_UP = 61, 3


def main(folder: Path) -> None:
    model = make_cnn(folder)
    artefacts = {
        "float32": _artefact(model.bundles[1]),
        "int8": _artefact(make_cnn_int8(folder).bundles[1]),
    }
    heads = ("cnn", "rows", "threads", *(f"{name} ms" for name in RUNTIMES), "differ by", "load ms")
    print(f"| {' | '.join(heads)} |")
    print("|" + "---|" * len(heads))
    for precision, artefact in artefacts.items():
        for threads in (1, 2):
            made = {name: create_runtime(name, threads=threads) for name in RUNTIMES}
            loads, sessions = [], {}
            for name, runtime in made.items():
                runtime.info()  # the package's import is not the model's
                began = time.perf_counter()
                sessions[name] = runtime.load(artefact)
                loads.append(f"{(time.perf_counter() - began) * 1e3:.0f}")
            for rows in (1, 8):
                taken, off = _race(sessions, model.request(0, rows))
                medians = [f"{median(times):.1f} ({min(times):.1f})" for times in taken.values()]
                cells = (precision, rows, threads, *medians, f"{off:.0e}", ", ".join(loads))
                print(f"| {' | '.join(map(str, cells))} |")
            for session in sessions.values():
                session.close()
    versions = ", ".join(f"{i.name} {i.version}" for i in (r.info() for r in made.values()))
    print(f"\n{versions}; load average {load_average()}")


def _race(sessions, inputs) -> tuple[dict[str, list[float]], float]:
    """Milliseconds of each run of each session, in turns; and how far their answers differ."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(RUNS + WARM_UP):
        answers = []
        for name, session in sessions.items():
            began = time.perf_counter()
            answers.append(session.run(inputs))
            if turn >= WARM_UP:
                times[name].append((time.perf_counter() - began) * 1e3)
    return times, _difference(*answers)


def _difference(one, other) -> float:
    """The largest one, as a share of the largest value."""
    return max(np.abs(other[name] - one[name]).max() / np.abs(one[name]).max() for name in one)


def _artefact(bundle: Path) -> Artefact:
    manifest = read_manifest(bundle)[1]
    with zipfile.ZipFile(bundle) as archive:
        data = archive.read(manifest.artefacts[0].file)
    return Artefact(manifest.name, data, manifest.input_specs(), manifest.output_specs())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
