"""Package to bundle to ONNX Runtime: the numbers of the packages' own code, for every model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edged.manifest import Manifest
from edged.store.bundle import read_manifest
from tests.e2e.process import running
from tests.zoo import place
from tests.zoo.entries import ENTRIES, Entry
from tests.zoo.pictures import picture

RELATIVE = 1e-5
"""Largest difference, relative to the largest value of the same output, in float32."""
MAX_CALLS = 6
"""Calls of one model that are compared: the own code of a reader makes one for every word."""
ROOT = Path(__file__).parents[2]


def marks(entry: Entry) -> list[pytest.MarkDecorator]:
    """CI's half runs among the rest; the others wait for ``make zoo``."""
    missing = place.find(entry.package) is None
    found = [pytest.mark.zoo, pytest.mark.timeout(900)]
    if entry.half:
        found.append(pytest.mark.frameworks)
    return [*found, pytest.mark.skipif(missing, reason=f"{entry.package} is not here: make zoo")]


NEED_TORCH = {"silero", "resemblyzer", "crepe", "minilm"}
PARAMETERS = [pytest.param(entry, id=entry.name, marks=marks(entry)) for entry in ENTRIES]
Calls = list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]


def path_of(entry: Entry) -> Path:
    folder = place.find(entry.package)
    assert folder is not None
    return folder / entry.file


