"""Files come in as they are, over MQTT too: a JPEG becomes boxes in its pixels, a WAV numbers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import scipy.io.wavfile
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edged.manifest import TensorEntry
from edged.pipelines.picture import resize
from tests import models
from tests.bundles import make_bundle
from tests.e2e.process import running, wait_for
from tests.fakes.broker import Device, Mosquitto

GREEN, RED = 3, 7
CLASSES, SIDE, STRIDES = 80, 640, (8, 16, 32)


def yolo() -> SimpleNamespace:
    """A detector of squares, 32 pixels each, red or green; laid out as YOLO's output is."""
    entries = (
        (TensorEntry("images", "float32", (1, 3, SIDE, SIDE)),),
        (TensorEntry("output0", "float32", (1, 4 + CLASSES, 8400)),),
    )
    colours = np.zeros((CLASSES, 3, 1, 1), np.float32)
    colours[RED, :, 0, 0] = [20, -20, -20]
    colours[GREEN, :, 0, 0] = [-20, 20, -20]
    boxes = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: SIDE // stride, : SIDE // stride]
        sizes = np.full(rows.size, stride)
        boxes.append(
            np.stack([*((axis.ravel() + 0.5) * stride for axis in (columns, rows)), sizes, sizes])
        )
    weights = {
        "colours": colours,
        "bias": np.full(CLASSES, -10, np.float32),
        "coarse": np.array([1, CLASSES, 400]),
        "fine": np.array([1, CLASSES, 8000]),
        "boxes": np.concatenate(boxes, axis=1)[np.newaxis].astype(np.float32),
    }
    nodes = [
        helper.make_node(
            "AveragePool", ["images"], ["cells"], kernel_shape=[32, 32], strides=[32, 32]
        ),
        helper.make_node("Conv", ["cells", "colours", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["map"]),
        helper.make_node("Reshape", ["map", "coarse"], ["last"]),
        helper.make_node("ConstantOfShape", ["fine"], ["others"]),
        helper.make_node("Concat", ["others", "last"], ["scores"], axis=2),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "yolo", *([models.value_info(entry) for entry in side] for side in entries),
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    opset = [helper.make_opsetid("", models.OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=models.IR)
    onnx.checker.check_model(model)
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    return SimpleNamespace(data=model.SerializeToString(), inputs=entries[0], outputs=entries[1])


def example(heading: str) -> str:
    page = (Path(__file__).parents[2] / "docs/pipelines.md").read_text()
    text = page.partition(f"## {heading}\n")[2].partition("```yaml\npipelines:\n")[2]
    return text.partition("```")[0]


TWO_SQUARES = [[48, 106, 64, 122], [208, 42, 224, 58]]
"""In a picture of 320 x 180; twice as large and 140 rows lower in the square that the model sees."""
LOUD = """\
  loud:
    inputs: {file: "uint8[bytes]"}
    steps:
    - {name: heard, audio: {from: file, rate: 16000}}
    - {name: cut, windows: {from: heard, size: 4, step: 2000}}
    - {name: twice, model: twice, inputs: cut}
    outputs: {rows: twice}
  shown:
    inputs: {file: "uint8[bytes]"}
    steps:
    - {name: pixels, picture: {from: file}}
    - {name: tiny, image: {from: pixels, resize: stretch, width: 2, height: 2}}
    - {name: red, reshape: {from: tiny, shape: [3, 4]}}
    - {name: twice, model: twice, inputs: red}
    outputs: {rows: twice}
"""
BODY = """\
trust: {require_signatures: false}
models:
  yolo: {bundle: yolo.edgb}
  twice: {bundle: twice.edgb}
pipelines:
"""


def photo() -> np.ndarray:
    pixels = np.full((180, 320, 3), 20, np.uint8)
    for (x0, y0, x1, y1), colour in zip(TWO_SQUARES, ([250, 10, 10], [10, 250, 10]), strict=True):
        pixels[y0:y1, x0:x1] = colour
    return pixels


def jpeg() -> bytes:
    data = io.BytesIO()
    Image.fromarray(photo()).save(data, "JPEG", quality=95)
    return data.getvalue()


def test_over_mqtt_and_from_the_shell(tmp_path: Path):
    make_bundle(tmp_path / "yolo.edgb", yolo(), name="yolo", golden=False)
    make_bundle(tmp_path / "twice.edgb", models.double(), name="twice")
    with Mosquitto(tmp_path) as broker:
        body = BODY + example("A detector") + LOUD
        body += f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\nbindings:\n"
        body += "- {name: see, from: in/see, to: out, model: things, codec: image}\n"
        body += "- {name: hear, from: in/hear, to: out, model: loud, codec: raw}\n"
        with running(tmp_path, body) as daemon:
            wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
            with Device(broker, "out", "edged/+/error/+") as device:
                device.publish("in/see", jpeg())
                check_things(json.loads(device.one().payload))
                device.publish("in/hear", sound())
                check_sound(json.loads(device.one().payload)["rows"])
                device.publish("in/hear", sound()[:-1])
                assert "the WAV file is cut short" in device.one().payload.decode()
                device.publish("in/see", jpeg()[:-100])
                assert "the JPEG is cut short" in device.one().payload.decode()
            check_shell(tmp_path, daemon.socket)
            with daemon.client() as client:
                check_things(dict(client.infer("things", {"photo": photo()})))


def check_things(answer: dict) -> None:
    found = sorted(zip(answer["classes"], map(list, answer["boxes"]), strict=True))
    assert [name for name, _ in found] == [GREEN, RED]
    assert [box for _, box in found] == TWO_SQUARES[::-1]
    assert min(answer["scores"]) > 0.99


def sound() -> bytes:
    data = io.BytesIO()
    scipy.io.wavfile.write(data, 16000, np.arange(6000, dtype=np.int16))
    return data.getvalue()


def check_sound(rows: list) -> None:
    wanted = [[(start + i) / 32768 * 2 for i in range(4)] for start in (0, 2000, 4000)]
    np.testing.assert_allclose(rows, wanted, atol=1e-6)


def check_shell(folder: Path, socket: str) -> None:
    for name, data in (("a.jpg", jpeg()), ("a.wav", sound())):
        (folder / name).write_bytes(data)

    def infer(model: str, word: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "edged", "infer", "--socket", socket, model, word],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    check_things(infer("things", f"@{folder}/a.jpg")["outputs"])
    check_sound(infer("loud", f"file=@{folder}/a.wav")["outputs"]["rows"])
    wanted = 2 * resize(photo(), 2, 2).transpose(2, 0, 1).reshape(3, 4).astype(float)
    shown = infer("shown", f"@{folder}/a.jpg")["outputs"]["rows"]
    np.testing.assert_allclose(shown, wanted, atol=10)  # what a JPEG leaves
