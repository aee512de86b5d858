"""Run by the target's own interpreter, in an empty environment: load a model, run it, say so.

``python probe.py FOLDER`` gets ready, waits for a line on its input, then reads ``model.onnx`` and
``inputs.npz`` and writes ``outputs.npz`` and ``answer.json``. It imports numpy and onnxruntime
alone and nothing of this package.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Do it; every outcome but a crash is written to ``answer.json``."""
    import numpy as np  # noqa: PLC0415  (of the target's environment)
    import onnxruntime  # noqa: PLC0415

    answer = {"python": platform.python_version(), "onnxruntime": onnxruntime.__version__}
    if not sys.stdin.readline():
        return  # whoever started it does not need it any more
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    step = "load"
    try:
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        step = "run"
        with np.load(folder / "inputs.npz", allow_pickle=False) as archive:
            inputs = {key[3:]: archive[key] for key in archive.files}
        names = [output.name for output in session.get_outputs()]
        arrays = session.run(names, inputs)
        np.savez(
            folder / "outputs.npz",
            **{f"out.{name}": array for name, array in zip(names, arrays)},  # noqa: B905
        )
    except Exception as exc:  # a runtime raises anything
        text = " ".join(str(exc).split())[:600]
        answer |= {"step": step, "error": text.encode("ascii", "replace").decode("ascii")}
    (folder / "answer.json").write_text(json.dumps(answer), "ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
