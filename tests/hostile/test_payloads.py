"""Part H of the catalogue against a daemon in a process of its own, over a real broker."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edged.specs import ImageInput
from tests.bundles import make_bundle
from tests.e2e.oracle import Oracle
from tests.e2e.process import running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.fakes.pictures import png
from tests.hostile.baseline import bounded_peak, undisturbed
from tests.models import double

pytestmark = pytest.mark.broker

PIXELS = np.array([[1, 2], [3, 4]], np.uint8)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


class Planted:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path, ...]]:
        return (Path.touch, (self.path,))


def npy(path: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Planted(path)] * 3, dtype=object), allow_pickle=True)
    return out.getvalue() + b"." * 3  # and no whole number of rows to a codec of plain numbers


def jpeg_header(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


@pytest.mark.hostile(
    "H1 a JPEG of 65,500 x 65,500 by its header",
    "H2 a picture that is cut short",
    "H3 CMYK, 16 bits a channel, a turned picture by EXIF",
    "H4 an npy file with dtype object",
)
def test_every_hostile_payload(tmp_path: Path) -> None:
    """Each becomes a dead letter, no memory is taken for what a header promises, nothing is run."""
    grey = Image.fromarray(PIXELS)
    planted = tmp_path / "planted"
    wide = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8))
    cut = saved(wide, "JPEG")
    pictures = {
        "bomb": jpeg_header(65_500, 65_500),
        "png": png(65_500, 65_500, 8, 0, b""),
        "cut": cut[: len(cut) // 2],
        "closed": cut[: len(cut) // 2] + b"\xff\xd9",
        "rows": png(2, 2, 8, 0, b"\x78\x9c\x03\x00\x00\x00\x00\x01"),
        "cmyk": saved(grey.convert("CMYK"), "JPEG"),
        "deep": saved(Image.fromarray(PIXELS.astype(np.uint16) << 8), "PNG"),
        "npy": npy(planted),
    }
    work = ImageInput(width=2, height=2, mode="L", layout="flat")
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", input_processing={"x": work})
    ids = {f"{codec}{name}" for codec in ("image", "raw", "json") for name in pictures}
    with (
        Mosquitto(tmp_path) as broker,
        Oracle(broker) as oracle,
        Device(broker) as device,
        running(tmp_path, body(broker.port)) as daemon,
    ):
        wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
        device.publish("image/first", saved(grey, "PNG"))  # brings the libraries
        oracle.wait_for({"first"})
        with undisturbed(daemon), bounded_peak(daemon, 32):
            for _ in range(5):
                for name, payload in pictures.items():
                    for codec in ("image", "raw", "json"):
                        device.publish(f"{codec}/{codec}{name}", payload)
            device.publish("image/last", saved(grey, "PNG"))
            oracle.wait_for({"last", *ids})
        assert "Traceback" not in daemon.log.read_text()
    assert set(oracle.results) == {"first", "last"}
    assert set(oracle.letters) == ids
    assert not planted.exists()


def body(port: int) -> str:
    bindings = "\n".join(
        f"  - {{name: {codec}, from: '{codec}/{{id}}', to: 'out/{{id}}', model: m, codec: {codec}}}"
        for codec in ("image", "raw", "json")
    )
    return (
        f"trust: {{require_signatures: false}}\nmqtt: {{host: 127.0.0.1, port: {port}}}\n"
        f"models:\n  m: {{bundle: m-1.edgb}}\nbindings:\n{bindings}\n"
    )
