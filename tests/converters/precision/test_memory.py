"""However large the set, a calibration holds a few of its rows at a time."""

import io
import json
import tracemalloc

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from converters.precision import ranges
from converters.precision.calibration import open_calibration
from converters.precision.capture import open_capture
from converters.precision.pictures import open_pictures
from converters.precision.ranges import measure_ranges, rows_at_once, typed
from converters.recipe import Capture
from edged.manifest import Manifest, TensorEntry
from edged.specs import ImageInput

COUNT, SIDE = 200, 128
PICTURE = TensorEntry("x", "float32", ("batch", 3, SIDE, SIDE))
WIDE = TensorEntry("x", "float32", ("batch", 500))
WORK = ImageInput(SIDE, SIDE)
ROW_BYTES = 3 * SIDE * SIDE * 4
HELD = 8 << 20
"""Of 37 MiB of rows: eight of them, as they are read, decoded and joined, and Python's own."""


def make_npz(folder):
    rows = np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIDE, SIDE)).astype("f4")
    np.savez(folder / "c.npz", x=rows)
    return lambda: open_calibration(folder / "c.npz", ("x",), (PICTURE,)), PICTURE


def make_csv(folder):
    line = ",".join(["0.123456789"] * 500) + "\n"
    (folder / "c.csv").write_text(line * 500)  # as cells in Python 18 MiB
    return lambda: open_calibration(folder / "c.csv", ("x",), (WIDE,)), WIDE


def draw():
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (7, 8, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(folder):
    for index in range(COUNT):
        (folder / f"{index}.png").write_bytes(draw())
    return lambda: open_pictures(folder, (PICTURE,), {"x": WORK}), PICTURE


def make_capture(folder):
    line = json.dumps({"topic": "cam", "payload_hex": draw().hex()}) + "\n"
    (folder / "c.jsonl").write_text(line * COUNT)
    manifest = Manifest(
        format="edged-bundle-v1", name="m", release=1, version="1", inputs=(PICTURE,),
        outputs=(PICTURE,), artefacts=(), members=(), input_processing={"x": WORK},
    )  # fmt: skip
    return lambda: open_capture(folder / "c.jsonl", manifest, Capture()), PICTURE


@pytest.mark.parametrize("make", [make_npz, make_csv, make_folder, make_capture])
def test_a_few_rows_are_held_and_not_the_set(tmp_path, make):
    opened, entry = make(tmp_path)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *entry.shape[1:]])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *entry.shape[1:]])
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    opset = [helper.make_opsetid("", 18)]
    model = typed(helper.make_model(body, opset_imports=opset, ir_version=9))
    tracemalloc.start()
    try:
        rows = opened()
        found = measure_ranges(model, rows.chunks, most=rows_at_once(rows.row_bytes))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found["x"].high > 0
    assert peak < HELD


def test_rows_that_are_large_run_one_by_one():
    assert rows_at_once(ROW_BYTES) == ranges.CHUNK_ROWS
    assert rows_at_once(ranges.CHUNK_BYTES // 3) == 3
    assert rows_at_once(ranges.CHUNK_BYTES * 2) == rows_at_once(ranges.CHUNK_BYTES) == 1
    assert rows_at_once(0) == ranges.CHUNK_ROWS
