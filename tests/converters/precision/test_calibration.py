import numpy as np
import pytest

from converters.errors import ConversionError
from converters.precision import calibration
from converters.precision.calibration import open_calibration
from edged.manifest import TensorEntry

IMAGE = TensorEntry("image", "float32", ("batch", 1, 2, 2))
TABLE = TensorEntry("x", "float32", ("batch", 2))
IDS = TensorEntry("ids", "int64", ("batch", "time"))
PICTURES = np.random.default_rng(0).normal(size=(20, 1, 2, 2)).astype("f4")


def opened(folder, entries=(IMAGE,), names=("image",), **arrays):
    np.savez(folder / "c.npz", **arrays)
    return open_calibration(folder / "c.npz", names, entries)


def test_rows_are_given_in_order_under_the_models_name_and_dtype(tmp_path):
    rows = opened(tmp_path, names=("input_1",), input_1=PICTURES.astype("f8"))
    parts = list(rows.chunks(8))
    assert [part["image"].shape[0] for part in parts] == [8, 8, 4]
    whole = np.concatenate([part["image"] for part in parts])
    assert whole.dtype == np.float32
    assert np.array_equal(whole, PICTURES)


def test_of_many_rows_an_even_part_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "MAX_ROWS", 5)
    rows = opened(tmp_path, image=PICTURES)
    assert (rows.used, rows.rows) == (5, 20)
    whole = np.concatenate([part["image"] for part in rows.chunks(3)])
    assert np.array_equal(whole, PICTURES[[0, 4, 9, 14, 19]])


def test_columns_of_a_table_are_picked_by_name_and_the_answers_left_out(tmp_path):
    table = np.arange(40.0).reshape(10, 4)
    path = tmp_path / "c.csv"
    np.savetxt(path, table, delimiter=",", header="right,b,other,a", comments="")
    rows = open_calibration(path, ("x",), (TABLE,), features=("a", "b"), truth="right")
    assert np.array_equal(next(rows.chunks(10))["x"], table[:, [3, 1]].astype("f4"))
    with pytest.raises(ConversionError, match=r"float32\[batch,2\], got float64\[10,3\]"):
        open_calibration(path, ("x",), (TABLE,), truth="right")
    with pytest.raises(ConversionError, match="no column c"):
        open_calibration(path, ("x",), (TABLE,), features=("a", "c"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            PICTURES[:, 0],
            r'input "image" expects float32\[batch,1,2,2\], got float32\[20,2,2\]',
        ),
        (
            np.tile(PICTURES, (1, 3, 1, 1)),
            r'input "image" expects float32\[batch,1,2,2\], got float32\[20,3,2,2\]',
        ),
        (
            (PICTURES * 40).astype("u1"),
            r'input "image" expects float32\[batch,1,2,2\], got uint8\[20,1,2,2\].*scaling',
        ),
        (PICTURES[:7], "expected at least 8 rows, got 7"),
    ],
)
def test_wrong_shape_dtype_or_number_is_refused_before_a_row_is_read(tmp_path, array, message):
    with pytest.raises(ConversionError, match=message) as caught:
        opened(tmp_path, image=array)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_is_refused_by_its_row(tmp_path, bad):
    pictures = PICTURES.copy()
    pictures[13, 0, 1, 1] = bad
    rows = opened(tmp_path, image=pictures)
    with pytest.raises(ConversionError, match=r'input "image", row 13: expected finite numbers'):
        list(rows.chunks(8))


def test_inputs_are_matched_by_name(tmp_path):
    both, names = (IMAGE, IDS), ("image", "ids")
    ids = np.arange(60).reshape(20, 3)
    part = next(opened(tmp_path, both, names, ids=ids, image=PICTURES).chunks(4))
    assert list(part) == ["image", "ids"]
    assert part["ids"].dtype == np.int64
    with pytest.raises(ConversionError, match='expected an array "ids" for that input, got image'):
        opened(tmp_path, both, names, image=PICTURES, other=ids)
    with pytest.raises(ConversionError, match=r'same number of rows, got "image" 20, "ids" 19'):
        opened(tmp_path, both, names, image=PICTURES, ids=ids[:19])
    with pytest.raises(ConversionError, match="the samples hold other values"):
        list(opened(tmp_path, both, names, image=PICTURES, ids=ids + 0.5).chunks())
