"""Trains the demo's models and writes, for each bundle, source, samples, recipe and reference.

The reference is what the framework itself says about every row that devices will publish, saved
before anything of edged has seen the model.

    python models.py FOLDER PRETRAINED.onnx
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

PIXEL = 15
"""The bundled digits have 17 grey levels, 0 to 16; times 15 they are exact bytes of a PNG."""
TESTED_ROWS = 300
"""Rows that no model was trained on; they are what devices publish."""
LINES = (
    "INSPECTED 07:42", "Batch 0815-A", "KEEP UPRIGHT", "Serial 4711", "DO NOT STACK",
    "Made in plant 3", "Net 12.5 kg", "Best before 2031", "FRAGILE", "Valve 16 open",
    "Line 2 / Pallet 9", "LOT 55-102", "Store below 25 C", "Torque 8.5 Nm", "QA passed",
)  # fmt: skip
LINE_SIZE = (192, 48)


@dataclass(frozen=True)
class Source:
    """One model as its framework made it.

    Args:
        bundle: file name of the bundle, without ending.
        recipe: what ``edged-convert`` is told.
        payloads: what devices publish, row by row.
        probabilities: the framework's own answer, float64[rows, labels].
        labels: names of the last axis.
    """

    bundle: str
    recipe: dict[str, Any]
    payloads: list[bytes]
    probabilities: np.ndarray
    labels: list[str]

    @property
    def ending(self) -> str:
        """Of a payload written to a file."""
        return ".png" if self.payloads[0].startswith(b"\x89PNG") else ".json"

    def save(self, folder: Path) -> None:
        """Write recipe, payloads and reference."""
        (folder / f"{self.bundle}.example{self.ending}").write_bytes(self.payloads[0])
        (folder / f"{self.bundle}.yaml").write_text(yaml.safe_dump(self.recipe))
        lengths = np.array([len(payload) for payload in self.payloads])
        np.savez(
            folder / f"{self.bundle}.reference.npz",
            payloads=np.frombuffer(b"".join(self.payloads), dtype=np.uint8),
            lengths=lengths,
            probabilities=self.probabilities,
            labels=np.array(self.labels),
        )


def png(pixels: np.ndarray) -> bytes:
    """Encode uint8[h,w] or uint8[h,w,3]; lossless."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def digits_of_sklearn(folder: Path) -> Iterable[Source]:
    """Two releases of a classifier of handwritten digits: a linear one, then a network."""
    images, classes = load_digits(return_X_y=True)
    pixels = (images * PIXEL).astype(np.float32)
    train, test = slice(0, -TESTED_ROWS), slice(-TESTED_ROWS, None)
    np.savez(folder / "digits.npz", pixels=pixels[test])
    estimators = {
        1: LogisticRegression(max_iter=400),
        2: MLPClassifier((64,), max_iter=120, tol=1e-3, random_state=7),
    }
    for release, estimator in estimators.items():
        model = make_pipeline(StandardScaler(), estimator).fit(pixels[train], classes[train])
        joblib.dump(model, folder / f"digits-{release}.joblib")
        yield Source(
            bundle=f"digits-{release}",
            recipe={
                "source": f"digits-{release}.joblib",
                "samples": "digits.npz",
                "name": "digits",
                "release": release,
                "input_names": ["pixels"],
                "input_processing": {
                    "pixels": {
                        "kind": "image", "width": 8, "height": 8, "mode": "L", "layout": "flat",
                    },
                },
            },
            payloads=[png(row.reshape(8, 8).astype(np.uint8)) for row in pixels[test]],
            probabilities=model.predict_proba(pixels[test]),
            labels=[str(label) for label in model.classes_],
        )  # fmt: skip


def cells(folder: Path) -> Source:
    """A forest over the thirty figures of the bundled breast cancer readings."""
    data = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in data.feature_names]
    rows = data.data.astype(np.float32)
    train, test = slice(0, -TESTED_ROWS), slice(-TESTED_ROWS, None)
    model = RandomForestClassifier(40, random_state=7).fit(rows[train], data.target[train])
    joblib.dump(model, folder / "cells-1.joblib")
    header = ",".join(names)
    np.savetxt(folder / "cells.csv", rows[test], "%.9g", ",", header=header, comments="")
    readings = [dict(zip(names, row.tolist(), strict=True)) for row in rows[test]]
    return Source(
        bundle="cells-1",
        recipe={
            "source": "cells-1.joblib",
            "samples": "cells.csv",
            "name": "cells",
            "release": 1,
            "labels": [str(name) for name in data.target_names],
        },
        payloads=[json.dumps(reading).encode() for reading in readings],
        probabilities=model.predict_proba(rows[test]),
        labels=[str(name) for name in data.target_names],
    )


