"""Kinds of files through a pipeline: the labels of the package's own code, file by file."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import py_compile
import sqlite3
import struct
import subprocess
import sys
import tarfile
import wave
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edged.manifest import TensorEntry
from edged.processing.texts import unpack_texts
from tests.bundles import make_bundle
from tests.e2e.process import running
from tests.fakes.pages import ROOT, example
from tests.zoo import place

PACKAGE = "magika==1.0.3"
FOLDER = place.find(PACKAGE)
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(FOLDER is None, reason="needs .ci/venv … zoo-half"),
]
OWN = """\
import json, pathlib, sys
from magika import Magika
own = Magika()
made = {}
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    result = own.identify_bytes(path.read_bytes())
    made[path.name] = [str(result.output.label), float(result.score)]
print(json.dumps(made))
"""
KINDS = {"png", "jpeg", "gif", "bmp", "tiff", "webp", "pdf", "zip", "gzip", "bzip", "xz", "tar", "npy", "sqlite"}  # fmt: skip
"""Some that it must tell apart; else the comparison would be of files that are all alike."""


def make_bundle_of_magika(folder: Path) -> None:
    """The package's model, and the labels of its configuration with their thresholds."""
    own = FOLDER / "magika"
    model = SimpleNamespace(
        data=(own / "models/standard_v3_3/model.onnx").read_bytes(),
        inputs=(TensorEntry("bytes", "int32", ("batch", 2048)),),
        outputs=(TensorEntry("target_label", "float32", ("batch", 214)),),
    )
    make_bundle(folder / "magika.edgb", model, name="magika", golden=False)
    config = json.loads((own / "models/standard_v3_3/config.min.json").read_text())
    known = json.loads((own / "config/content_types_kb.min.json").read_text())
    lines = []
    for label in config["target_labels_space"]:
        said = config["overwrite_map"].get(label, label)
        threshold = config["thresholds"].get(label, config["medium_confidence_threshold"])
        lines.append(f"{said}\t{threshold}\t{'txt' if known[said]['is_text'] else 'unknown'}\n")
    (folder / "labels.txt").write_text("".join(lines))


def make_files(folder: Path) -> None:
    """Files of this repository, and of many more kinds made here."""
    folder.mkdir()
    for name in (
        "README.md", "pyproject.toml", "Makefile", "LICENSE", ".ci/venv", "docs/text.md", "edged/cli.py",
        "tests/hostile/catalogue.yaml", "systemd/edged.service",
    ):  # fmt: skip
        if (path := ROOT / name).is_file():
            (folder / name.replace("/", "-")).write_bytes(path.read_bytes())
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "pdf"):
        Image.fromarray(pixels).save(folder / f"picture.{kind}", kind)
    page = (ROOT / "README.md").read_bytes()
    for ending, squeeze in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        (folder / f"a.{ending}").write_bytes(squeeze(page))
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("readme", page)
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(ROOT / "README.md", "readme")
    np.save(folder / "a.npy", pixels)
    sqlite3.connect(folder / "a.sqlite").execute("create table t (a)").connection.close()
    py_compile.compile(str(ROOT / "edged/errors.py"), str(folder / "a.pyc"))
    with wave.open(str(folder / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(pixels.tobytes()[:2000])
    (folder / "model.onnx").write_bytes(
        (FOLDER / "magika/models/standard_v3_3/model.onnx").read_bytes()
    )
    (folder / "a.json").write_text(json.dumps({"a": [1, 2, {"b": None}], "text": "x" * 50}))
    (folder / "a.csv").write_text("time,value,unit\n" + "12:00,3.5,C\n" * 20)
    (folder / "a.html").write_text("<!doctype html>\n<html><body><p>hot</p></body></html>\n" * 4)
    (folder / "a.c").write_text(
        '#include <stdio.h>\nint main(void) {\n  puts("hot");\n  return 0;\n}\n'
    )
    (folder / "python").write_bytes(Path(sys.executable).resolve().read_bytes()[: 1 << 20])
    (folder / "noise").write_bytes(np.random.default_rng(2).bytes(5000))
    (folder / "numbers").write_bytes(struct.pack("<500d", *range(500)))
    (folder / "words.txt").write_text("the pump in hall two is hot\n" * 3)
    (folder / "spaces").write_bytes(b" " * 3000 + b"import os\nprint(os.getcwd())\n" + b"\n" * 3000)
    (folder / "eight").write_bytes(b"abcdefgh")


def test_the_labels_are_those_of_the_package(tmp_path: Path):
    make_bundle_of_magika(tmp_path)
    make_files(tmp_path / "files")
    done = subprocess.run(
        [sys.executable, "-c", OWN, str(tmp_path / "files")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), str(place.OWN)])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    wanted = json.loads(done.stdout.splitlines()[-1])
    assert len(wanted) >= 30
    assert {label for label, _ in wanted.values()} > KINDS
    body = "trust: {require_signatures: false}\n" + example("text.md", "Kinds of files")
    with running(tmp_path, body) as daemon:
        found = {}
        with daemon.client(timeout=60) as client:
            for name in wanted:
                data = np.frombuffer((tmp_path / "files" / name).read_bytes(), np.uint8)
                result = client.infer("kind", {"file": data})
                found[name] = [unpack_texts(result["label"])[0], float(result["score"][0])]
            few = client.infer("kind", {"file": np.frombuffer(b"  abcde\n", np.uint8)})
        shown = subprocess.run(
            [sys.executable, "-m", "edged", "infer", "--socket", daemon.socket, "kind",
             f"file=@{tmp_path}/files/picture.png"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert {name: label for name, (label, _) in found.items()} == {
        name: label for name, (label, _) in wanted.items()
    }
    # Its own file gives a row alone and among others answers that differ by 3e-4.
    for name, (_, score) in wanted.items():
        assert found[name][1] == pytest.approx(score, abs=1e-3), name
    # Of fewer than eight bytes the package does not ask the model either.
    assert unpack_texts(few["label"]) == [""]
    assert json.loads(shown.stdout)["rows"][0]["label"] == "png"