class Recorder:
    """What the packages' own code asked of the models and got, run once a package."""

    def __init__(self, make_folder) -> None:
        self.make_folder = make_folder
        self.folders: dict[str, Path] = {}

    def run(self, own: str) -> Path:
        if own in NEED_TORCH:
            pytest.importorskip("torch")
        if own not in self.folders:
            folder = self.folders[own] = self.make_folder(own)
            command = [sys.executable, "-m", "tests.zoo.own", own, str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{own}: {done.stderr[-2000:]}"
        return self.folders[own]

    def calls(self, entry: Entry) -> Calls:
        # In CI's half OpenCV is not installed; the file itself is the reference there.
        if entry.own and (place.OWN.is_dir() or not entry.own.startswith("ocr")):
            return read_calls(self.run(entry.own) / f"{Path(entry.file).name}.npz")
        return made_up(entry)

    def source(self, entry: Entry) -> str:
        if entry.source == "pt2":
            return str(self.run(entry.own) / f"{Path(entry.file).name}.pt2")
        return entry.source or str(path_of(entry))


@pytest.fixture(scope="session")
def recorder(tmp_path_factory):
    return Recorder(tmp_path_factory.mktemp)


def read_calls(path: Path) -> Calls:
    found: dict[int, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, side, name = key.split(".", 2)
            found.setdefault(int(number), ({}, {}))[side == "out"][name] = arrays[key]
    return list(found.values())[:MAX_CALLS]


def made_up(entry: Entry) -> Calls:
    """Three calls of pictures or noise, answered by ONNX Runtime on the file as it came."""
    session = onnxruntime.InferenceSession(path_of(entry), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    random = np.random.default_rng(3)
    calls = []
    for _ in range(3):
        inputs = {}
        for name, words in entry.shapes:
            dtype, _, shape = words.partition(":")
            if shape.startswith("="):
                inputs[name] = np.array(int(shape[1:]), dtype)
            else:
                sizes = [int(size) for size in shape.split(",")]
                noise = random.uniform(-1, 1, sizes)
                if len(sizes) == 4 and sizes[1] == 3:
                    noise = 0.1 * noise + [picture(*sizes[2:], row) for row in range(sizes[0])]
                inputs[name] = noise.astype(dtype)
        calls.append((inputs, dict(zip(names, session.run(names, inputs), strict=True))))
    return calls


def samples_of(entry: Entry, calls: Calls) -> dict[str, np.ndarray]:
    """One call, or rows of the calls that have the shape of the first, cut to the entry's shapes.

    A page that the package's own code made two thousand pixels wide is proven on a part of it; the
    comparison itself takes the calls whole.
    """
    first = calls[0][0]
    if "none" in entry.flags:
        return first
    alike = [
        inputs
        for inputs, _ in calls
        if all(inputs[name].shape[1:] == array.shape[1:] for name, array in first.items())
    ]
    joined = {name: np.concatenate([inputs[name] for inputs in alike])[:16] for name in first}
    for name, words in entry.shapes:
        sizes = [int(size) for size in words.partition(":")[2].split(",")]
        joined[name] = cut(joined[name], sizes)
    if len(next(iter(joined.values()))) == 1:  # one row proves nothing: its mirror is the second
        joined = {name: np.concatenate([array, array[..., ::-1]]) for name, array in joined.items()}
    return joined


def cut(array: np.ndarray, sizes: list[int]) -> np.ndarray:
    """All rows of a part of the other axes, from the second third on: margins are blank."""
    part = [slice(None)]
    for have, want in zip(array.shape[1:], sizes[1:], strict=True):
        start = max(0, have - want) // 3
        part.append(slice(start, start + want))
    return np.ascontiguousarray(array[tuple(part)])


def convert(entry: Entry, source: str, calls: Calls, folder: Path) -> Path:
    """Through the command line, as a user would."""
    np.savez(folder / "samples.npz", **samples_of(entry, calls))
    bundle = folder / "m.edgb"
    command = [sys.executable, "-m", "converters.cli", source, "-o", str(bundle), *entry.flags]
    command += ["--name", "m", "--release", "1", "--samples", str(folder / "samples.npz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return bundle


def typed(manifest: Manifest, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs as the signature has them: own code hands lists of Python's numbers over."""
    return {t.name: inputs[t.name].astype(t.dtype) for t in manifest.inputs}


def compare(expected: dict[str, np.ndarray], got: list[np.ndarray]) -> float:
    """Largest difference of any output, relative to that output's largest value."""
    worst = 0.0
    for (name, wanted), found in zip(expected.items(), got, strict=True):
        assert found.shape == wanted.shape, name
        gap = np.abs(found.astype("f8") - wanted.astype("f8")).max(initial=0)
        worst = max(worst, gap / max(np.abs(wanted).max(initial=0), 1e-9))
    return worst


def unpack(bundle: Path) -> bytes:
    import zipfile

    with zipfile.ZipFile(bundle) as archive:
        return archive.read("model.onnx")


@pytest.mark.parametrize("entry", PARAMETERS)
def test_the_bundle_gives_the_packages_numbers(entry, recorder, tmp_path, record_property):
    calls = recorder.calls(entry)
    bundle = convert(entry, recorder.source(entry), calls, tmp_path)
    _, manifest, _ = read_manifest(bundle)
    session = onnxruntime.InferenceSession(unpack(bundle), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in manifest.outputs]
    worst = 0.0
    for inputs, outputs in calls:
        feed = {tensor.name: inputs[tensor.name].astype(tensor.dtype) for tensor in manifest.inputs}
        worst = max(worst, compare(outputs, session.run(names, feed)))
    record_property("worst", float(worst))  # xdist carries no NumPy numbers
    print(f"{entry.name}: {len(calls)} calls, worst {worst:.1e} relative")
    assert worst <= RELATIVE


SERVED = [
    parameter
    for parameter, entry in zip(PARAMETERS, ENTRIES, strict=True)
    if entry.file.endswith(
        ("silero_vad_half.onnx", "standard_v3_3/model.onnx", "OCRv4_rec_infer.onnx")
    )
]


@pytest.mark.parametrize("entry", SERVED)
def test_the_daemon_gives_them_too(entry, recorder, tmp_path):
    calls = recorder.calls(entry)
    _, manifest, _ = read_manifest(convert(entry, recorder.source(entry), calls, tmp_path))
    body = "trust: {require_signatures: false}\nmodels:\n  m: {bundle: m.edgb}\n"
    with running(tmp_path, body) as daemon, daemon.client() as client:
        for inputs, outputs in calls[:3]:
            answer = client.infer("m", typed(manifest, inputs))
            assert compare(outputs, [answer[name] for name in outputs]) <= RELATIVE


REFUSED = [
    ("guesslang==2.2.1", "guesslang/data/model"),
    ("@vladmandic/face-api@1.7.15", "model/tiny_face_detector_model.bin"),
    ("nsfwjs@4.3.0", "dist/models/mobilenet_v2/group1-shard1of1.min.js"),
]
"""Text inputs, and weights of TensorFlow.js: no bundle, and a sentence that says so."""


@pytest.mark.zoo
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("package", "file"), REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(package, file, tmp_path):
    folder = place.find(package)
    if folder is None:
        pytest.skip(f"{package} is not here: make zoo")
    np.save(tmp_path / "samples.npy", np.zeros((4, 4), "f4"))
    command = [sys.executable, "-m", "converters.cli", str(folder / file), "-o"]
    command += [str(tmp_path / "m.edgb"), "--name", "m", "--release", "1", "--trust"]
    command += ["--samples", str(tmp_path / "samples.npy")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 65, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "m.edgb").exists()
