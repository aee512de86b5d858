"""What a recipe calibrates on, from a path to the bundle's word on it; and each refusal's status."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from converters import convert
from converters.cli import main
from converters.precision.opening import open_rows
from converters.recipe import make_recipe
from converters.sources.base import SourceResult
from edged.manifest import TensorEntry
from edged.processing.image import ImageCodec
from edged.specs import ImageInput
from tests.converters.precision.conftest import make_pictures

TABLE = TensorEntry("x", "float32", ("batch", 2))
WORDS = "8x8,mode=L,scale=0.03,mean=4"
WORK = ImageInput(8, 8, mode="L", scale=0.03, mean=(4,))


def save_pictures(folder, count=64):
    """As ``make_pictures``, in the levels of WORK."""
    for index, picture in enumerate(make_pictures(2, count)):
        place = folder / f"class-{index % 10}" / f"{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(np.round((picture[0] + 4) / 0.03), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_pictures(tmp_path_factory.mktemp("pictures") / "set")


def decoded(folder):
    codec = ImageCodec(TensorEntry("image", "float32", ("batch", 1, 8, 8)).spec(), WORK)
    files = sorted(folder.rglob("*.png"), key=lambda path: path.relative_to(folder).as_posix())
    return np.concatenate([codec.decode(file.read_bytes())["image"] for file in files])


@pytest.mark.parametrize("names", [None, ("a", "b"), ("b", "a")])
@pytest.mark.parametrize("own", [(), ("a", "b")])
def test_columns_come_in_the_frameworks_order_by_name(tmp_path, names, own):
    """Whatever order the file has, and the recipe where the framework knows better."""
    table = np.arange(30.0).reshape(10, 3)
    np.savetxt(tmp_path / "c.csv", table, delimiter=",", header="b,spare,a", comments="")
    work = {"*": {"kind": "features", "names": names}} if names else {}
    recipe = make_recipe({
        "source": "m.onnx", "name": "m", "release": 1, "samples": "s.csv", "precision": "int8",
        "calibration": str(tmp_path / "c.csv"), "input_processing": work,
    })  # fmt: skip
    converted = SimpleNamespace(result=SourceResult(input_names=("x",), columns=own))
    proven = SimpleNamespace(inputs=(TABLE,), outputs=(TABLE,))
    rows = open_rows(recipe, converted, proven, ("a", "b"))
    wanted = ("a", "b") if own or not names else names
    places = [("b", "spare", "a").index(name) for name in wanted]
    np.testing.assert_array_equal(next(rows.chunks(10))["x"], table[:, places])


def test_a_folder_is_the_same_as_what_the_daemon_makes_of_it(net, proven, folder, tmp_path):
    np.savez(tmp_path / "same.npz", image=decoded(folder))
    given = {"input_processing": {"*": {"kind": "image", "width": 8, "height": 8, "mode": "L",
                                        "scale": 0.03, "mean": [4]}}}  # fmt: skip
    first = convert(
        proven.recipe(calibration=str(folder), **given), tmp_path / "a", empty_env="off"
    )
    second = convert(
        proven.recipe(calibration=str(tmp_path / "same.npz"), **given), tmp_path / "b",
        empty_env="off",
    )  # fmt: skip
    assert [m.sha256 for m in first.manifest.members] == [m.sha256 for m in second.manifest.members]
    said = first.manifest.provenance["calibration"]
    assert (said["kind"], said["rows"], said["rows_used"], said["left_out"]) == (
        "pictures", 64, 64, 0,
    )  # fmt: skip
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.png"), key=lambda path: path.relative_to(folder).as_posix()):
        name = file.relative_to(folder).as_posix()
        digest.update(
            f"{len(name)}:{name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
        )
    assert said["sha256"] == digest.hexdigest()
    assert any("64 of 64 pictures" in check.detail for check in first.checks)


def record(path, folder):
    lines = [
        f'{{"topic":"cam/1","payload_hex":"{file.read_bytes().hex()}"}}'
        for file in sorted(folder.rglob("*.png"))
    ]
    path.write_text("\n".join([*lines, '{"topic":"else","payload":"on"}']) + "\n")
    return path


def test_a_recording_is_decoded_by_the_words_of_the_bundle(net, folder, tmp_path, capsys):
    capture = record(tmp_path / "cam.jsonl", folder)
    words = bad(net, capture, tmp_path / "out", "--image", WORDS, "--capture-topic", "cam/+")
    assert main(words) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "net.report.json").read_text())
    told = json.dumps(report)
    assert "64 rows in 64 of 64 messages, 1 on other topics" in told
    assert hashlib.sha256(capture.read_bytes()).hexdigest() in told


def bad(net, calibration, out, *more):
    out.mkdir()
    return [
        *("convert", str(net / "net.onnx"), "-o", str(out / "net.edgb"), "--name", "net"),
        *("--release", "1", "--samples", str(net / "plain.npz"), "--precision", "int8"),
        *("--max-accuracy-drop", "2%", "--empty-env", "off"),
        *("--calibration", str(calibration), *more),
    ]


def make_wrong_shape(path):
    np.savez(path / "c.npz", image=np.zeros((9, 3, 8, 8), "f4"))
    return path / "c.npz"


def make_empty(path):
    (path / "set").mkdir()
    return path / "set"


def make_texts(path):
    (path / "set").mkdir()
    (path / "set" / "a.txt").write_text("no picture")
    return path / "set"


def make_others(path):
    lines = ['{"topic":"plant/temp","payload":"{\\"celsius\\":20}"}'] * 9
    (path / "c.jsonl").write_text("\n".join(lines))
    return path / "c.jsonl"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_wrong_shape, 'input "image" expects float32[batch,1,8,8], got float32[9,3,8,8]'),
        (make_empty, "expected a folder of pictures (.png, .jpg, .jpeg), got an empty one"),
        (make_texts, "got 1 other files (a.txt)"),
        (make_others, 'they came on "plant/temp": say which topic the model gets'),
        (lambda path: path / "no.jsonl", "No such file or directory"),
    ],
)
def test_one_message_a_status_and_no_bundle(net, tmp_path, capsys, make, message):
    words = bad(net, make(tmp_path), tmp_path / "out", "--image", WORDS)
    assert main(words) == 65
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert message in errors[0]
    assert list((tmp_path / "out").iterdir()) == []
