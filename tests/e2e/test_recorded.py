"""The documented recording commands, run against a real broker: what they write calibrates."""

import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters.precision.capture import open_capture
from converters.recipe import Capture
from edged.manifest import Manifest, TensorEntry
from edged.processing.image import ImageCodec
from edged.specs import FeaturesInput, ImageInput
from tests.e2e.process import wait_for
from tests.fakes.broker import Device, Mosquitto

SUB = shutil.which("mosquitto_sub")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "converting.md"
TABLE = TensorEntry("x", "float32", ("batch", 2))
PICTURE = TensorEntry("x", "float32", ("batch", 1, 4, 5))
WORK = ImageInput(5, 4, mode="L", scale=0.5)


def documented(name: str) -> list[str]:
    """The words of the command that writes that file."""
    (line,) = re.findall(
        rf"^\$ (mosquitto_sub .*) > {re.escape(name)}$", PAGE.read_text(), re.MULTILINE
    )
    return shlex.split(line)


def record(broker, path: Path, name: str, messages: list[tuple[str, bytes]]) -> None:
    words = documented(name)
    words[words.index("-h") + 1] = "127.0.0.1"
    assert SUB is not None
    command = [SUB, *words[1:], "-p", str(broker.port), "-C", str(len(messages)), "-W", "60"]
    topics = words[words.index("-t") + 1]
    with path.open("wb") as file, subprocess.Popen(command, stdout=file) as process:
        wait_for(lambda: topics in broker.log.read_text() or process.poll() is not None)
        with Device(broker) as device:
            for topic, payload in messages:
                device.publish(topic, payload)
        assert process.wait(timeout=60) == 0


def manifest(entry, work):
    return Manifest(
        format="edged-bundle-v1", name="m", release=1, version="1", inputs=(entry,),
        outputs=(entry,), artefacts=(), members=(), input_processing={"x": work},
    )  # fmt: skip


@pytest.mark.skipif(SUB is None, reason="mosquitto_sub is not installed (mosquitto-clients)")
def test_rows_and_pictures(tmp_path):
    table = np.array([[index, index / 8] for index in range(9)], "f4")
    rows = [f'{{"b": {b}, "ä": {a}, "wo\\u0072d": "x"}}'.encode() for a, b in table]
    pictures = []
    for pixels in np.random.default_rng(0).integers(0, 256, (9, 4, 5), dtype=np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    with Mosquitto(tmp_path, "log_type subscribe") as broker:
        record(broker, tmp_path / "a.jsonl", "vibration.jsonl",
               [("plant/7/vib", row) for row in rows])  # fmt: skip
        record(broker, tmp_path / "b.jsonl", "pictures.jsonl",
               [("cam/1", picture) for picture in pictures])  # fmt: skip
    columns = manifest(TABLE, FeaturesInput(("ä", "b")))
    found = open_capture(tmp_path / "a.jsonl", columns, Capture(topic="plant/{press}/vib"))
    np.testing.assert_array_equal(np.concatenate([c["x"] for c in found.chunks(4)]), table)
    found = open_capture(tmp_path / "b.jsonl", manifest(PICTURE, WORK), Capture())
    codec = ImageCodec(PICTURE.spec(), WORK)
    expected = np.concatenate([codec.decode(picture)["x"] for picture in pictures])
    np.testing.assert_array_equal(np.concatenate([c["x"] for c in found.chunks(4)]), expected)
