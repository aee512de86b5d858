"""Pictures of a folder: which, in which order, and prepared by the daemon's own decoder."""

import io

import numpy as np
import pytest
from PIL import Image

from converters.errors import ConversionError
from converters.precision import pictures as module
from converters.precision.pictures import open_pictures
from edged.manifest import Manifest, TensorEntry
from edged.processing.codecs import build_codec
from edged.specs import ImageInput

ENTRY = TensorEntry("image", "float32", ("batch", 3, 6, 8))
WORK = ImageInput(8, 6, resize="stretch", scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def draw(path, seed, size=(8, 6), kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    path.write_bytes(buffer.getvalue())


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures in the sub-folders of two classes; those of the second are larger JPEGs."""
    for index in range(6):
        draw(tmp_path / "set" / "cat" / f"{index}.png", index)
        draw(tmp_path / "set" / "dog" / f"{index}.JPG", 6 + index, (20, 9), "JPEG")
    return tmp_path / "set"


def opened(folder, entry=ENTRY, work=WORK):
    return open_pictures(folder, (entry,), {entry.name: work})


def whole(rows, at_a_time=5):
    return np.concatenate([part["image"] for part in rows.chunks(at_a_time)])


def test_each_is_what_the_daemon_makes_of_it(folder):
    (folder / "notes.txt").write_text("which camera")
    (folder / ".DS_Store").write_bytes(b"x")
    rows = opened(folder)
    manifest = Manifest(
        format="edged-bundle-v1", name="m", release=1, version="1", inputs=(ENTRY,), outputs=(ENTRY,),
        artefacts=(), members=(), input_processing={"image": WORK},
    )  # fmt: skip
    codec = build_codec("image", manifest, input_name=None, fields=())
    files = [*sorted(folder.glob("cat/*.png")), *sorted(folder.glob("dog/*.JPG"))]
    expected = np.concatenate([codec.decode(file.read_bytes())["image"] for file in files])
    np.testing.assert_array_equal(whole(rows), expected)
    assert [len(part["image"]) for part in rows.chunks(5)] == [5, 5, 2]
    assert rows.told() == '12 of 12 pictures, 1 other files not looked at ("notes.txt" first)'
    assert rows.facts() == {"kind": "pictures", "rows": 12, "rows_used": 12, "left_out": 0}
    assert rows.row_bytes == expected[0].nbytes


def test_of_many_an_even_part_is_decoded(folder, monkeypatch):
    everything = whole(opened(folder))
    monkeypatch.setattr(module, "MAX_ROWS", 9)
    rows = opened(folder)
    asked = [0, 1, 2, 4, 5, 6, 8, 9, 11]
    np.testing.assert_array_equal(whole(rows), everything[asked])
    assert rows.told() == "9 of 12 pictures"


def test_a_broken_one_is_left_out_and_named(folder):
    data = (folder / "cat" / "3.png").read_bytes()
    (folder / "cat" / "3.png").write_bytes(data[:90])
    rows = opened(folder)
    assert len(whole(rows)) == 11
    assert 'left out ("cat/3.png": the PNG is cut short: it has no end chunk)' in rows.told()
    assert rows.facts()["left_out"] == 1
    assert len(whole(rows)) == 11, "a second pass counts it once"
    (folder / "dog" / "1.JPG").write_text("text")
    with pytest.raises(ConversionError, match=r'over a tenth of the 12 pictures .* "cat/3.png"'):
        whole(opened(folder))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"expected a folder of pictures \(\.png, \.jpg, \.jpeg\), got an empty one"),
        (["a.txt", "b/c.gif"], r"got 2 other files \(a.txt, b/c.gif\)"),
    ],
)
def test_a_folder_without_pictures_is_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no picture")
    with pytest.raises(ConversionError, match=message):
        opened(tmp_path)


def test_text_called_pictures_is_refused_by_the_first(tmp_path):
    for index in range(9):
        (tmp_path / f"{index}.png").write_text("no picture")
    with pytest.raises(
        ConversionError, match=r'the first, "0.png": expected a PNG or JPEG picture'
    ):
        whole(opened(tmp_path))


def test_too_few_are_refused(folder):
    for index in range(6):
        (folder / "cat" / f"{index}.png").unlink()
    with pytest.raises(ConversionError, match="expected at least 8 rows, got 6 of 6 pictures"):
        whole(opened(folder))


def test_another_size_where_none_is_made_is_refused(folder):
    exact = ImageInput(8, 6)
    with pytest.raises(ConversionError, match="picture of 20x9; the model takes 8x6 exactly"):
        whole(opened(folder, work=exact))


def test_what_the_daemon_could_not_decode_either_is_refused(folder):
    with pytest.raises(ConversionError, match=r"nothing says how a picture becomes input.*--image"):
        open_pictures(folder, (ENTRY,), {})
    with pytest.raises(ConversionError, match=r"layout NCHW is \[1, 3, 4, 4\]; input"):
        opened(folder, work=ImageInput(4, 4))
    with pytest.raises(ConversionError, match=r"fills one input, and the model has 2 \(image, b\)"):
        open_pictures(folder, (ENTRY, TensorEntry("b", "float32", ("batch",))), {"image": WORK})
