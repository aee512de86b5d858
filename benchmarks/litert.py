"""LiteRT against ONNX Runtime on the same models: what the package costs, and how fast it runs.

``python -m benchmarks.litert FOLDER`` makes three TFLite files there with TensorFlow (a small dense
network, MobileNetV2 at 96 x 96 in float32 and in int8), turns each into ONNX with tf2onnx, and
prints for each package: processor time to import it and to load a model, private memory after
both, resident pages of its libraries, and the median and fastest run of one row with one thread.
Both take turns, run by run. The weights are random: their answers say nothing. Needs tensorflow,
tf2onnx, onnxruntime and ``ai-edge-litert``, which no extra of edged installs (docs/decisions.md).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import median
from benchmarks.stand import load_average
from edged.device.memory import taken

MODELS = ("dense", "cnn", "cnn-int8")
PACKAGES = ("onnxruntime", "ai_edge_litert")
RUNS = {"dense": 4000, "cnn": 400, "cnn-int8": 400}
WARM_UP = 10
Run = Callable[[], Any]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        if not (folder / f"{name}.onnx").exists():
            subprocess.run([sys.executable, "-m", "benchmarks.litert", folder, "make", name],
                           check=True, capture_output=True)  # fmt: skip
    heads = ("model", "package", "file KiB", "import ms", "load ms", "MiB imported", "MiB loaded",
             "MiB mapped")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in MODELS:
        for package in PACKAGES:
            told = subprocess.run(
                [sys.executable, "-m", "benchmarks.litert", folder, "cost", name, package],
                check=True, capture_output=True, text=True,
            ).stdout.splitlines()[-1]  # fmt: skip
            size = _file(folder, name, package).stat().st_size / 1024
            cells = " | ".join(f"{value:.0f}" for value in json.loads(told))
            print(f"| {name} | {package} | {size:.0f} | {cells} |")
    print("\n| model | onnxruntime us | LiteRT us | LiteRT / onnxruntime |")
    print("|" + "---|" * 4)
    for name in MODELS:
        runs = {package: _open(_file(folder, name, package), package) for package in PACKAGES}
        times = _race(list(runs.values()), RUNS[name])
        ours, theirs = (f"{median(one) / 1e3:.1f} ({min(one) / 1e3:.1f})" for one in times)
        ratio = median(times[1]) / median(times[0])
        print(f"| {name} | {ours} | {theirs} | {ratio:.2f} |")
    print(f"\nmedian (fastest) of runs in turns; load average {load_average()}")


def make(folder: Path, name: str) -> None:
    """Write one model as TFLite, and the same as ONNX."""
    import tensorflow as tf  # noqa: PLC0415 - this child alone needs it

    tf.random.set_seed(1)
    if name == "dense":
        layers = tf.keras.layers
        model = tf.keras.Sequential([
            layers.Input((16,), batch_size=1), layers.Dense(64, "relu"), layers.Dense(64, "relu"),
            layers.Dense(4, "softmax"),
        ])  # fmt: skip
    else:
        picture = tf.keras.Input((96, 96, 3), batch_size=1)
        model = tf.keras.applications.MobileNetV2(
            input_tensor=picture, alpha=0.35, weights=None, classes=10
        )
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if name.endswith("int8"):
        chance = np.random.default_rng(3)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [chance.normal(size=(1, 96, 96, 3)).astype("f4")] for _ in range(20)
        )
    path = folder / f"{name}.tflite"
    path.write_bytes(converter.convert())
    subprocess.run(
        [sys.executable, "-m", "tf2onnx.convert", "--opset", "17", "--tflite", path, "--output",
         folder / f"{name}.onnx"],
        check=True,
    )  # fmt: skip


def cost(folder: Path, name: str, package: str) -> list[float]:
    """Import ms, load ms, private MiB after each, and resident MiB of files at the end.

    Above what Python and NumPy had.
    """
    before, mapped = _private(), _mapped()
    began = time.process_time_ns()
    __import__("ai_edge_litert.interpreter" if package == "ai_edge_litert" else package)
    imported, with_package = time.process_time_ns() - began, _private()
    began = time.process_time_ns()
    run = _open(_file(folder, name, package), package)
    run()
    loaded = time.process_time_ns() - began
    return [
        imported / 1e6,
        loaded / 1e6,
        with_package - before,
        _private() - before,
        _mapped() - mapped,
    ]


def _file(folder: Path, name: str, package: str) -> Path:
    return folder / f"{name}.{'onnx' if package == 'onnxruntime' else 'tflite'}"


def _open(path: Path, package: str) -> Run:
    """A run of one row with one thread, as a runtime of edged would have to do it."""
    row = np.random.default_rng(5)
    if package == "onnxruntime":
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        [port] = session.get_inputs()
        x = row.normal(size=port.shape).astype("f4")
        return lambda: session.run(None, {port.name: x})[0]
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    model = Interpreter(model_content=path.read_bytes(), num_threads=1)
    model.allocate_tensors()
    [into], [out] = model.get_input_details(), model.get_output_details()
    y = row.normal(size=into["shape"]).astype("f4")

    def run() -> Any:
        model.set_tensor(into["index"], y)
        model.invoke()
        return model.get_tensor(out["index"])

    return run


def _race(runs: list[Run], count: int) -> list[list[int]]:
    """Nanoseconds of each run of each, in turns."""
    times: list[list[int]] = [[] for _ in runs]
    for turn in range(WARM_UP + count):
        for mine, run in zip(times, runs, strict=True):
            began = time.perf_counter_ns()
            run()
            if turn >= WARM_UP:
                mine.append(time.perf_counter_ns() - began)
    return times


def _private() -> float:
    now = taken()
    return 0.0 if now is None else now.private / (1 << 20)


def _mapped() -> float:
    now = taken()
    return 0.0 if now is None else now.files / (1 << 20)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the models; made where it is not there")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)  # of its own children
    asked = parser.parse_args()
    place, words = asked.folder, asked.words
    if not words:
        main(place)
    elif words[0] == "make":
        make(place, words[1])
    else:
        print(json.dumps(cost(place, *words[1:])))