def digits_of_torch(folder: Path) -> Source:
    """A small convolutional network on the same images, saved with torch.export."""
    import cnn  # noqa: PLC0415 - torch is optional

    images, classes = load_digits(return_X_y=True)
    pixels = (images * PIXEL).astype(np.float32).reshape(-1, 1, 8, 8)
    train, test = slice(0, -TESTED_ROWS), slice(-TESTED_ROWS, None)
    logits = cnn.train_and_export(
        pixels[train], classes[train], pixels[test], folder / "digits-cnn-1.pt2"
    )
    np.savez(folder / "digits-cnn.npz", image=pixels[test])
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Source(
        bundle="digits-cnn-1",
        recipe={
            "source": "digits-cnn-1.pt2",
            "samples": "digits-cnn.npz",
            "name": "digits-cnn",
            "release": 1,
            "output_names": ["logits"],
            "activation": "softmax",
            "labels": [str(digit) for digit in range(10)],
            "input_processing": {"*": {"kind": "image", "width": 8, "height": 8, "mode": "L"}},
        },
        payloads=[png(row[0].astype(np.uint8)) for row in pixels[test]],
        probabilities=shifted / shifted.sum(axis=1, keepdims=True),
        labels=[str(digit) for digit in range(10)],
    )


def text_lines() -> np.ndarray:
    """Pictures of text lines, each upright and turned by 180 degrees: uint8[rows,48,192,3]."""
    pictures = []
    for line in LINES:
        picture = Image.new("RGB", LINE_SIZE, "white")
        font = ImageFont.load_default(23)
        left, top, right, bottom = font.getbbox(line)
        where = ((LINE_SIZE[0] - right - left) // 2, (LINE_SIZE[1] - bottom - top) // 2)
        ImageDraw.Draw(picture).text(where, line, "black", font)
        pictures += [np.asarray(picture), np.asarray(picture.rotate(180))]
    return np.stack(pictures)


def orientation(folder: Path, network: Path) -> Source:
    """A published pre-trained network: is a line of text upright? Reference: onnxruntime alone."""
    import onnxruntime  # noqa: PLC0415 - set up by the caller's environment

    pictures = text_lines()
    rows = (pictures[..., ::-1].astype(np.float32) / 255 - 0.5) / 0.5  # the network wants BGR
    rows = np.ascontiguousarray(rows.transpose(0, 3, 1, 2), dtype=np.float32)
    (folder / "orientation-1.onnx").write_bytes(network.read_bytes())
    np.savez(folder / "orientation.npz", x=rows)
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    answers = [session.run(None, {"x": row[np.newaxis]})[0][0] for row in rows]
    return Source(
        bundle="orientation-1",
        recipe={
            "source": "orientation-1.onnx",
            "samples": "orientation.npz",
            "name": "orientation",
            "release": 1,
            "output_names": ["probabilities"],
            "labels": ["0", "180"],
            "input_processing": {
                "x": {
                    "kind": "image", "width": 192, "height": 48, "mode": "BGR",
                    "scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3,
                },
            },
        },
        payloads=[png(picture) for picture in pictures],
        probabilities=np.stack(answers).astype(np.float64),
        labels=["0", "180"],
    )  # fmt: skip


def main() -> None:
    """Make everything, saying each bundle's name on a line when it is there."""
    folder, network = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for source in digits_of_sklearn(folder):
        source.save(folder)
        print(source.bundle, flush=True)
    makers = [lambda: cells(folder), lambda: orientation(folder, network)]
    if importlib.util.find_spec("torch"):
        makers.append(lambda: digits_of_torch(folder))
    for make in makers:
        source = make()
        source.save(folder)
        print(source.bundle, flush=True)


if __name__ == "__main__":
    main()
