"""The inside of the throw-away process: ``python -m converters.worker FOLDER``.

Reads ``job.json`` and ``samples.safetensors`` from the folder, writes ``model.onnx``,
``reference.safetensors`` and ``result.json`` into it. Nothing comes back as a pickle.
"""

from __future__ import annotations

import importlib
import platform
import sys
import traceback
from pathlib import Path

import google.protobuf
import msgspec
import numpy as np
import onnx

from converters import graph
from converters.edges import ask_edges
from converters.errors import ConversionError
from converters.isolation import isolate
from converters.sources.base import Exported, SourceJob, SourceResult
from converters.sources.kinds import BY_NAME
from edged.errors import first_line
from edged.store.golden import read_safetensors, write_safetensors
from edged.tensors import Array

_VERSIONS = {
    "python": platform.python_version(),
    "msgspec": msgspec.__version__,
    "numpy": np.__version__,
    "onnx": onnx.__version__,
    "protobuf": google.protobuf.__version__,
}
"""What takes part in every conversion, beside the framework; for a recipe's lock."""


def main(folder: Path) -> int:
    """Do the job that lies in a folder; every outcome is written to ``result.json``."""
    job = msgspec.json.decode((folder / "job.json").read_bytes(), type=SourceJob)
    isolation = isolate(job.cpu_seconds)
    try:
        exported = _export(job, read_safetensors((folder / "samples.safetensors").read_bytes()))
        result = _write(folder, exported, job.batch)
    except ConversionError as exc:
        result = SourceResult(error=exc.message, error_kind=type(exc).__name__)
    except MemoryError:
        result = SourceResult(error="the conversion needs more memory than this machine has")
    except Exception as exc:
        # Frameworks raise anything; the trace is in the log, the caller gets one sentence.
        traceback.print_exc()
        first = first_line(exc, 400)
        result = SourceResult(
            error=f"{job.framework} failed while converting: {type(exc).__name__}: {first}"
        )
    versions = {**_VERSIONS, **result.framework}
    result = msgspec.structs.replace(result, isolation=isolation, versions=versions)
    (folder / "result.json").write_bytes(msgspec.json.encode(result))
    return 0


def _export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    kind = BY_NAME[job.framework]
    if sys.version_info < kind.python:
        raise ConversionError(
            f"a {job.framework} source needs Python {'.'.join(map(str, kind.python))} or later, "
            f"this is {platform.python_version()}: name an interpreter that has it with --python"
        )
    if job.import_from:
        sys.path.insert(0, job.import_from)
    try:
        source = importlib.import_module(kind.module)
    except ImportError as exc:
        raise ConversionError(
            f"a {job.framework} source needs {exc.name or 'a package'}, which is not installed: "
            f"pip install '{kind.extra}'{f' {kind.name}' if exc.name == kind.name else ''}"
        ) from exc
    exported: Exported = source.export(job, samples)
    return exported


def _write(folder: Path, exported: Exported, batch: str) -> SourceResult:
    tensors = {f"in.{name}": array for name, array in exported.inputs.items()}
    tensors.update({f"out.{name}": array for name, array in exported.outputs.items()})
    edges = ask_edges(exported, batch)
    for name, (inputs, outputs) in edges.items():
        tensors.update({f"edge.{name}.in.{key}": array for key, array in inputs.items()})
        tensors.update({f"edge.{name}.out.{key}": array for key, array in outputs.items()})
    (folder / "model.onnx").write_bytes(graph.serialize(exported.model))
    (folder / "reference.safetensors").write_bytes(write_safetensors(tensors))
    return SourceResult(
        framework=exported.framework,
        reference=exported.reference,
        input_names=tuple(exported.inputs),
        output_names=tuple(exported.outputs),
        labels=exported.labels,
        columns=exported.columns,
        words=exported.words,
        label_of={k: v for k, v in exported.label_of.items() if k in exported.outputs},
        warnings=tuple(exported.warnings),
        remedies=tuple(exported.remedies),
        edges=tuple(edges),
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
