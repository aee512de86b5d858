"""A page of text through a pipeline: detect, crop, turn, recognise; as the package's own code."""

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
from edged.processing.texts import unpack_texts
from tests.bundles import make_bundle
from tests.e2e.process import running
from tests.zoo import place

PACKAGE = "rapidocr-onnxruntime==1.4.4"
FOLDER, DEMO = place.find(PACKAGE), Path(sys.prefix) / "share/edged-demo"
PAGE = next(
    (path for root in (FOLDER, DEMO, place.OWN) if root for path in [root / "skimage/data/page.png"]
     if path.is_file()),
    None,
)  # fmt: skip
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(FOLDER is None or PAGE is None, reason="needs .ci/venv … ocr-model"),
]
LINES = [
    "Region-basedsegmentation",
    "Let us first determine markers of the coins and the",
    "background.These markers are pixels that we can label",
    "unambiguously as either object or background.Here,",
    "histogram ofgreyvalues:",
]
"""What the package's own code reads (``test_the_package_itself_reads_so`` runs it)."""
MODELS = {
    "det": ("ch_PP-OCRv4_det_infer.onnx", ("batch", 3, "height", "width"), ("batch", 1, "high", "wide")),
    "cls": ("ch_ppocr_mobile_v2.0_cls_infer.onnx", ("batch", 3, 48, 192), ("batch", 2)),
    "rec": ("ch_PP-OCRv4_rec_infer.onnx", ("batch", 3, 48, "width"), ("batch", "steps", 6625)),
}  # fmt: skip
OWN = """\
import json, sys
import numpy as np
from PIL import Image
from rapidocr_onnxruntime import RapidOCR
page = np.asarray(Image.open(sys.argv[1]).convert("RGB"))
found, _ = RapidOCR()(page[:, :, ::-1])
print(json.dumps([[box, text, float(score)] for box, text, score in found]))
"""


def make_bundles(folder: Path) -> None:
    """The package's three files, and its recogniser's characters as a file."""
    for name, (file, taken, given) in MODELS.items():
        data = (FOLDER / "rapidocr_onnxruntime/models" / file).read_bytes()
        session = onnxruntime.InferenceSession(data)
        model = SimpleNamespace(
            data=data,
            inputs=(TensorEntry(session.get_inputs()[0].name, "float32", taken),),
            outputs=(TensorEntry(session.get_outputs()[0].name, "float32", given),),
        )
        make_bundle(folder / f"{name}.edgb", model, name=name, golden=False)
        if name == "rec":
            characters = session.get_modelmeta().custom_metadata_map["character"]
            (folder / "characters.txt").write_text(f"{characters}\n", encoding="utf-8")


def example() -> str:
    """The pipeline of docs/pipelines.md."""
    page = (Path(__file__).parents[2] / "docs/pipelines.md").read_text()
    return page.partition("## A page of text\n")[2].partition("```yaml\n")[2].partition("```")[0]


def pixels() -> np.ndarray:
    return np.asarray(Image.open(PAGE).convert("RGB"))


def test_a_page(tmp_path: Path):
    make_bundles(tmp_path)
    with running(tmp_path, "trust: {require_signatures: false}\n" + example()) as daemon:
        with daemon.client(timeout=60) as client:
            result = client.infer("page", {"picture": pixels()})
            assert unpack_texts(result["text"]) == LINES
            assert result["boxes"].shape == (5, 4, 2)
            assert (result["score"] > 0.9).all()
            upside_down = client.infer("page", {"picture": np.rot90(pixels(), 2).copy()})
            assert unpack_texts(upside_down["text"])[0] == LINES[-1]
            blank = client.infer("page", {"picture": np.full((100, 100, 3), 255, np.uint8)})
            assert len(blank["text"]) == 0
            status = client.status()
            *lines, last = client.stream("page", {"picture": pixels()})
            assert [unpack_texts(line["text"]) for line in lines] == [[text] for text in LINES]
            np.testing.assert_allclose(
                np.concatenate([line["score"] for line in lines]), result["score"], atol=1e-5
            )
            np.testing.assert_array_equal(last["boxes"], result["boxes"])
        np.save(tmp_path / "page.npy", pixels())
        done = subprocess.run(
            [sys.executable, "-m", "edged", "infer", "--socket", daemon.socket, "page",
             f"picture=@{tmp_path}/page.npy", "--timeout", "60"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout)["rows"][0]["text"] == LINES
        (line,) = [one for one in status["releases"] if one["model"] == "page"]
        steps = {step["step"]: step for step in line["steps"]}
        assert steps["rec"]["done"] == 3
        assert all(step["failed"] == 0 for step in line["steps"])


@pytest.mark.zoo
@pytest.mark.skipif(not place.OWN.is_dir(), reason="needs OpenCV: make zoo")
def test_the_package_itself_reads_so(tmp_path: Path):
    path = os.pathsep.join([str(FOLDER), str(place.OWN)])
    done = subprocess.run(
        [sys.executable, "-c", OWN, str(PAGE)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert [text for _, text, _ in found] == LINES
    make_bundles(tmp_path)
    body = "trust: {require_signatures: false}\n" + example()
    with running(tmp_path, body) as daemon, daemon.client(timeout=60) as client:
        result = client.infer("page", {"picture": pixels()})
    assert unpack_texts(result["text"]) == LINES
    # A pixel more or less, because its rectangles are rounded on the way.
    assert np.abs(result["boxes"] - np.array([box for box, _, _ in found])).max() <= 2
