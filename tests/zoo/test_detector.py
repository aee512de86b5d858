"""A real detector (YOLOX, which finds characters) through a pipeline: boxes as its package's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from edged.manifest import TensorEntry
from tests.bundles import make_bundle
from tests.e2e.process import running
from tests.zoo import place
from tests.zoo.pictures import page

PACKAGE = "ddddocr==1.6.1"
FOLDER = place.find(PACKAGE)
pytestmark = [
    pytest.mark.zoo,
    pytest.mark.timeout(300),
    pytest.mark.skipif(FOLDER is None or not place.OWN.is_dir(), reason="needs make zoo"),
]
BODY = """\
trust: {require_signatures: false}
models:
  det: {bundle: det.edgb}
pipelines:
  characters:
    inputs: {file: "uint8[bytes]"}
    steps:
    - {name: photo, picture: {from: file}}
    - {name: small, image: {from: photo, resize: corner, width: 416, height: 416, pad: 114, swap: true}}
    - {name: raw, model: det, inputs: small}
    - {name: cells, select: {from: raw, stop: 4}}
    - {name: anything, select: {from: raw, start: 4, stop: 5}}
    - {name: kinds, select: {from: raw, start: 5}}
    - {name: score, compute: anything * kinds}
    - name: best
      boxes: {boxes: cells, scores: score, grid: [8, 16, 32], place: small.place, threshold: 0.1, each_class: false}
    outputs: {boxes: best.boxes, scores: best.scores}
"""
OWN = """\
import json, sys
from pathlib import Path
from ddddocr import DdddOcr
finder = DdddOcr(show_ad=False, det=True, ocr=False)
print(json.dumps([finder.detection(Path(path).read_bytes()) for path in sys.argv[1:]]))
"""


def pictures() -> list[np.ndarray]:
    """Lines of text, whole and in parts, so that the pictures are wide, high and square."""
    lines = page(2)
    return [lines, lines[:80, :300], np.ascontiguousarray(lines[:, :160]), lines[:100, :100]]


def test_boxes_are_the_packages_own(tmp_path: Path):
    files = [tmp_path / f"{number}.png" for number in range(len(pictures()))]
    for file, pixels in zip(files, pictures(), strict=True):
        Image.fromarray(pixels).save(file)
    path = os.pathsep.join([str(FOLDER), str(place.OWN)])
    done = subprocess.run(
        [sys.executable, "-c", OWN, *map(str, files)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    own = json.loads(done.stdout.splitlines()[-1])
    data = (FOLDER / "ddddocr/common_det.onnx").read_bytes()
    session = onnxruntime.InferenceSession(data)
    model = SimpleNamespace(
        data=data,
        inputs=(TensorEntry(session.get_inputs()[0].name, "float32", (1, 3, 416, 416)),),
        outputs=(TensorEntry(session.get_outputs()[0].name, "float32", (1, 3549, 6)),),
    )
    make_bundle(tmp_path / "det.edgb", model, name="det", golden=False)
    with running(tmp_path, BODY) as daemon, daemon.client(timeout=60) as client:
        got = [
            client.infer("characters", {"file": np.frombuffer(file.read_bytes(), np.uint8)})
            for file in files
        ]
    for wanted, one in zip(own, got, strict=True):
        found = one["boxes"]
        assert len(wanted) >= 3
        # Two boxes that overlap by the threshold: the package counts a pixel more on each side.
        assert len(wanted) <= len(found) <= len(wanted) + 1
        # It drops fractions and shrinks by OpenCV; corners are cut off at the picture's edge.
        assert max(np.abs(found - box).max(axis=1).min() for box in wanted) <= 2
