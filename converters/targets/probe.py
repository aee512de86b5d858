"""Run by the target's own interpreter, in an empty environment: load a model, run it, say so.

``python probe.py FOLDER`` gets ready, waits for a line on its input, then reads ``model.onnx``,
``inputs.npz`` and ``inputs.json`` (strings) and writes ``outputs.npz``, ``outputs.json`` and
``answer.json``. It imports numpy and onnxruntime alone and nothing of this package.
"""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from pathlib import Path
from typing import Any

BFLOAT16 = 16
"""``TensorProto.BFLOAT16``."""


class LacksError(Exception):
    """This runtime cannot be given such inputs: nothing is said of the model."""


def main(folder: Path) -> None:
    """Do it; every outcome but a crash is written to ``answer.json``."""
    import numpy as np  # noqa: F401, PLC0415  (of the target's environment)
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
        _run(session, folder)
    except LacksError as exc:
        answer |= {"lacks": str(exc)}
    except Exception as exc:  # a runtime raises anything
        text = " ".join(str(exc).split())[:600]
        answer |= {"step": step, "error": text.encode("ascii", "replace").decode("ascii")}
    (folder / "answer.json").write_text(json.dumps(answer), "ascii")


def _run(session: Any, folder: Path) -> None:
    """Run what lies in the folder; LacksError where this runtime cannot be given it."""
    import numpy as np  # noqa: PLC0415
    from onnxruntime import OrtValue  # noqa: PLC0415

    with np.load(folder / "inputs.npz", allow_pickle=False) as archive:
        arrays = [(*key.split(".", 1), archive[key]) for key in archive.files]
    for name, text in json.loads((folder / "inputs.json").read_text("ascii")).items():
        words = np.array([*text["values"], ""], object)[:-1]  # no empty list of no type
        arrays.append(("text", name, words.reshape(text["shape"])))
    outputs = session.get_outputs()
    names = [output.name for output in outputs]
    values = {}
    if all(one.type != "tensor(bfloat16)" for one in (*session.get_inputs(), *outputs)):
        answers = session.run(names, {name: array for _kind, name, array in arrays})
    elif not hasattr(OrtValue, "ortvalue_from_numpy_with_onnx_type"):
        raise LacksError("takes no bfloat16 from Python")
    else:
        for kind, name, array in arrays:
            values[name] = (
                OrtValue.ortvalue_from_numpy_with_onnx_type(array, BFLOAT16)
                if kind == "bfloat16"
                else OrtValue.ortvalue_from_numpy(array)
            )
        answers = session.run_with_ort_values(names, values)
    held, texts = {}, {}
    for name, value in zip(names, answers):  # noqa: B905
        kind, array = _taken(value)
        if kind == "text":
            texts[name] = {"shape": list(array.shape), "values": array.reshape(-1).tolist()}
        else:
            held[f"{kind}.{name}"] = array
    np.savez(folder / "outputs.npz", **held)
    (folder / "outputs.json").write_text(json.dumps(texts), "ascii")


def _taken(value: Any) -> Any:
    """What an answer is, and its array; of bfloat16 the bits."""
    import numpy as np  # noqa: PLC0415

    if not isinstance(value, np.ndarray):
        if value.data_type() == "tensor(bfloat16)":
            bits = np.empty(value.shape(), np.uint16)
            if bits.size:
                ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
            return "bfloat16", bits
        value = value.numpy()
    return ("text" if value.dtype.kind == "O" else "plain"), value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
